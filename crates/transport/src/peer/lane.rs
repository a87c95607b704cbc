//! Lanes and the bounded queues in front of them.
//!
//! A lane is one long-lived stream in each direction (that of snapshots has two, see
//! `connection/snapshots.rs`). Control messages have a separate lane, so
//! that a vote never waits behind a megabyte of entries; a shard's append messages keep their order
//! on one of several; forwards have one, and so have snapshots, which go last.

use std::sync::Arc;

use parking_lot::Mutex;
use quorate_raft::Body;
use quorate_types::{SPREAD, ShardId, limits};
use tokio::sync::Notify;

use bytes::Bytes;

use crate::frame::{Forward, ITEM_BYTES_MAX, Item, SNAPSHOT_ITEM_BYTES_MAX, ShardMessage};
use crate::peer::room::LaneRoom;

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
    Snapshot,
}

impl Lane {
    /// Every lane once.
    pub(crate) fn all() -> impl Iterator<Item = Lane> {
        let append = (0..limits::APPEND_LANES).map(|number| Lane::Append(number as u8));
        [Lane::Control].into_iter().chain(append).chain([Lane::Forward, Lane::Snapshot])
    }

    /// The lane's priority: a higher one is sent first when the connection is full.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Lane::Control => 2,
            Lane::Append(_) => 1,
            Lane::Forward => 0,
            Lane::Snapshot => -1,
        }
    }

    pub(crate) fn encode(self) -> [u8; LANE_HEAD_BYTES] {
        match self {
            Lane::Control => [1, 0],
            Lane::Append(number) => [2, number],
            Lane::Forward => [3, 0],
            Lane::Snapshot => [4, 0],
        }
    }

    pub(crate) fn decode(head: [u8; LANE_HEAD_BYTES]) -> Option<Lane> {
        Lane::all().find(|lane| lane.encode() == head)
    }
}

/// What one lane holds at most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    count_max: usize,
    bytes_max: usize,
    /// Of one item, by [`Item::frame_bytes`].
    item_bytes_max: usize,
}

impl Bounds {
    const USUAL: Bounds = Bounds {
        count_max: limits::LANE_MESSAGES_MAX,
        bytes_max: limits::LANE_BYTES_MAX,
        item_bytes_max: ITEM_BYTES_MAX,
    };
    const SNAPSHOTS: Bounds = Bounds {
        count_max: limits::SNAPSHOT_LANE_PARTS_MAX,
        bytes_max: limits::SNAPSHOT_LANE_BYTES_MAX,
        item_bytes_max: SNAPSHOT_ITEM_BYTES_MAX,
    };
}

/// How many of the items offered to a queue were refused, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Refused because the peer is not connected.
    pub(crate) unconnected: u64,
    /// Refused because the queue was full.
    pub(crate) full: u64,
    /// Refused because no frame could hold it.
    pub(crate) oversize: u64,
}

/// Why a request or a response was not queued. In every case nothing was sent.
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
pub(crate) struct PeerQueues {
    messages: [Queue<ShardMessage>; MESSAGE_LANES],
    forwards: Queue<Forward>,
    snapshots: Queue<Bytes>,
}

impl PeerQueues {
    /// Empty and closed queues; what a lane holds beyond its own bound is taken from `room`.
    pub(crate) fn new(room: &Arc<LaneRoom>) -> PeerQueues {
        PeerQueues {
            messages: std::array::from_fn(|_| Queue::new(room, Bounds::USUAL)),
            forwards: Queue::new(room, Bounds::USUAL),
            snapshots: Queue::new(room, Bounds::SNAPSHOTS),
        }
    }

    /// Opens the queues for a new connection.
    pub(crate) fn open(&self) {
        self.messages.iter().for_each(Queue::open);
        self.forwards.open();
        self.snapshots.open();
    }

    /// Drops the items that wait, and refuses new ones.
    pub(crate) fn close(&self) {
        self.messages.iter().for_each(Queue::close);
        self.forwards.close();
        self.snapshots.close();
    }

    /// The queue of a message lane.
    ///
    /// # Panics
    /// For the lanes of forwards and of snapshots.
    pub(crate) fn messages(&self, lane: Lane) -> &Queue<ShardMessage> {
        match lane {
            Lane::Control => &self.messages[0],
            Lane::Append(number) => &self.messages[1 + usize::from(number)],
            Lane::Forward | Lane::Snapshot => panic!("{lane:?} carries no messages"),
        }
    }

    /// What waits in all queues.
    pub(crate) fn waiting(&self) -> Waiting {
        let others = [self.forwards.waiting(), self.snapshots.waiting()];
        let queues = self.messages.iter().map(Queue::waiting).chain(others);
        queues.fold(Waiting::default(), |sum, queue| Waiting {
            count: sum.count + queue.count,
            bytes: sum.bytes + queue.bytes,
        })
    }

