//! Ends of calls on their way back: to futures in this process at once, to other nodes in batches.

use std::sync::Arc;

use quorate_transport::{Forward, ForwardKind, Transport};
use quorate_types::NodeId;

use crate::call::{Completion, Outcome};
use crate::forward;

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
            Completion::Local(sender) => drop(sender.send(outcome)),
            Completion::Remote { peer, id } => {
                let payload = forward::encode_outcome(&outcome);
                let reply = Forward { id, kind: ForwardKind::Reply, payload };
                match self.remote.iter_mut().find(|(node, _)| *node == peer) {
                    Some((_, replies)) => replies.push(reply),
                    None => self.remote.push((peer, vec![reply])),
                }
            }
        }
    }

    /// Sends what was gathered: one hand-over per peer.
    pub(crate) fn flush(&mut self) {
        for (peer, replies) in self.remote.drain(..) {
            // A peer that is gone has already told its callers that the outcome is unknown.
            if let Err((error, lost)) = self.transport.send_forwards(peer, replies) {
                tracing::debug!(%peer, %error, replies = lost.len(), "replies were not sent");
            }
        }
    }
}
