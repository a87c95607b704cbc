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

use crate::calls::call::Outcome;
use crate::calls::progress::ProgressSink;
use crate::peer::codec::{self, PeerReply, PeerRequest};

/// A caller that waits for the outcome of a request, and where its stages go.
struct Waiter {
    end: oneshot::Sender<Outcome>,
    progress: Option<ProgressSink>,
}

type Waiting = FxHashMap<u64, Waiter>;

/// Why a request was not sent. It did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The peer is not connected.
    Unreachable,
    /// Too many requests wait for this peer.
    Full,
}

/// Bits that number the requests of one instance; the incarnation fills the bits above.
const ID_BITS: u32 = 40;

/// A request under way. Dropping it forgets it: its answer is then ignored.
pub(crate) struct PendingRequest {
    receiver: oneshot::Receiver<Outcome>,
    waiting: Arc<Mutex<Waiting>>,
    id: u64,
}

impl PendingRequest {
    /// Completes with the answer, or with an error if this engine is shutting down.
    pub(crate) fn answer(&mut self) -> &mut oneshot::Receiver<Outcome> {
        &mut self.receiver
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

/// Sends requests to peers and hands each answer to the caller that waits for it.
pub(crate) struct Forwarder {
    next_id: AtomicU64,
    waiting: RwLock<BTreeMap<NodeId, Arc<Mutex<Waiting>>>>,
}

impl Forwarder {
    /// Ids begin with the incarnation: a peer may answer a request of an earlier instance of this node,
    /// and that answer must not match a request of this instance.
    pub(crate) fn new(incarnation: Incarnation) -> Forwarder {
        let next_id = AtomicU64::new((incarnation.0 << ID_BITS) | 1);
        Forwarder { next_id, waiting: RwLock::default() }
    }

    /// The callers that wait for `peer`, if it was ever asked.
    fn waiting(&self, peer: NodeId) -> Option<Arc<Mutex<Waiting>>> {
        self.waiting.read().get(&peer).cloned()
    }

    /// Sends `request` to `peer`. Once it is sent, an outcome always comes: the peer's own, or that
    /// the connection was lost. The stages before it go to `progress`.
    pub(crate) fn send(
        &self,
        transport: &Transport,
        peer: NodeId,
        request: &PeerRequest,
        progress: Option<ProgressSink>,
    ) -> Result<PendingRequest, NotSent> {
        // Registered before it is sent: the answer may be faster than this thread.
        let asked = self.register(peer, progress)?;
        let payload = codec::encode_request(request);
        let forwards = vec![Forward { id: asked.id, kind: ForwardKind::Request, payload }];
        match transport.send_forwards(peer, forwards) {
            Ok(()) => Ok(asked),
            Err((quorate_transport::SendError::Full, _)) => Err(NotSent::Full),
            Err(_) => Err(NotSent::Unreachable),
        }
    }

    /// Makes an id for a request to `peer`, and a place for its answer.
    fn register(
        &self,
        peer: NodeId,
        progress: Option<ProgressSink>,
    ) -> Result<PendingRequest, NotSent> {
        let waiting = match self.waiting(peer) {
            Some(waiting) => waiting,
            None => Arc::clone(self.waiting.write().entry(peer).or_default()),
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (end, receiver) = oneshot::channel();
        {
            let mut all = waiting.lock();
            if all.len() >= limits::FORWARDS_PENDING_MAX {
                return Err(NotSent::Full);
            }
            all.insert(id, Waiter { end, progress });
        }
        Ok(PendingRequest { receiver, waiting, id })
    }

    /// Hands a message of `peer` about a request to the caller that waits for it.
    pub(crate) fn handle_reply(&self, peer: NodeId, id: u64, payload: &Bytes) {
        let answer = codec::decode_reply(payload).unwrap_or_else(|error| {
            tracing::warn!(%peer, %error, "answer can't be read");
            PeerReply::End(Outcome::UnknownConnectionLost { node: peer })
        });
        let waiting = self.waiting(peer);
        let known = match answer {
            PeerReply::Stage(stage) => {
                // Reported outside of the lock: this wakes the waiting caller.
                let progress = waiting
                    .as_ref()
                    .and_then(|all| all.lock().get(&id).and_then(|waiter| waiter.progress.clone()));
                progress.map(|progress| progress.tell(stage))
            }
            PeerReply::End(outcome) => {
                let waiter = waiting.and_then(|all| all.lock().remove(&id));
                // A caller that stopped waiting just now is not an error.
                waiter.map(|waiter| drop(waiter.end.send(outcome)))
            }
        };
        if known.is_none() {
            tracing::debug!(%peer, id, "answer to a request that nobody waits for");
        }
    }

    /// The connection to `peer` broke: how far its requests came is unknown.
    pub(crate) fn fail_all(&self, peer: NodeId) {
        let Some(waiting) = self.waiting(peer) else {
            return;
        };
        for (_, waiter) in std::mem::take(&mut *waiting.lock()) {
            drop(waiter.end.send(Outcome::UnknownConnectionLost { node: peer }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::call::Applied;
    use crate::calls::progress::{Stage, WriteProgress};
    use quorate_types::{Index, LogId, Term};
    use tokio::sync::oneshot::error::TryRecvError;

    const PEER: NodeId = NodeId(2);
    const PLACE: LogId = LogId::new(Term(1), Index(9));

    fn applied() -> Outcome {
        Outcome::Applied(Applied { id: PLACE, reply: Bytes::from_static(b"ok") })
    }

    /// Goal: an answer to a request of an earlier instance of this node is ignored, although both
    /// count their requests from the same number. Method: one instance's answer given to the next.
    #[test]
    fn answers_to_an_earlier_life_find_nobody() {
        let (earlier, later) = (Forwarder::new(Incarnation(4)), Forwarder::new(Incarnation(5)));
        let ids: Vec<u64> =
            (0..3).map(|_| earlier.register(PEER, None).expect("room").id).collect();
        let mut asked: Vec<PendingRequest> =
            (0..3).map(|_| later.register(PEER, None).expect("room")).collect();
        let payload = codec::encode_outcome(&applied());
        ids.iter().for_each(|id| later.handle_reply(PEER, *id, &payload));
        for asked in &mut asked {
            assert_eq!(asked.answer().try_recv(), Err(TryRecvError::Empty));
        }
        let id = asked[1].id;
        later.handle_reply(NodeId(3), id, &payload);
        assert_eq!(asked[1].answer().try_recv(), Err(TryRecvError::Empty), "another peer's word");
        later.handle_reply(PEER, id, &payload);
        assert_eq!(asked[1].answer().try_recv(), Ok(applied()));
        assert_eq!(asked[0].answer().try_recv(), Err(TryRecvError::Empty));
    }

    /// Goal: stages don't end the wait, and reach only callers that asked for them; an answer that
    /// can't be read ends it. Method: every kind of answer to a request with and without progress.
    #[test]
    fn stages_do_not_end_the_wait() {
        let forwarder = Forwarder::new(Incarnation(1));
        let progress = Arc::new(WriteProgress::new());
        let mut with = forwarder.register(PEER, Some(progress.begin_try())).expect("room");
        let mut without = forwarder.register(PEER, None).expect("room");
        for stage in [Stage::Accepted(PLACE), Stage::Committed(PLACE)] {
            for id in [with.id, without.id] {
                forwarder.handle_reply(PEER, id, &codec::encode_stage(stage));
            }
        }
        assert_eq!(progress.subscribe().borrow().committed, Some(PLACE));
        assert_eq!(with.answer().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(without.answer().try_recv(), Err(TryRecvError::Empty));
        forwarder.handle_reply(PEER, with.id, &codec::encode_outcome(&applied()));
        assert_eq!(with.answer().try_recv(), Ok(applied()));
        forwarder.handle_reply(PEER, without.id, &Bytes::from_static(&[16, 1]));
        let lost = Outcome::UnknownConnectionLost { node: PEER };
        assert_eq!(without.answer().try_recv(), Ok(lost));
    }

    #[test]
    fn who_stops_waiting_leaves_no_trace() {
        let forwarder = Forwarder::new(Incarnation(1));
        drop(forwarder.register(PEER, None).expect("room"));
        assert!(forwarder.waiting(PEER).expect("was asked").lock().is_empty());
    }

    /// Goal: requests that wait for one peer are bounded, and another has its own room. Method: as many
    /// as there may be, and one more.
    #[test]
    fn requests_that_wait_are_bounded() {
        let forwarder = Forwarder::new(Incarnation(1));
        let register = |peer| forwarder.register(peer, None).map(|asked| asked.id);
        let mut asked: Vec<PendingRequest> = (0..limits::FORWARDS_PENDING_MAX)
            .map(|_| forwarder.register(PEER, None).expect("room"))
            .collect();
        assert_eq!(register(PEER), Err(NotSent::Full));
        assert!(register(NodeId(3)).is_ok());
        drop(asked.pop());
        assert!(register(PEER).is_ok(), "who stopped waiting makes room");
    }
}
