//! A disk that hangs: it fails nothing and finishes nothing.
//!
//! A leader on it would go on sending heartbeats and commit nothing: its followers stay loyal and
//! its shards stand still for as long as the disk hangs. So a host that waits for a write, and for
//! `limits::DISK_STALL` has seen none finished, gives up all that it leads, once; its replicas
//! campaign again some election timeouts later, and win only if the disk does: a candidate's own
//! vote has to be durable. A disk that is slow, with a long queue, finishes something all the time.

use quorate_types::{Duration, Monotonic, limits};

use crate::host::Host;

/// Between two looks that are further apart this process itself stood still, as a suspended machine
/// does: what the disk has finished may be waiting to be heard.
const LOOKS_APART_MAX: Duration = Duration::from_millis(1_000);

/// What is known of the disk's progress.
#[derive(Default)]
pub(crate) struct DiskWatch {
    /// When a write was last heard to be finished, or the process to go on after it stood still.
    progress: Monotonic,
    looked: Monotonic,
    stalled: bool,
}

impl DiskWatch {
    pub(crate) fn handle_progress(&mut self, now: Monotonic) {
        self.progress = now;
    }
}

impl Host {
    /// Whether the disk hangs, as of the last look at the timers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.disk.stalled
    }

    /// When the disk counts as hung, if it finishes nothing until then.
    pub(crate) fn stall_deadline(&self) -> Option<Monotonic> {
        self.waits_since().filter(|_| !self.disk.stalled).map(|since| since + limits::DISK_STALL)
    }

    /// Gives up every leadership when the disk begins to hang.
    pub(crate) fn watch_disk(&mut self, now: Monotonic) {
        if now.since(self.disk.looked) > LOOKS_APART_MAX {
            self.disk.progress = now;
        }
        self.disk.looked = now;
        let waited = self.waits_since().map(|since| now.since(since));
        let stalled = waited.is_some_and(|waited| waited >= limits::DISK_STALL);
        if stalled && !self.disk.stalled {
            self.resign_all(now);
        }
        self.disk.stalled = stalled;
    }

    /// Since when the disk has had work and finished nothing.
    fn waits_since(&self) -> Option<Monotonic> {
        self.oldest_write().map(|taken| taken.max(self.disk.progress))
    }
}
