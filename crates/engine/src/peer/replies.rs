//! Outcomes of calls on their way back: to local futures at once, to other nodes in batches.

use std::sync::Arc;

use bytes::Bytes;
use quorate_transport::{Forward, ForwardKind, SendError, Transport};
use quorate_types::NodeId;

use crate::calls::call::{Completion, Outcome};
use crate::calls::progress::Stage;
use crate::peer::codec;

/// Collects the replies to other nodes until [`Replies::flush`].
pub(crate) struct Replies {
    transport: Arc<Transport>,
    remote: Vec<(NodeId, Vec<Forward>)>,
}

impl Replies {
    pub(crate) fn new(transport: Arc<Transport>) -> Replies {
        Replies { transport, remote: Vec::new() }
    }

    pub(crate) fn complete(&mut self, completion: Completion, outcome: Outcome) {
        match completion {
            // The caller may have stopped waiting; that is not an error.
            Completion::Local(end) | Completion::Submitted { end, .. } => {
                drop(end.send(outcome));
            }
            Completion::Remote { peer, id, .. } => {
                self.gather(peer, id, codec::encode_outcome(&outcome));
            }
        }
    }

    /// Reports a stage before the outcome, which makes up for a stage that is lost on its way.
    pub(crate) fn tell(&mut self, completion: &Completion, stage: Stage) {
        match completion {
            Completion::Local(_) => {}
            Completion::Submitted { progress, .. } => progress.tell(stage),
            Completion::Remote { peer, id, .. } => {
                self.gather(*peer, *id, codec::encode_stage(stage));
            }
        }
    }

    fn gather(&mut self, peer: NodeId, id: u64, payload: Bytes) {
        let reply = Forward { id, kind: ForwardKind::Reply, payload };
        match self.remote.iter_mut().find(|(node, _)| *node == peer) {
            Some((_, replies)) => replies.push(reply),
            None => self.remote.push((peer, vec![reply])),
        }
    }

    /// Sends the collected replies: one hand-over per peer.
    pub(crate) fn flush(&mut self) {
        for (peer, replies) in self.remote.drain(..) {
            send_replies(&self.transport, peer, replies);
        }
    }
}

/// Sends answers to a peer. An answer that no frame can carry is replaced by one that says that it
/// is too large, so that the others are not lost with it.
pub(crate) fn send_replies(transport: &Transport, to: NodeId, replies: Vec<Forward>) {
    let Err((_, replies)) = transport.send_forwards(to, replies) else {
        return;
    };
    for Forward { id, kind, payload } in replies {
        let bytes = payload.len() as u64;
        let Err((error, _)) = transport.send_forwards(to, vec![Forward { id, kind, payload }])
        else {
            continue;
        };
        if let SendError::TooLarge { .. } = error {
            let payload = codec::encode_outcome(&Outcome::ReplyTooLarge { bytes });
            if transport.send_forwards(to, vec![Forward { id, kind, payload }]).is_ok() {
                continue;
            }
        }
        // A disconnected peer has told its callers already; an overloaded one lets them wait until
        // their deadline.
        tracing::debug!(node = %to, %error, "an answer was not sent");
    }
}
