//! Requests that this node has sent to others and that wait for their answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_transport::{Forward, ForwardKind, Transport};
use quorate_types::{NodeId, limits};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::call::Outcome;
use crate::forward::{self, Request};

type Waiting = FxHashMap<u64, oneshot::Sender<Outcome>>;

/// Why a request was not sent. It did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The peer is not connected.
    Unreachable,
    /// Too many requests wait for this peer.
    Full,
}

/// See the module's documentation.
pub(crate) struct Forwarder {
    next_id: AtomicU64,
    waiting: BTreeMap<NodeId, Mutex<Waiting>>,
}

impl Forwarder {
    /// Knows these peers, for ever.
    pub(crate) fn new(peers: impl IntoIterator<Item = NodeId>) -> Forwarder {
        let waiting = peers.into_iter().map(|peer| (peer, Mutex::default())).collect();
        Forwarder { next_id: AtomicU64::new(1), waiting }
    }

    /// Sends `request` to `peer`. Once sent, the answer always comes: the peer's own, or that the
    /// connection was lost.
    pub(crate) fn send(
        &self,
        transport: &Transport,
        peer: NodeId,
        request: &Request,
    ) -> Result<oneshot::Receiver<Outcome>, NotSent> {
        let waiting = self.waiting.get(&peer).ok_or(NotSent::Unreachable)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            // Registered before it is sent: the answer may be faster than this thread.
            let mut waiting = waiting.lock();
            if waiting.len() >= limits::FORWARDS_PENDING_MAX {
                return Err(NotSent::Full);
            }
            waiting.insert(id, sender);
        }
        let payload = forward::encode_request(request);
        let forwards = vec![Forward { id, kind: ForwardKind::Request, payload }];
        match transport.send_forwards(peer, forwards) {
            Ok(()) => Ok(receiver),
            Err((error, _)) => {
                waiting.lock().remove(&id);
                match error {
                    quorate_transport::SendError::Full => Err(NotSent::Full),
                    _ => Err(NotSent::Unreachable),
                }
            }
        }
    }

    /// Hands `peer`'s answer to whoever waits for it.
    pub(crate) fn complete(&self, peer: NodeId, id: u64, payload: &Bytes) {
        let Some(sender) = self.waiting.get(&peer).and_then(|all| all.lock().remove(&id)) else {
            tracing::debug!(%peer, id, "answer to a request that nobody waits for");
            return;
        };
        let outcome = forward::decode_outcome(payload).unwrap_or_else(|error| {
            tracing::warn!(%peer, %error, "answer can't be read");
            Outcome::UnknownConnectionLost { node: peer }
        });
        drop(sender.send(outcome));
    }

    /// The connection to `peer` broke: nobody knows how far its requests came.
    pub(crate) fn fail_all(&self, peer: NodeId) {
        let Some(waiting) = self.waiting.get(&peer) else {
            return;
        };
        for (_, sender) in std::mem::take(&mut *waiting.lock()) {
            drop(sender.send(Outcome::UnknownConnectionLost { node: peer }));
        }
    }
}
