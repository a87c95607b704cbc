//! Lanes and the bounded queues in front of them.
//!
//! A lane is one long-lived stream in each direction. Control messages have one of their own, so
//! that a vote never waits behind a megabyte of entries; a shard's append messages keep their
//! order on one of several; forwards have the last one.

use parking_lot::Mutex;
use quorate_raft::Body;
use quorate_types::{ShardId, limits};
use tokio::sync::Notify;

use crate::frame::{Forward, ITEM_BYTES_MAX, Item, ShardMessage};

/// Lanes that carry messages: control, then the append lanes.
const MESSAGE_LANES: usize = 1 + limits::APPEND_LANES;
/// Bytes at the head of a stream that name its lane.
pub(crate) const LANE_HEAD_BYTES: usize = 2;

const _: () = assert!(limits::APPEND_LANES <= 255, "a lane's number is one byte");

/// One lane, as its stream's first two bytes name it: kind, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Control,
    Append(u8),
    Forward,
}

impl Lane {
    /// Every lane once.
    pub(crate) fn all() -> impl Iterator<Item = Lane> {
        let append = (0..limits::APPEND_LANES).map(|number| Lane::Append(number as u8));
        [Lane::Control].into_iter().chain(append).chain([Lane::Forward])
    }

    /// Higher goes first when the connection is full.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Lane::Control => 2,
            Lane::Append(_) => 1,
            Lane::Forward => 0,
        }
    }

    pub(crate) fn encode(self) -> [u8; LANE_HEAD_BYTES] {
        match self {
            Lane::Control => [1, 0],
            Lane::Append(number) => [2, number],
            Lane::Forward => [3, 0],
        }
    }

    pub(crate) fn decode(head: [u8; LANE_HEAD_BYTES]) -> Option<Lane> {
        Lane::all().find(|lane| lane.encode() == head)
    }
}

/// What became of what was offered to a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Refused because nobody is connected.
    pub(crate) unconnected: u64,
    /// Refused because the queue was full.
    pub(crate) full: u64,
    /// Refused because no frame could hold it.
    pub(crate) oversize: u64,
}

/// Why a request or an answer was not queued. In every case it did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection to the peer at the moment.
    #[error("the peer is not connected; try another node, or later")]
    Unreachable,
    /// The bound of the queue is reached.
    #[error("the lane to the peer is full; try later")]
    Full,
    /// No frame, or no datagram, can hold it.
    #[error("{found} bytes, at most {max} can be sent at once")]
    TooLarge {
        /// Bytes needed.
        found: usize,
        /// The bound.
        max: usize,
    },
}

/// All queues of one peer.
pub(crate) struct Outbox {
    messages: [Queue<ShardMessage>; MESSAGE_LANES],
    forwards: Queue<Forward>,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox { messages: std::array::from_fn(|_| Queue::new()), forwards: Queue::new() }
    }

    /// Lets everything in, for a new connection.
    pub(crate) fn open(&self) {
        self.messages.iter().for_each(Queue::open);
        self.forwards.open();
    }

    /// Forgets what waits and refuses what comes.
    pub(crate) fn close(&self) {
        self.messages.iter().for_each(Queue::close);
        self.forwards.close();
    }

    /// The queue of a message lane.
    ///
    /// # Panics
    /// For the forward lane.
    pub(crate) fn messages(&self, lane: Lane) -> &Queue<ShardMessage> {
        match lane {
            Lane::Control => &self.messages[0],
            Lane::Append(number) => &self.messages[1 + usize::from(number)],
            Lane::Forward => panic!("the forward lane carries no messages"),
        }
    }

    /// Items that wait in all queues.
    pub(crate) fn waiting(&self) -> usize {
        self.messages.iter().map(Queue::len).sum::<usize>() + self.forwards.len()
    }

    pub(crate) fn forwards(&self) -> &Queue<Forward> {
        &self.forwards
    }

    /// Queues each message on its lane. One lock is held at a time and passed on only where the
    /// lane changes; each lane is woken once.
    pub(crate) fn push_messages(&self, messages: Vec<ShardMessage>) -> Offered {
        let mut offered = Offered::default();
        let mut woken = [false; MESSAGE_LANES];
        let mut held = None;
        for message in messages {
            let lane = lane_of(&message);
            let state = match &mut held {
                Some((at, state)) if *at == lane => state,
                _ => {
                    // The guard must go first, or two workers could wait for each other.
                    drop(held.take());
                    &mut held.insert((lane, self.messages[lane].state.lock())).1
                }
            };
            woken[lane] |= state.items.is_empty();
            let bytes = message.frame_bytes();
            if bytes > ITEM_BYTES_MAX {
                tracing::error!(shard = %message.shard, bytes, "message above the frame's bound");
                offered.oversize += 1;
            } else if !state.open {
                offered.unconnected += 1;
            } else if state.is_full(1, bytes) {
                offered.full += 1;
            } else {
                state.push(message, bytes);
            }
        }
        drop(held);
        for (queue, _) in self.messages.iter().zip(woken).filter(|(_, woken)| *woken) {
            queue.ready.notify_one();
        }
        offered
    }
}

/// Items that wait for one lane. What the lane has taken and not yet written counts as waiting.
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    ready: Notify,
}

struct QueueState<T> {
    open: bool,
    items: Vec<T>,
    count: usize,
    bytes: usize,
}

impl<T> QueueState<T> {
    fn is_full(&self, count: usize, bytes: usize) -> bool {
        self.count + count > limits::LANE_MESSAGES_MAX
            || self.bytes + bytes > limits::LANE_BYTES_MAX
    }

