//! Room for replies: each connection reserves its share of the node's before it uses memory.
//!
//! There are two rooms, so that connections never wait for each other in a circle. From the
//! *shared* room each connection reserves what its commands are expected to answer; if that room is
//! full, the connection waits, with commands that have not begun. A reply that turns out larger is
//! read again when it is the connection's next one, with its known size reserved in the room of the
//! *heads*: a connection that holds some of that room waits for nothing but its client. A reply
//! that is expected to be larger than a connection's part is read that way from the start.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use quorate_types::limits;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Room beyond `CLIENT_FREE_BYTES` is reserved in steps of this many bytes.
const STEP_BYTES: usize = 16 << 10;

/// The room for the replies of one node.
#[derive(Debug)]
pub(super) struct NodeRoom {
    shared: Arc<Semaphore>,
    heads: Arc<Semaphore>,
    /// How many connections wait for either.
    waiting: Arc<AtomicUsize>,
}

impl Default for NodeRoom {
    fn default() -> NodeRoom {
        NodeRoom {
            shared: Arc::new(Semaphore::new(limits::CLIENT_REPLIES_BYTES_MAX)),
            heads: Arc::new(Semaphore::new(limits::CLIENT_REPLY_BYTES_MAX)),
            waiting: Arc::default(),
        }
    }
}

impl NodeRoom {
    /// True while some connection waits for room.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes reserved.
    pub(super) fn taken(&self) -> usize {
        let free = self.shared.available_permits() + self.heads.available_permits();
        limits::CLIENT_REPLIES_BYTES_MAX + limits::CLIENT_REPLY_BYTES_MAX - free
    }
}

type Acquire = dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send;

/// A place in a queue for room. Dropping it leaves the queue.
struct Wait {
    acquire: Pin<Box<Acquire>>,
    waiting: Arc<AtomicUsize>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The room that one connection holds. Dropping it releases that room.
pub(super) struct Room {
    node: Arc<NodeRoom>,
    held: Option<OwnedSemaphorePermit>,
    wait: Option<Wait>,
    /// For the reply that is the next to be written, if that reply is large.
    head: Option<OwnedSemaphorePermit>,
    head_wait: Option<Wait>,
}

fn bytes_of(permit: Option<&OwnedSemaphorePermit>) -> usize {
    permit.map_or(0, OwnedSemaphorePermit::num_permits)
}

impl Room {
    pub(super) fn new(node: Arc<NodeRoom>) -> Room {
        Room { node, held: None, wait: None, head: None, head_wait: None }
    }

    /// Bytes that the connection may hold.
    pub(super) fn bytes(&self) -> usize {
        limits::CLIENT_FREE_BYTES + bytes_of(self.held.as_ref()) + bytes_of(self.head.as_ref())
    }

    fn missing(&self, bytes: usize) -> Option<u32> {
        let missing = bytes.checked_sub(self.bytes()).filter(|missing| *missing > 0)?;
        let steps = missing.next_multiple_of(STEP_BYTES).min(limits::CLIENT_REPLIES_BYTES_MAX);
        Some(u32::try_from(steps).expect("a node's room fits u32"))
    }

    fn keep(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }

    /// True if the connection holds room that others may wait for.
    pub(super) fn has_shared(&self) -> bool {
        self.held.is_some() || self.head.is_some()
    }

