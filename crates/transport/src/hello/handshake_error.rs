//! Why a node was refused: the errors of a handshake, and the receiver's reasons against a peer.

use quorate_types::{ClusterId, NodeId};

use crate::hello::{VERSION_MAX, VERSION_MIN};

/// Why two nodes don't talk. Its text is what both sides log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not a valid hello.
    #[error("hello of {found} bytes is malformed: {what}; is another program at this address?")]
    Malformed {
        /// Bytes there.
        found: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// The two nodes have no version in common.
    #[error(
        "{peer:?} speaks protocol versions {peer_min} to {peer_max}, {own:?} speaks {VERSION_MIN} \
         to {VERSION_MAX}: upgrade the older one"
    )]
    Version {
        /// The peer.
        peer: NodeId,
        /// Its oldest.
        peer_min: u16,
        /// Its newest.
        peer_max: u16,
        /// This node.
        own: NodeId,
    },
    /// The peers were built with other limits.
    #[error("{peer:?} has {what} {found}, {own:?} has {expected}: the builds don't match")]
    Limit {
        /// The peer.
        peer: NodeId,
        /// This node.
        own: NodeId,
        /// Which limit.
        what: &'static str,
        /// The peer's.
        found: u64,
        /// This node's.
        expected: u64,
    },
    /// The peer belongs to another cluster.
    #[error("{peer:?} is of cluster {found}, {own:?} of {expected}: check the peer addresses")]
    Cluster {
        /// The peer.
        peer: NodeId,
        /// This node.
        own: NodeId,
        /// The peer's cluster.
        found: ClusterId,
        /// This node's cluster.
        expected: ClusterId,
    },
    /// The node that answered is not the one that was dialed.
    #[error("{found:?} answers where {expected:?} was expected: check the peer addresses")]
    Node {
        /// The node that answered.
        found: NodeId,
        /// The node that was dialed.
        expected: NodeId,
    },
    /// The dialer bears this node's own id.
    #[error("the dialer, too, is {own:?}: two nodes share an id")]
    OwnId {
        /// This node.
        own: NodeId,
    },
    /// The certificate is not that of the node that the hello names.
    #[error("the certificate is not that of {node:?} of cluster {cluster}: {detail}")]
    Certificate {
        /// As the hello says.
        node: NodeId,
        /// As the hello says.
        cluster: ClusterId,
        /// What the check said.
        detail: String,
    },
    /// The [`Receiver`](crate::Receiver) did not admit the peer.
    #[error("{peer:?} is not admitted by {own:?}: {rejection}")]
    NotAdmitted {
        /// The peer.
        peer: NodeId,
        /// This node.
        own: NodeId,
        /// The receiver's reason.
        rejection: Rejection,
    },
}

/// Why a [`Receiver`](crate::Receiver) does not let a peer in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It may try again: something may change.
    #[error("{0}")]
    NotNow(String),
    /// It is not the node whose name it bears, and must not try again as such (RULE 5).
    #[error("{0}")]
    IdentityRejected(String),
    /// Its directory does not descend from a start that this node has met: proof that it is a copy,
    /// which has forgotten what was promised since, or that a copy runs. It must never speak again
    /// (RULE 17).
    #[error("{0}")]
    Forked(String),
}

/// Whether the text of an ended connection is that of [`HandshakeError::NotAdmitted`]. A refusal
/// travels only as text, so the text is recognised here, beside the code that makes it.
pub(crate) fn tells_not_admitted(reason: &str) -> bool {
    reason.contains(" is not admitted by ")
}
