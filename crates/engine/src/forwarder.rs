//! Requests that this node has sent to others and that wait for their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quorate_transport::{Forward, ForwardKind, Transport};
use quorate_types::{Incarnation, NodeId, limits};
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

/// Requests of one life; the incarnation fills the bits above.
const ID_BITS: u32 = 40;

/// A request under way. Dropped, it is forgotten: its answer finds nobody.
pub(crate) struct Asked {
    receiver: oneshot::Receiver<Outcome>,
    waiting: Arc<Mutex<Waiting>>,
    id: u64,
}

impl Asked {
    /// Ends with the answer, or with an error if this engine is going down.
    pub(crate) fn answer(&mut self) -> &mut oneshot::Receiver<Outcome> {
        &mut self.receiver
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// See the module's documentation.
pub(crate) struct Forwarder {
    next_id: AtomicU64,
    waiting: RwLock<BTreeMap<NodeId, Arc<Mutex<Waiting>>>>,
}

impl Forwarder {
    /// Ids begin with the incarnation: a peer may answer what an earlier life of this node asked,
    /// and that answer must not find a request of this life.
    pub(crate) fn new(incarnation: Incarnation) -> Forwarder {
        let next_id = AtomicU64::new((incarnation.0 << ID_BITS) | 1);
        Forwarder { next_id, waiting: RwLock::default() }
    }

    /// Those who wait for `peer`, if it was ever asked.
    fn waiting(&self, peer: NodeId) -> Option<Arc<Mutex<Waiting>>> {
        self.waiting.read().get(&peer).cloned()
    }

    /// Sends `request` to `peer`. Once sent, the answer always comes: the peer's own, or that the
    /// connection was lost.
    pub(crate) fn send(
        &self,
        transport: &Transport,
        peer: NodeId,
        request: &Request,
    ) -> Result<Asked, NotSent> {
        let waiting = match self.waiting(peer) {
            Some(waiting) => waiting,
            None => Arc::clone(self.waiting.write().entry(peer).or_default()),
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            // Registered before it is sent: the answer may be faster than this thread.
            let mut all = waiting.lock();
            if all.len() >= limits::FORWARDS_PENDING_MAX {
                return Err(NotSent::Full);
            }
            all.insert(id, sender);
        }
        let asked = Asked { receiver, waiting, id };
        let payload = forward::encode_request(request);
        let forwards = vec![Forward { id, kind: ForwardKind::Request, payload }];
        match transport.send_forwards(peer, forwards) {
            Ok(()) => Ok(asked),
            Err((quorate_transport::SendError::Full, _)) => Err(NotSent::Full),
            Err(_) => Err(NotSent::Unreachable),
        }
    }

    /// Hands `peer`'s answer to whoever waits for it.
    pub(crate) fn complete(&self, peer: NodeId, id: u64, payload: &Bytes) {
        let Some(sender) = self.waiting(peer).and_then(|all| all.lock().remove(&id)) else {
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
        let Some(waiting) = self.waiting(peer) else {
            return;
        };
        for (_, sender) in std::mem::take(&mut *waiting.lock()) {
            drop(sender.send(Outcome::UnknownConnectionLost { node: peer }));
        }
    }
}
