//! Ends of calls on their way back: to futures in this process at once, to other nodes in batches.

use std::sync::Arc;

use bytes::Bytes;
use quorate_transport::{Forward, ForwardKind, SendError, Transport};
use quorate_types::NodeId;

use crate::calls::call::{Completion, Outcome};
use crate::calls::progress::Stage;
use crate::peer::codec;

/// Gathers what goes to other nodes until [`Replies::flush`].
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
            // The caller may have stopped waiting; that is its right.
            Completion::Local(end) | Completion::Submitted { end, .. } => {
                drop(end.send(outcome));
            }
            Completion::Remote { peer, id, .. } => {
                self.gather(peer, id, codec::encode_outcome(&outcome));
            }
        }
    }

    /// Tells of a stage before the end. A stage that gets lost on its way is made good by the end.
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

    /// Sends what was gathered: one hand-over per peer.
    pub(crate) fn flush(&mut self) {
        for (peer, replies) in self.remote.drain(..) {
            send_replies(&self.transport, peer, replies);
        }
    }
}

/// Sends answers to a peer. One that no frame can carry is replaced by the word that it is too
/// large, so that it does not take the others with it.
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
        // A peer that is gone has told its callers already; one that is flooded lets them wait
        // until their deadline.
        tracing::debug!(node = %to, %error, "an answer was not sent");
    }
}