    fn push(&mut self, item: T, bytes: usize) {
        self.items.push(item);
        self.count += 1;
        self.bytes += bytes;
    }
}

impl<T: Item> Queue<T> {
    fn new() -> Queue<T> {
        let state = QueueState { open: false, items: Vec::new(), count: 0, bytes: 0 };
        Queue { state: Mutex::new(state), ready: Notify::new() }
    }

    fn open(&self) {
        self.state.lock().open = true;
    }

    fn close(&self) {
        *self.state.lock() = QueueState { open: false, items: Vec::new(), count: 0, bytes: 0 };
    }

    /// Queues all of `items` or none.
    pub(crate) fn push_all(&self, items: Vec<T>) -> Result<(), (SendError, Vec<T>)> {
        let bytes = items.iter().map(Item::frame_bytes).sum::<usize>();
        let largest = items.iter().map(Item::frame_bytes).max().unwrap_or(0);
        let mut state = self.state.lock();
        let error = if largest > ITEM_BYTES_MAX {
            SendError::TooLarge { found: largest, max: ITEM_BYTES_MAX }
        } else if !state.open {
            SendError::Unreachable
        } else if state.is_full(items.len(), bytes) {
            SendError::Full
        } else {
            let was_empty = state.items.is_empty();
            state.count += items.len();
            state.bytes += bytes;
            state.items.extend(items);
            drop(state);
            if was_empty {
                self.ready.notify_one();
            }
            return Ok(());
        };
        Err((error, items))
    }

    /// Waits until something is queued and takes all of it into `taken`, which must be empty.
    pub(crate) async fn take(&self, taken: &mut Vec<T>) {
        assert!(taken.is_empty(), "the last batch was written");
        loop {
            std::mem::swap(&mut self.state.lock().items, taken);
            if !taken.is_empty() {
                return;
            }
            self.ready.notified().await;
        }
    }

    /// Makes room again for what was taken and is written.
    pub(crate) fn release(&self, count: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.count -= count;
        state.bytes -= bytes;
    }

    /// Items that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().count
    }
}

fn lane_of(message: &ShardMessage) -> usize {
    match message.message.body {
        Body::Append { .. } | Body::Accepted { .. } | Body::Rejected { .. } => {
            1 + append_lane(message.shard)
        }
        _ => 0,
    }
}

/// Spreads consecutive shard ids; both directions of a shard may use different lanes.
fn append_lane(shard: ShardId) -> usize {
    let mixed = shard.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    mixed as usize % limits::APPEND_LANES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ForwardKind;
    use bytes::Bytes;
    use quorate_raft::Message;
    use quorate_types::{Index, ReplicaId, Term};

    fn message(shard: u64, body: Body) -> ShardMessage {
        let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(1), body };
        ShardMessage { shard: ShardId(shard), message }
    }

    fn accepted(shard: u64) -> ShardMessage {
        message(shard, Body::Accepted { matched: Index(1) })
    }

    #[test]
    fn lane_heads_survive_and_others_are_refused() {
        for lane in Lane::all() {
            assert_eq!(Lane::decode(lane.encode()), Some(lane));
        }
        assert_eq!(Lane::decode([2, limits::APPEND_LANES as u8]), None);
        assert_eq!(Lane::decode([0, 0]), None);
        assert!(Lane::Control.priority() > Lane::Append(0).priority());
        assert!(Lane::Append(0).priority() > Lane::Forward.priority());
    }

    #[test]
    fn shards_spread_over_the_append_lanes() {
        let mut counts = [0; limits::APPEND_LANES];
        (0..400).for_each(|shard| counts[append_lane(ShardId(shard))] += 1);
        assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
    }

    /// Goal: append messages past the bound are dropped and counted, control still gets through.
    #[test]
    fn a_full_append_lane_drops_and_leaves_control_alone() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push_messages(vec![accepted(1)]).unconnected, 1);
        outbox.open();
        let more = 5;
        let appends = vec![accepted(1); limits::LANE_MESSAGES_MAX + more];
        assert_eq!(outbox.push_messages(appends), Offered { full: 5, ..Offered::default() });
        let lane = Lane::Append(append_lane(ShardId(1)) as u8);
        assert_eq!(outbox.messages(lane).len(), limits::LANE_MESSAGES_MAX);
        let offered = outbox.push_messages(vec![message(1, Body::TimeoutNow), accepted(1)]);
        assert_eq!(offered.full, 1);
        assert_eq!(outbox.messages(Lane::Control).len(), 1);
        outbox.close();
        assert_eq!(outbox.messages(lane).len(), 0);
    }

    #[test]
    fn forwards_are_queued_together_or_not_at_all() {
        let outbox = Outbox::new();
        let forward = |bytes| Forward {
            id: 1,
            kind: ForwardKind::Request,
            payload: Bytes::from(vec![0; bytes]),
        };
        let (error, back) = outbox.forwards().push_all(vec![forward(1)]).unwrap_err();
        assert_eq!((error, back.len()), (SendError::Unreachable, 1));
        outbox.open();
        let third = limits::LANE_BYTES_MAX / 3;
        let (error, back) = outbox.forwards().push_all(vec![forward(third); 3]).unwrap_err();
        assert_eq!((error, back.len()), (SendError::Full, 3));
        assert_eq!(outbox.forwards().len(), 0);
        outbox.forwards().push_all(vec![forward(third); 2]).unwrap();
        let (error, _) = outbox.forwards().push_all(vec![forward(ITEM_BYTES_MAX)]).unwrap_err();
        assert!(matches!(error, SendError::TooLarge { .. }));
    }
}