    /// True if the connection may hold `bytes` in all, without waiting for it.
    pub(super) fn try_hold(&mut self, bytes: usize) -> bool {
        let Some(missing) = self.missing(bytes) else { return true };
        match Arc::clone(&self.node.shared).try_acquire_many_owned(missing) {
            Ok(permit) => {
                self.keep(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// True if the connection may hold `bytes` in all; else its task is woken when it can retry.
    pub(super) fn poll_hold(&mut self, context: &mut Context<'_>, bytes: usize) -> bool {
        loop {
            let Some(missing) = self.missing(bytes) else {
                self.wait = None;
                return true;
            };
            if self.wait.is_none() && self.try_hold(bytes) {
                return true;
            }
            let node = &self.node;
            let wait = self.wait.get_or_insert_with(|| wait(node, &node.shared, missing));
            let Poll::Ready(acquired) = wait.acquire.as_mut().poll(context) else { return false };
            self.wait = None;
            self.keep(acquired.expect("the room is never closed"));
        }
    }

    /// Leaves the queue, if it waits for the shared room.
    pub(super) fn stop_waiting(&mut self) {
        self.wait = None;
    }

    /// True once the connection has room for a large reply of `bytes`; else its task is woken.
    pub(super) fn poll_head(&mut self, context: &mut Context<'_>, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes.min(limits::CLIENT_REPLY_BYTES_MAX)).expect("fits u32");
        let node = &self.node;
        let wait = self.head_wait.get_or_insert_with(|| wait(node, &node.heads, bytes));
        let Poll::Ready(acquired) = wait.acquire.as_mut().poll(context) else { return false };
        self.head_wait = None;
        self.head = Some(acquired.expect("the room is never closed"));
        true
    }

    /// The large reply has come and holds `bytes`: releases the rest of its room.
    pub(super) fn shrink_head(&mut self, bytes: usize) {
        if let Some(head) = &mut self.head
            && let Some(spare) = head.num_permits().checked_sub(bytes)
        {
            drop(head.split(spare));
        }
    }

    /// Releases the room of the large reply: it is written, or the room was too small.
    pub(super) fn end_head(&mut self) {
        self.head = None;
    }

    /// Releases the room beyond `bytes`, except a few steps; all of it if `bytes` needs none.
    pub(super) fn shrink(&mut self, bytes: usize) {
        const STEPS_KEPT: usize = 4;
        let Some(held) = &mut self.held else { return };
        let bytes = bytes.saturating_sub(limits::CLIENT_FREE_BYTES);
        if bytes == 0 {
            self.held = None;
            return;
        }
        let wanted = bytes.next_multiple_of(STEP_BYTES) + STEPS_KEPT * STEP_BYTES;
        if let Some(spare) = held.num_permits().checked_sub(wanted) {
            drop(held.split(spare));
        }
    }
}

fn wait(node: &NodeRoom, room: &Arc<Semaphore>, bytes: u32) -> Wait {
    node.waiting.fetch_add(1, Ordering::Relaxed);
    let acquire = Box::pin(Arc::clone(room).acquire_many_owned(bytes));
    Wait { acquire, waiting: Arc::clone(&node.waiting) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the node's room is never exceeded, a connection that waits is served once there is
    /// some, and all of it is released. Method: three connections.
    #[test]
    fn room_is_shared_and_comes_back() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let node = Arc::new(NodeRoom::default());
        let mut rooms = [0; 3].map(|_| Room::new(Arc::clone(&node)));
        let [first, second, third] = &mut rooms;
        assert!(first.poll_hold(&mut context, limits::CLIENT_FREE_BYTES));
        assert_eq!(node.taken(), 0);
        assert!(first.poll_hold(&mut context, limits::CLIENT_FREE_BYTES + 1));
        assert!(first.poll_hold(&mut context, limits::CLIENT_FREE_BYTES + STEP_BYTES));
        assert_eq!(node.taken(), STEP_BYTES);
        let rest = limits::CLIENT_REPLIES_BYTES_MAX - STEP_BYTES;
        assert!(second.try_hold(limits::CLIENT_FREE_BYTES + rest) && !node.is_short());
        assert!(third.poll_hold(&mut context, limits::CLIENT_FREE_BYTES) && !node.is_short());
        assert!(!third.poll_hold(&mut context, limits::CLIENT_FREE_BYTES + 1) && node.is_short());
        // A large reply has room of its own.
        assert!(third.poll_head(&mut context, limits::CLIENT_REPLY_BYTES_MAX));
        assert!(!second.poll_head(&mut context, 1));
        third.shrink_head(limits::CLIENT_REPLY_BYTES_MAX - 1);
        assert!(second.poll_head(&mut context, 1));
        second.shrink(rest / 2);
        third.end_head();
        assert!(third.poll_hold(&mut context, 1) && !node.is_short());
        drop(rooms);
        assert_eq!(node.taken(), 0);
    }

    /// Goal: a connection that no longer waits delays no other.
    #[test]
    fn who_leaves_the_queue_is_in_nobodys_way() {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let node = Arc::new(NodeRoom::default());
        let mut rooms = [0; 3].map(|_| Room::new(Arc::clone(&node)));
        let all = limits::CLIENT_FREE_BYTES + limits::CLIENT_REPLIES_BYTES_MAX;
        assert!(rooms[0].poll_hold(&mut context, all));
        assert!(!rooms[1].poll_hold(&mut context, all));
        assert!(!rooms[2].poll_hold(&mut context, limits::CLIENT_FREE_BYTES + 1));
        rooms[2].stop_waiting();
        let [first, second, mut third] = rooms;
        drop(second);
        assert!(!node.is_short());
        drop(first);
        assert!(third.poll_hold(&mut context, limits::CLIENT_FREE_BYTES + 1));
    }
}
