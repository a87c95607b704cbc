//! Sums over all shards of a host, and the bounds of these sums (RULE 18). Each shard also has its
//! own bounds.
//!
//! - **Proposed and not committed**: past the bound, callers are told that the node is busy. A
//!   reserve beyond it lets every shard that has nothing under way still begin.
//! - **Handed out and not applied**: past the bound nothing is handed out. Shards that have entries
//!   wait in a queue, which moves as entries are applied.
//! - **Under way to each peer**: see [`Windows`].
//! - **Cached entries**: see `Host::evict`.

use std::collections::VecDeque;

use quorate_raft::Windows;

use super::slots::Slot;
use crate::config::HostConfig;
use crate::shard::Shard;

/// The sums over all shards of a host.
pub(super) struct Totals {
    pub(super) cached_bytes: usize,
    pub(super) uncommitted_bytes: usize,
    pub(super) apply_bytes: usize,
    pub(super) windows: Windows,
    uncommitted_bytes_max: usize,
    uncommitted_reserve_bytes: usize,
    apply_bytes_max: usize,
    /// Shards whose committed entries wait for room, each at most once.
    waiting: VecDeque<Slot>,
}

impl Totals {
    pub(super) fn new(config: &HostConfig) -> Totals {
        Totals {
            cached_bytes: 0,
            uncommitted_bytes: 0,
            apply_bytes: 0,
            windows: Windows::new(config.window_peer_bytes_max),
            uncommitted_bytes_max: config.uncommitted_bytes_max,
            uncommitted_reserve_bytes: config.uncommitted_reserve_bytes,
            apply_bytes_max: config.apply_bytes_max,
            waiting: VecDeque::new(),
        }
    }

    /// Bytes that a shard may propose now.
    pub(super) fn proposal_room_bytes(&self, shard: &Shard) -> usize {
        let bound = match shard.counted.uncommitted_bytes {
            0 => self.uncommitted_bytes_max + self.uncommitted_reserve_bytes,
            _ => self.uncommitted_bytes_max,
        };
        bound.saturating_sub(self.uncommitted_bytes)
    }

    /// Bytes that may be handed out to be applied now.
    pub(super) fn apply_room_bytes(&self) -> usize {
        self.apply_bytes_max.saturating_sub(self.apply_bytes)
    }

    /// Counts what a shard holds now.
    pub(super) fn count(&mut self, slot: Slot, shard: &mut Shard) {
        let (kernel, counted) = (&shard.kernel, &mut shard.counted);
        let parts = [
            (&mut self.cached_bytes, &mut counted.cached_bytes, kernel.cached_bytes()),
            (
                &mut self.uncommitted_bytes,
                &mut counted.uncommitted_bytes,
                kernel.uncommitted_bytes(),
            ),
            (&mut self.apply_bytes, &mut counted.apply_bytes, kernel.apply_bytes()),
        ];
        for (total, counted, bytes) in parts {
            *total = *total - *counted + bytes;
            *counted = bytes;
        }
        if kernel.awaits_apply_room() && !counted.waits {
            counted.waits = true;
            self.waiting.push_back(slot);
        }
    }

    /// Removes the part of a shard that is given up.
    pub(super) fn uncount(&mut self, slot: Slot, shard: &mut Shard) {
        let counted = std::mem::take(&mut shard.counted);
        self.cached_bytes -= counted.cached_bytes;
        self.uncommitted_bytes -= counted.uncommitted_bytes;
        self.apply_bytes -= counted.apply_bytes;
        self.waiting.retain(|waiting| *waiting != slot);
        shard.kernel.release_windows(&mut self.windows);
    }

    /// The next shard in the queue for room, if there is any and it has room now.
    pub(super) fn take_waiting(&mut self) -> Option<Slot> {
        if self.apply_room_bytes() == 0 { None } else { self.waiting.pop_front() }
    }
}
