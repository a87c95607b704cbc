//! What a driver may ask of a host: the view of each shard, and sums over all of them.

use quorate_raft::{Membership, RoleState};
use quorate_types::{Index, LogId, Monotonic, NodeId, ShardId, Term};

use super::Host;

/// The state of one shard, as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// Role, term and leader.
    pub role: RoleState,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Last entry of the log.
    pub last: LogId,
    /// Membership in force.
    pub membership: Membership,
    /// Bytes of runs in memory.
    pub cached_bytes: usize,
    /// The entry before the first of the log.
    pub base: LogId,
    /// Until when this leader answers reads by its lease, on the node's clock; `None` without one.
    pub lease_until: Option<Monotonic>,
    /// The replica is bound to a leader.
    pub is_bound: bool,
    /// The replica sends nothing, and no timer of it runs.
    pub is_quiesced: bool,
    /// The number of callers that wait here.
    pub waiting: usize,
    /// Messages that wait for a sync.
    pub held_messages: usize,
}

impl Host {
    /// What is known of `shard`, if it is hosted here.
    #[must_use]
    pub fn view(&self, shard: ShardId) -> Option<ShardView> {
        let slot = self.shards.find(shard)?;
        let shard = &self.shards[slot];
        Some(ShardView {
            role: shard.kernel.role(),
            commit: shard.kernel.commit(),
            applied: shard.applied(),
            last: shard.kernel.last(),
            membership: shard.kernel.membership().clone(),
            cached_bytes: shard.counted.cached_bytes,
            base: shard.kernel.base(),
            lease_until: self.lease_until(slot),
            is_bound: self.binding(slot).is_some(),
            is_quiesced: shard.kernel.is_quiesced(),
            waiting: shard.waiting(),
            held_messages: shard.held_messages(),
        })
    }

    /// Bytes of log entries that all shards of this host keep in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.totals.cached_bytes
    }

    /// Bytes of cached entries that are not durable here yet, and so can't be evicted.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.shards.shards().map(|shard| shard.kernel.pinned_bytes()).sum()
    }

    /// The term of an entry of a shard's log here, its base included; `None` where it holds none.
    #[must_use]
    pub fn term_at(&self, shard: ShardId, index: Index) -> Option<Term> {
        self.shards[self.shards.find(shard)?].kernel.term_at(index)
    }

    /// The shards hosted here, in the order they were added.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards.shards().map(|shard| shard.id)
    }

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

    /// Whether the disk hangs, as of the last check of the timers.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalls.is_disk_stalled()
    }

    /// Whether the state machines finish nothing, as of the last check of the timers.
    #[must_use]
    pub fn is_apply_stalled(&self) -> bool {
        self.stalls.is_apply_stalled()
    }

    /// True if nothing here should lead.
    pub(super) fn is_unfit(&self) -> bool {
        self.is_stalled() || self.is_apply_stalled()
    }
}
