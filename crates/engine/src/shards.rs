//! What the threads of an engine share about each shard that lives here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ReplicaId, ShardId, SpaceId};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

const NO_LEADER: u64 = u64::MAX;

/// One shard as callers and threads see it without asking its worker.
pub(crate) struct ShardState {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) space: SpaceId,
    /// Index of the worker that owns the kernel.
    pub(crate) worker: usize,
    /// In force here: as the shard's own log has it.
    descriptor: RwLock<ShardDescriptor>,
    /// Its version; readers check it after reading, too (RULE 1).
    descriptor_version: AtomicU64,
    leader: AtomicU64,
    serving: AtomicBool,
    leader_changed: Notify,
}

impl ShardState {
    pub(crate) fn new(
        descriptor: ShardDescriptor,
        replica: ReplicaId,
        space: SpaceId,
        worker: usize,
    ) -> ShardState {
        ShardState {
            shard: descriptor.shard,
            replica,
            space,
            worker,
            descriptor_version: AtomicU64::new(descriptor.epoch.version),
            descriptor: RwLock::new(descriptor),
            leader: AtomicU64::new(NO_LEADER),
            serving: AtomicBool::new(false),
            leader_changed: Notify::new(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.descriptor_version.load(Ordering::Acquire)
    }

    pub(crate) fn descriptor(&self) -> ShardDescriptor {
        self.descriptor.read().clone()
    }

    /// The leader's node, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leader.load(Ordering::Acquire) {
            NO_LEADER => None,
            node => Some(NodeId(node)),
        }
    }

    /// True if the leader is known and, where it is this node, ready to serve reads.
    pub(crate) fn is_ready(&self, node: NodeId) -> bool {
        self.leader().is_some_and(|leader| leader != node || self.serving.load(Ordering::Acquire))
    }

    pub(crate) fn set_leader(&self, leader: Option<NodeId>, serving: bool) {
        self.serving.store(serving, Ordering::Release);
        let leader = leader.map_or(NO_LEADER, |node| node.0);
        self.leader.store(leader, Ordering::Release);
        self.leader_changed.notify_waiters();
    }

    /// Ends at the next change of leader.
    pub(crate) fn leader_changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.leader_changed.notified()
    }
}

/// Every shard that lives here.
pub(crate) struct Shards {
    by_id: FxHashMap<ShardId, Arc<ShardState>>,
}

impl Shards {
    pub(crate) fn new(states: Vec<Arc<ShardState>>) -> Shards {
        Shards { by_id: states.into_iter().map(|state| (state.shard, state)).collect() }
    }

    pub(crate) fn get(&self, shard: ShardId) -> Option<&Arc<ShardState>> {
        self.by_id.get(&shard)
    }

    /// The shards that live here, ascending.
    pub(crate) fn all(&self) -> Vec<&Arc<ShardState>> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|state| state.shard);
        all
    }
}