    pub(crate) fn forwards(&self) -> &Queue<Forward> {
        &self.forwards
    }

    pub(crate) fn snapshots(&self) -> &Queue<Bytes> {
        &self.snapshots
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
                    // The guard must be dropped first, or two workers could wait for each other.
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
            } else if self.messages[lane].admit(state, 1, bytes) {
                state.items.push(message);
            } else {
                offered.full += 1;
            }
        }
        drop(held);
        for (queue, _) in self.messages.iter().zip(woken).filter(|(_, woken)| *woken) {
            queue.ready.notify_one();
        }
        offered
    }
}

/// Items that wait for one lane. What the lane has taken and not yet released counts as waiting: most
/// lanes release what they have written, that of snapshots what the peer has taken.
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    ready: Notify,
    room: Arc<LaneRoom>,
    bounds: Bounds,
}

struct QueueState<T> {
    open: bool,
    items: Vec<T>,
    waiting: Waiting,
    /// Bytes taken from the room that all lanes share; at most the bytes that wait beyond the
    /// lane's own bound.
    borrowed: usize,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) count: usize,
    /// By [`Item::frame_bytes`].
    pub(crate) bytes: usize,
}

impl Waiting {
    /// All of `items`.
    pub(crate) fn of<T: Item>(items: &[T]) -> Waiting {
        Waiting { count: items.len(), bytes: items.iter().map(Item::frame_bytes).sum() }
    }
}

impl<T> QueueState<T> {
    fn closed() -> QueueState<T> {
        QueueState { open: false, items: Vec::new(), waiting: Waiting::default(), borrowed: 0 }
    }

    /// Undoes [`Queue::admit`].
    fn release(&mut self, room: &LaneRoom, left: Waiting) {
        self.waiting.count -= left.count;
        self.waiting.bytes -= left.bytes;
        let borrowed = self.borrowed.min(self.waiting.bytes.saturating_sub(limits::LANE_BYTES_OWN));
        room.give_back(self.borrowed - borrowed);
        self.borrowed = borrowed;
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        self.room.give_back(self.state.get_mut().borrowed);
    }
}

impl<T: Item> Queue<T> {
    fn new(room: &Arc<LaneRoom>, bounds: Bounds) -> Queue<T> {
        let (state, ready) = (Mutex::new(QueueState::closed()), Notify::new());
        Queue { state, ready, room: Arc::clone(room), bounds }
    }

    /// Counts `count` more items of `bytes` together, unless that would pass a bound. An empty lane
    /// takes anything that a frame can hold: a lane that moves keeps moving, however little room
    /// others leave.
    fn admit(&self, state: &mut QueueState<T>, count: usize, bytes: usize) -> bool {
        let Waiting { count: waiting, bytes: before } = state.waiting;
        let after = before + bytes;
        if waiting + count > self.bounds.count_max || after > self.bounds.bytes_max {
            return false;
        }
        let more = after.saturating_sub(limits::LANE_BYTES_OWN).saturating_sub(state.borrowed);
        if more > 0 {
            if self.room.take(more) {
                state.borrowed += more;
            } else if waiting > 0 {
                return false;
            }
        }
        state.waiting = Waiting { count: waiting + count, bytes: after };
        true
    }

    fn open(&self) {
        self.state.lock().open = true;
    }

    fn close(&self) {
        let closed = std::mem::replace(&mut *self.state.lock(), QueueState::closed());
        self.room.give_back(closed.borrowed);
    }

    /// Queues all of `items` or none.
    pub(crate) fn push_all(&self, items: Vec<T>) -> Result<(), (SendError, Vec<T>)> {
        let bytes = items.iter().map(Item::frame_bytes).sum::<usize>();
        let largest = items.iter().map(Item::frame_bytes).max().unwrap_or(0);
        let mut state = self.state.lock();
        let max = self.bounds.item_bytes_max;
        let error = if largest > max {
            SendError::TooLarge { found: largest, max }
        } else if !state.open {
            SendError::Unreachable
        } else if !self.admit(&mut state, items.len(), bytes) {
            SendError::Full
        } else {
            let was_empty = state.items.is_empty();
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

    /// Releases the room of items that were taken and have left: the bytes counted when they were
    /// queued, which are more than they have in a frame.
    pub(crate) fn release(&self, left: Waiting) {
        // A lane that holds little has borrowed nothing, and touches no shared counter.
        self.state.lock().release(&self.room, left);
    }

    /// What waits, including items that were taken and not yet released.
    pub(crate) fn waiting(&self) -> Waiting {
        self.state.lock().waiting
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
    let mixed = shard.0.wrapping_mul(SPREAD) >> 32;
    mixed as usize % limits::APPEND_LANES
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
