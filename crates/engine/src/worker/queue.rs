//! A queue between two threads of the engine: swapped out whole, woken once per batch.
//!
//! It has no bound of its own: those who request the items bound them (the kernel bounds what is
//! handed to apply, one fetch runs per reader).

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

struct State<T> {
    items: Vec<T>,
    waiting: bool,
    closed: bool,
}

/// A queue with many senders and one receiver.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: Vec::new(), waiting: false, closed: false };
        Queue { state: Mutex::new(state), wake: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Adds everything in `items`; drops it once the queue is closed.
    pub(crate) fn push_all(&self, items: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.items.extend(items);
        if !state.items.is_empty() && std::mem::take(&mut state.waiting) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Adds everything in `items` unless `bound` of them wait already; drops it once the queue is
    /// closed.
    pub(crate) fn push_within(&self, bound: usize, items: impl IntoIterator<Item = T>) {
        let is_full = self.state.lock().items.len() >= bound;
        if !is_full {
            self.push_all(items);
        }
    }

    /// Closes the queue: nothing more will come.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Closes the queue and returns what is in it, which no receiver will take.
    pub(crate) fn close_and_take(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed = true;
        std::mem::take(&mut state.items)
    }

    /// Waits and swaps everything out into the empty `items`; false once closed and empty.
    pub(crate) fn take(&self, items: &mut Vec<T>) -> bool {
        self.take_within(items, None)
    }

    /// As [`Queue::take`], but waits no longer than `patience`; `items` stays empty then.
    pub(crate) fn take_within(&self, items: &mut Vec<T>, patience: Option<Duration>) -> bool {
        assert!(items.is_empty(), "items of the last turn were left behind");
        let end = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.waiting = true;
            match end {
                None => self.wake.wait(&mut state),
                Some(end) if self.wake.wait_until(&mut state, end).timed_out() => break,
                Some(_) => {}
            }
        }
        state.waiting = false;
        std::mem::swap(&mut state.items, items);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: items pushed before the close are taken, and later ones are dropped. Method: both kinds of
    /// close.
    #[test]
    fn a_closed_queue_gives_out_what_it_held() {
        let queue = Queue::default();
        let mut items = Vec::new();
        queue.push_all([1, 2]);
        queue.close();
        queue.push_all([3]);
        assert!(queue.take(&mut items));
        assert_eq!(items, [1, 2]);
        items.clear();
        assert!(!queue.take(&mut items) && items.is_empty());

        let queue = Queue::default();
        queue.push_all([1]);
        assert_eq!(queue.close_and_take(), [1]);
        queue.push_all([2]);
        assert!(!queue.take(&mut items) && items.is_empty());
    }
}
