//! A disk that hangs, or a state machine that does: it fails nothing and finishes nothing.
//!
//! A leader on it would go on sending heartbeats and commit nothing, or answer nobody: its followers
//! stay loyal and its shards stand still for as long as that lasts. So a host that waits for a write
//! (`limits::DISK_STALL`) or for an applied entry (`limits::APPLY_STALL`) and has seen none finished for
//! so long gives up all that it leads. Until something is finished its replicas neither campaign nor
//! lead; on a disk that hangs they don't answer who campaigns either, because each term more would be
//! one write more that waits. Whatever is slow, with a long queue, finishes something all the time.

use quorate_types::{Duration, Index, Monotonic, limits};

use crate::host::Host;

/// Between two looks that are further apart this process itself stood still, as a suspended machine
/// does: what has been finished may be waiting to be heard.
const LOOKS_APART_MAX: Duration = Duration::from_millis(1_000);

/// One kind of work that somebody else does for this host.
#[derive(Default)]
pub(crate) struct Watch {
    /// When something was last heard to be finished, or work to begin after there was none, or the
    /// process to go on after it stood still.
    progress: Monotonic,
    stalled: bool,
}

impl Watch {
    pub(crate) fn handle_progress(&mut self, now: Monotonic) {
        self.progress = now;
    }

    /// True if the stall begins now. `waits_since` is when the oldest work was handed over, if any is
    /// under way.
    fn look(&mut self, now: Monotonic, waits_since: Option<Monotonic>, stall: Duration) -> bool {
        let was_stalled = self.stalled;
        let since = waits_since.map(|since| since.max(self.progress));
        self.stalled = since.is_some_and(|since| now.since(since) >= stall);
        self.stalled && !was_stalled
    }

    /// When it counts as stalled, if nothing is finished until then.
    fn deadline(&self, waits_since: Option<Monotonic>, stall: Duration) -> Option<Monotonic> {
        waits_since.filter(|_| !self.stalled).map(|since| since.max(self.progress) + stall)
    }
}

/// What is known of the progress of others.
#[derive(Default)]
pub(crate) struct Stalls {
    looked: Monotonic,
    pub(crate) disk: Watch,
    apply: Watch,
    /// Shards with entries that were handed over to be applied, and are not yet.
    applying: usize,
}

impl Host {
    /// Whether the disk hangs, as of the last look at the timers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalls.disk.stalled
    }

    /// Whether the state machines finish nothing, as of the last look at the timers.
    #[must_use]
    pub fn is_apply_stalled(&self) -> bool {
        self.stalls.apply.stalled
    }

    /// True if nothing here should lead.
    pub(crate) fn is_unfit(&self) -> bool {
        self.stalls.disk.stalled || self.stalls.apply.stalled
    }

    /// When the next of them counts as stalled.
    pub(crate) fn stall_deadline(&self) -> Option<Monotonic> {
        let disk = self.stalls.disk.deadline(self.oldest_write(), limits::DISK_STALL);
        let apply = self.stalls.apply.deadline(self.applies_since(), limits::APPLY_STALL);
        disk.into_iter().chain(apply).min()
    }

    /// Gives up every leadership when a stall begins.
    pub(crate) fn watch_stalls(&mut self, now: Monotonic) {
        let (oldest_write, applies_since) = (self.oldest_write(), self.applies_since());
        let stalls = &mut self.stalls;
        if now.since(stalls.looked) > LOOKS_APART_MAX {
            stalls.disk.progress = now;
            stalls.apply.progress = now;
        }
        stalls.looked = now;
        let disk = stalls.disk.look(now, oldest_write, limits::DISK_STALL);
        let apply = stalls.apply.look(now, applies_since, limits::APPLY_STALL);
        if disk || apply {
            self.resign_all(now);
        }
    }

    /// Entries through `last` were handed over to be applied.
    pub(crate) fn expect_applied(&mut self, now: Monotonic, slot: usize, last: Index) {
        if !self.shards[slot].is_applying() {
            if self.stalls.applying == 0 {
                self.stalls.apply.progress = now;
            }
            self.stalls.applying += 1;
        }
        let shard = &mut self.shards[slot];
        shard.handed = shard.handed.max(last);
        if !shard.is_applying() {
            self.stalls.applying -= 1;
        }
    }

    /// A state machine has applied everything up to and with `index`.
    pub(crate) fn handle_applied(&mut self, now: Monotonic, slot: usize, index: Index) {
        self.stalls.apply.progress = now;
        let was_applying = self.shards[slot].is_applying();
        self.shards[slot].handle_applied(index, &mut self.turn.answers);
        self.count(slot);
        if was_applying && !self.shards[slot].is_applying() {
            self.stalls.applying -= 1;
        }
    }

    /// Nothing of this slot is waited for any more.
    pub(crate) fn forget_applies(&mut self, slot: usize) {
        if self.shards[slot].is_applying() {
            self.stalls.applying -= 1;
        }
    }

    /// Since when the state machines have had work, at the earliest: it is the progress that counts.
    fn applies_since(&self) -> Option<Monotonic> {
        (self.stalls.applying > 0).then_some(Monotonic(0))
    }
}
