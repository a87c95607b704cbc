//! A bound for work that no caller has to wait for, and that would otherwise pile up.

use std::sync::Arc;

use parking_lot::Mutex;

/// A bound in number and bytes.
pub(crate) struct Budget {
    count_max: usize,
    bytes_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    bytes: usize,
}

/// A reserved part of a budget, released when it is dropped.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { count_max, bytes_max, taken: Mutex::default() })
    }

    /// Reserves room for one piece of `bytes`, if there is any.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let mut taken = self.taken.lock();
        if taken.count == self.count_max || bytes > self.bytes_max - taken.bytes {
            return None;
        }
        taken.count += 1;
        taken.bytes += bytes;
        Some(Share { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        taken.count -= 1;
        taken.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_shares_come_back() {
        let budget = Budget::new(3, 10);
        let first = budget.take(10);
        assert!(first.is_some() && budget.take(1).is_none(), "no bytes are left");
        let empty = [budget.take(0), budget.take(0)];
        assert!(empty.iter().all(Option::is_some) && budget.take(0).is_none(), "none is left");
        drop(empty);
        assert!(budget.take(1).is_none());
        drop(first);
        assert!(budget.take(11).is_none() && budget.take(10).is_some());
    }
}
