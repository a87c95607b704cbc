//! Whether a worker's disk hangs, for those who ask how the node is.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many workers wait for a disk that finishes nothing.
#[derive(Default)]
pub(crate) struct Stalls(AtomicUsize);

impl Stalls {
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// One worker more, or one less.
    pub(crate) fn change(&self, stalled: bool) {
        if stalled {
            self.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
