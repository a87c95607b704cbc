//! A disk that hangs: it fails nothing and finishes nothing.
//!
//! A leader on it would go on sending heartbeats and commit nothing: its followers stay loyal and
//! its shards stand still for as long as the disk hangs. So a host whose oldest write is older than
//! `limits::DISK_STALL` gives up all that it leads, once; its replicas campaign again some election
//! timeouts later, and win only if the disk does: a candidate's own vote has to be durable.

use quorate_types::{Monotonic, limits};

use crate::host::Host;

impl Host {
    /// Whether the oldest write that is under way is older than `limits::DISK_STALL`, as of the last
    /// look at the timers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// When the disk counts as hung, if it finishes nothing until then.
    pub(crate) fn stall_deadline(&self) -> Option<Monotonic> {
        self.oldest_write().filter(|_| !self.stalled).map(|taken| taken + limits::DISK_STALL)
    }

    /// Gives up every leadership when the disk begins to hang.
    pub(crate) fn watch_disk(&mut self, now: Monotonic) {
        let age = self.oldest_write().map(|taken| now.since(taken));
        let stalled = age.is_some_and(|age| age >= limits::DISK_STALL);
        if stalled && !self.stalled {
            self.resign_all(now);
        }
        self.stalled = stalled;
    }
}
