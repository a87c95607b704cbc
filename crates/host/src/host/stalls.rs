//! Detects a disk or a state machine that hangs: it fails nothing and finishes nothing.
//!
//! A leader on it would keep sending heartbeats and commit nothing, or answer nobody: its followers
//! would stay with it, and its shards would stand still. So a host that waits for a write
//! (`limits::DISK_STALL`) or for an applied entry (`limits::APPLY_STALL`) and has seen none finish
//! for that long gives up all that it leads. Until something finishes, its replicas neither
//! campaign nor lead. On a disk that hangs they don't answer candidates either, because each new
//! term would be one more write that waits. Work that is only slow, with a long queue, still
//! finishes something all the time.

use quorate_types::{Duration, Index, Monotonic, limits};

use crate::shard::Shard;

/// If two checks are further apart than this, the process itself stood still, as on a suspended
/// machine: completions may be waiting to be heard.
const LOOKS_APART_MAX: Duration = Duration::from_millis(1_000);

/// One kind of work that is done outside this host.
#[derive(Default)]
struct Watch {
    /// When a completion was last heard, or work began after there was none, or the process
    /// continued after it stood still.
    progress: Monotonic,
    stalled: bool,
}

impl Watch {
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

/// What is known of the progress of the disk and of the state machines.
#[derive(Default)]
pub(super) struct Stalls {
    looked: Monotonic,
    disk: Watch,
    apply: Watch,
    /// Shards with entries that were handed over to be applied, and are not applied yet.
    applying: usize,
}

impl Stalls {
    /// Whether the disk hangs, as of the last check of the timers.
    pub(super) fn is_disk_stalled(&self) -> bool {
        self.disk.stalled
    }

    /// Whether the state machines finish nothing, as of the last check of the timers.
    pub(super) fn is_apply_stalled(&self) -> bool {
        self.apply.stalled
    }

    /// When the next of them counts as stalled.
    pub(super) fn deadline(&self, oldest_write: Option<Monotonic>) -> Option<Monotonic> {
        let disk = self.disk.deadline(oldest_write, limits::DISK_STALL);
        let apply = self.apply.deadline(self.applies_since(), limits::APPLY_STALL);
        disk.into_iter().chain(apply).min()
    }

    /// Time passed: true if a stall begins now.
    pub(super) fn look(&mut self, now: Monotonic, oldest_write: Option<Monotonic>) -> bool {
        if now.since(self.looked) > LOOKS_APART_MAX {
            self.disk.progress = now;
            self.apply.progress = now;
        }
        self.looked = now;
        let applies_since = self.applies_since();
        let disk = self.disk.look(now, oldest_write, limits::DISK_STALL);
        let apply = self.apply.look(now, applies_since, limits::APPLY_STALL);
        disk || apply
    }

    /// A turn's write is durable.
    pub(super) fn handle_write_done(&mut self, now: Monotonic) {
        self.disk.progress = now;
    }

    /// Entries of `shard` through `last` were handed over to be applied.
    pub(super) fn expect_applied(&mut self, now: Monotonic, shard: &mut Shard, last: Index) {
        if !shard.is_applying() {
            if self.applying == 0 {
                self.apply.progress = now;
            }
            self.applying += 1;
        }
        shard.handle_handed(last);
        if !shard.is_applying() {
            self.applying -= 1;
        }
    }

    /// A state machine has applied entries of `shard`, which `note` tells it.
    pub(super) fn handle_applied(
        &mut self,
        now: Monotonic,
        shard: &mut Shard,
        note: impl FnOnce(&mut Shard),
    ) {
        self.apply.progress = now;
        let was_applying = shard.is_applying();
        note(shard);
        if was_applying && !shard.is_applying() {
            self.applying -= 1;
        }
    }

    /// Stops waiting for `shard`.
    pub(super) fn forget(&mut self, shard: &Shard) {
        if shard.is_applying() {
            self.applying -= 1;
        }
    }

    /// Since when the state machines have had work, at the earliest: it is the progress that counts.
    fn applies_since(&self) -> Option<Monotonic> {
        (self.applying > 0).then_some(Monotonic(0))
    }
}
