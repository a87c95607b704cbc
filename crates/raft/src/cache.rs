//! The entries of the log that are held in memory, and how they are given up.

use quorate_types::Index;

use crate::kernel::Kernel;

impl Kernel {
    /// Forgets cached runs that are durable and wholly below `index`; they are fetched again where a
    /// follower or the state machine lacks them.
    pub fn evict_below(&mut self, index: Index) {
        self.log.evict_below(index);
    }

    /// Bytes of runs held in memory that can't be evicted: they are not durable yet.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.log.pinned_bytes()
    }

    /// Bytes of runs held in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.log.cached_bytes()
    }
}
