//! Whether a worker's disk or its state machines are stalled, for the node's status.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many workers wait for a disk, or for state machines, that finish nothing.
#[derive(Default)]
pub(crate) struct Stalls {
    disk: AtomicUsize,
    apply: AtomicUsize,
}

/// What a worker waits for, as it last reported to [`Stalls`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) disk: bool,
    pub(crate) apply: bool,
}

impl Stalls {
    pub(crate) fn disk(&self) -> bool {
        self.disk.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn apply(&self) -> bool {
        self.apply.load(Ordering::Relaxed) > 0
    }

    /// Records that one worker now waits for other things than before.
    pub(crate) fn change(&self, before: Stalled, now: Stalled) {
        change(&self.disk, before.disk, now.disk);
        change(&self.apply, before.apply, now.apply);
    }
}

fn change(count: &AtomicUsize, before: bool, now: bool) {
    match (before, now) {
        (false, true) => drop(count.fetch_add(1, Ordering::Relaxed)),
        (true, false) => drop(count.fetch_sub(1, Ordering::Relaxed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a node is stalled while any of its workers is, and each kind by itself.
    #[test]
    fn each_kind_is_counted_by_itself() {
        let stalls = Stalls::default();
        let (well, disk, apply) = (
            Stalled::default(),
            Stalled { disk: true, apply: false },
            Stalled { disk: false, apply: true },
        );
        stalls.change(well, disk);
        stalls.change(well, disk);
        assert_eq!((stalls.disk(), stalls.apply()), (true, false));
        stalls.change(disk, apply);
        assert_eq!((stalls.disk(), stalls.apply()), (true, true));
        stalls.change(disk, well);
        assert_eq!((stalls.disk(), stalls.apply()), (false, true));
        stalls.change(apply, well);
        assert_eq!((stalls.disk(), stalls.apply()), (false, false));
    }
}
