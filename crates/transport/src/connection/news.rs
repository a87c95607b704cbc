//! Decides which news of peers is logged at the usual level: that a peer is gone, that it is back,
//! and what keeps it out. Each is logged once, because a dialer retries forever.

use quinn::{Connection, ConnectionError, VarInt};
use quorate_types::NodeId;

use crate::connection::closing::{CODE_REPLACED, CODE_STOPPED, code_of_peer, is_of_tls};
use crate::hello::PeerHello;
use crate::peer::Peer;

/// What a failed connection attempt shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// The cause of the failure.
    Cause,
    /// No answer: this is no news if the peer is known to be gone.
    Silence,
    /// The other side gave up the attempt: it is stopping, has just started, or this node was too
    /// slow. The next attempt shows more.
    GivenUp,
}

impl Tells {
    pub(crate) fn of(error: &ConnectionError) -> Tells {
        match error {
            ConnectionError::TimedOut => Tells::Silence,
            ConnectionError::ConnectionClosed(close) if !is_of_tls(close) => Tells::GivenUp,
            ConnectionError::ApplicationClosed(close) if is_orderly(close.error_code) => {
                Tells::GivenUp
            }
            ConnectionError::Reset | ConnectionError::LocallyClosed => Tells::GivenUp,
            _ => Tells::Cause,
        }
    }

    /// Whether an attempt with this outcome is worth a line. `peer` is the other side, if known;
    /// `is_new`: the attempt before ended differently.
    pub(crate) fn is_news(self, peer: Option<&Peer>, is_new: bool) -> bool {
        match self {
            Tells::Cause => is_new,
            // There is nothing to report about a peer that has not named itself.
            Tells::Silence => is_new && peer.is_some_and(|peer| !peer.is_missed()),
            Tells::GivenUp => false,
        }
    }
}

/// Whether `code` means that the peer ended the connection without finding anything wrong.
fn is_orderly(code: VarInt) -> bool {
    code == CODE_STOPPED || code == CODE_REPLACED
}

/// Logs that a connection to `peer` is established.
pub(crate) fn tell_connected(own: NodeId, peer: &Peer, hello: &PeerHello) {
    let (store, incarnation) = (hello.instance.store, hello.instance.incarnation);
    if peer.set_missed(false) {
        tracing::warn!(%own, peer = %peer.node, %incarnation, "the peer is back");
    } else {
        tracing::info!(%own, peer = %peer.node, %store, %incarnation, "peer connected");
    }
}

/// Logs that the connection to `peer` has ended, for `reason`. A peer that says goodbye is not
/// missed, and one with a newer connection is not gone.
pub(crate) fn tell_disconnected(
    own: NodeId,
    peer: &Peer,
    connection: &Connection,
    reason: &str,
    is_ours: bool,
) {
    if is_ours || code_of_peer(connection).is_some_and(is_orderly) {
        tracing::info!(%own, peer = %peer.node, reason, "peer disconnected");
    } else {
        peer.set_missed(true);
        tracing::warn!(%own, peer = %peer.node, reason, "the peer is gone");
    }
}

#[cfg(test)]
mod tests {
    use quinn::TransportErrorCode;

    use super::*;

    /// Goal: only what tells a cause is told, once; silence only of a peer that is not known to be
    /// gone; an attempt that was given up never, and not as if certificates were wrong.
    #[test]
    fn what_is_worth_a_line() {
        let closed = |code| {
            let close =
                quinn::ConnectionClose { error_code: code, frame_type: None, reason: "".into() };
            Tells::of(&ConnectionError::ConnectionClosed(close))
        };
        assert_eq!(closed(TransportErrorCode::APPLICATION_ERROR), Tells::GivenUp);
        assert_eq!(closed(TransportErrorCode::CONNECTION_REFUSED), Tells::GivenUp);
        assert_eq!(closed(TransportErrorCode::crypto(42)), Tells::Cause);
        assert_eq!(Tells::of(&ConnectionError::TimedOut), Tells::Silence);

        let peer = Peer::new(NodeId(2), &std::sync::Arc::default());
        for (tells, peer, is_new, expected) in [
            (Tells::Cause, None, true, true),
            (Tells::Cause, Some(&peer), true, true),
            (Tells::Cause, Some(&peer), false, false),
            (Tells::Silence, None, true, false),
            (Tells::Silence, Some(&peer), true, true),
            (Tells::Silence, Some(&peer), false, false),
            (Tells::GivenUp, Some(&peer), true, false),
        ] {
            assert_eq!(tells.is_news(peer, is_new), expected, "{tells:?} {is_new}");
        }
        assert!(!peer.set_missed(true) && peer.set_missed(true), "what it was before");
        assert!(!Tells::Silence.is_news(Some(&peer), true), "it is known to be gone");
        assert!(Tells::Cause.is_news(Some(&peer), true), "why it can't come back is news");
    }
}
