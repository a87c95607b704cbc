//! The interface that a transport delivers to and asks for decisions.

use bytes::Bytes;
use quorate_types::{Incarnation, NodeId};

use crate::frame::{Forward, ShardMessage};
use crate::hello::PeerHello;
use crate::hello::handshake_error::Rejection;

/// Takes what the transport delivers, and answers its questions. Unless a method says otherwise, it
/// is called on QUIC threads, several at once: an implementation hands over to its own threads and
/// must not block.
pub trait Receiver: Send + Sync + 'static {
    /// The newest start of `peer`'s directory that this node has met: the peer has to prove that it
    /// descends from it.
    fn remembered(&self, peer: NodeId) -> Option<Incarnation> {
        let _unused = peer;
        None
    }

    /// The nonce that this node's process drew at `start`, as its directory has it. May block.
    ///
    /// # Errors
    /// Why the peer can't be answered now.
    fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, Rejection> {
        let _unused = start;
        Ok(None)
    }

    /// Whether this peer may talk to us. Its node and cluster are proven; its instance, descent and
    /// clock are only claimed. May block.
    ///
    /// # Errors
    /// The reason of the refusal, which is sent to the peer, and which both sides log.
    fn admit(&self, hello: &PeerHello) -> Result<(), Rejection>;

    /// Messages in the order of their lane.
    fn handle_messages(&self, from: NodeId, messages: Vec<ShardMessage>);

    /// Requests to answer, and responses.
    fn handle_forwards(&self, from: NodeId, forwards: Vec<Forward>);

    /// Parts of snapshot transfers, and answers to such, in the order of their lane. May block: only
    /// this lane of this peer waits, and the peer sends no more than the lane may hold until this
    /// returns. So this must not wait for room in the lane to that peer: both could do so.
    fn handle_snapshot_parts(&self, from: NodeId, parts: Vec<Bytes>) {
        let _unused = (from, parts);
    }

    /// A connection is established. Between this and [`Receiver::handle_disconnected`] there is no
    /// other of the same peer. May block, and holds up this peer only.
    fn handle_connected(&self, peer: &PeerHello);

    /// The connection is gone, and with it what was queued: the outcome of every forward that was
    /// sent and is not answered is unknown.
    fn handle_disconnected(&self, peer: NodeId, reason: &str);

    /// A datagram of [`Transport::send_datagram`](crate::Transport::send_datagram); any may be lost, doubled or late.
    fn handle_datagram(&self, from: NodeId, datagram: Bytes) {
        let _unused = (from, datagram);
    }

    /// A connection was not established. `peer` is the node that was dialed or that named itself;
    /// `None` if an incoming connection failed before that.
    fn handle_refused(&self, peer: Option<NodeId>, reason: &str) {
        let _unused = (peer, reason);
    }

    /// As [`Receiver::handle_refused`], and `peer` says that this node is not the one whose name
    /// it bears ([`Rejection::IdentityRejected`]).
    fn handle_identity_rejected(&self, peer: NodeId, reason: &str) {
        self.handle_refused(Some(peer), reason);
    }

    /// As [`Receiver::handle_identity_rejected`], and `peer` has the proof ([`Rejection::Forked`]).
    fn handle_forked(&self, peer: NodeId, reason: &str) {
        self.handle_identity_rejected(peer, reason);
    }

    /// A task of the transport that must not end has ended: it panicked, or the socket failed. Its
    /// work is no longer done, so an owner ends its service rather than look alive without its
    /// links. Called on the thread on which the task ran.
    fn handle_task_died(&self, task: &str, reason: &str) {
        tracing::error!(task, reason, "a task of the transport has died");
    }
}
