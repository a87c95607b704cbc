//! What all shards of a host hold together, beside the bounds that each has for itself (RULE 18).
//!
//! - **Proposed and not committed**: past the bound, and past a reserve in which every shard that has
//!   nothing under way may still begin, callers are told that the node is busy.
//! - **Handed out and not applied**: past the bound nothing is handed out. Shards that have something
//!   wait in a queue, which moves as entries are applied.
//! - **Under way to each peer**: see [`Windows`].
//! - **Cached entries**: see `Host::evict`.

use std::collections::VecDeque;

use quorate_raft::Windows;
use quorate_types::NodeId;

use crate::host::Host;

/// See the module.
pub(crate) struct Totals {
    pub(crate) cached_bytes: usize,
    uncommitted_bytes: usize,
    apply_bytes: usize,
    pub(crate) windows: Windows,
    /// Slots of shards whose committed entries wait for room, each at most once.
    waiting: VecDeque<usize>,
}

/// A shard's part of them, as it was last counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) cached_bytes: usize,
    uncommitted_bytes: usize,
    apply_bytes: usize,
    /// It stands in the queue for room.
    waits: bool,
}

impl Totals {
    pub(crate) fn new(window_peer_bytes_max: usize) -> Totals {
        Totals {
            cached_bytes: 0,
            uncommitted_bytes: 0,
            apply_bytes: 0,
            windows: Windows::new(window_peer_bytes_max),
            waiting: VecDeque::new(),
        }
    }
}

impl Host {
    /// Bytes that all shards here have proposed and not committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> usize {
        self.totals.uncommitted_bytes
    }

    /// Bytes that all shards here have handed out, or are reading back to be handed out, and not
    /// applied.
    #[must_use]
    pub fn apply_bytes(&self) -> usize {
        self.totals.apply_bytes
    }

    /// Bytes of appends that all shards here have under way to a peer.
    #[must_use]
    pub fn window_bytes(&self, peer: NodeId) -> usize {
        self.totals.windows.bytes(peer)
    }

    /// Bytes that a shard may propose now.
    pub(crate) fn proposal_room_bytes(&self, slot: usize) -> usize {
        let bound = match self.shards[slot].counted.uncommitted_bytes {
            0 => self.config.uncommitted_bytes_max + self.config.uncommitted_reserve_bytes,
            _ => self.config.uncommitted_bytes_max,
        };
        bound.saturating_sub(self.totals.uncommitted_bytes)
    }

    /// Bytes that may be handed out to be applied now.
    pub(crate) fn apply_room_bytes(&self) -> usize {
        self.config.apply_bytes_max.saturating_sub(self.totals.apply_bytes)
    }

    /// Looks at what a shard holds now.
    pub(crate) fn count(&mut self, slot: usize) {
        let (shard, totals) = (&mut self.shards[slot], &mut self.totals);
        let (kernel, counted) = (&shard.kernel, &mut shard.counted);
        let parts = [
            (&mut totals.cached_bytes, &mut counted.cached_bytes, kernel.cached_bytes()),
            (
                &mut totals.uncommitted_bytes,
                &mut counted.uncommitted_bytes,
                kernel.uncommitted_bytes(),
            ),
            (&mut totals.apply_bytes, &mut counted.apply_bytes, kernel.apply_bytes()),
        ];
        for (total, counted, bytes) in parts {
            *total = *total - *counted + bytes;
            *counted = bytes;
        }
        if kernel.awaits_apply_room() && !counted.waits {
            counted.waits = true;
            totals.waiting.push_back(slot);
        }
    }

    /// Takes a shard's part out: it is given up.
    pub(crate) fn uncount(&mut self, slot: usize) {
        let (shard, totals) = (&mut self.shards[slot], &mut self.totals);
        totals.cached_bytes -= shard.counted.cached_bytes;
        totals.uncommitted_bytes -= shard.counted.uncommitted_bytes;
        totals.apply_bytes -= shard.counted.apply_bytes;
        totals.waiting.retain(|waiting| *waiting != slot);
        shard.counted = Counted::default();
        shard.kernel.release_windows(&mut totals.windows);
    }

    /// The next shard that has waited for room to be handed entries, if there is any.
    pub(crate) fn next_waiting(&mut self) -> Option<usize> {
        if self.apply_room_bytes() == 0 {
            return None;
        }
        let slot = self.totals.waiting.pop_front()?;
        self.shards[slot].counted.waits = false;
        Some(slot)
    }
}
