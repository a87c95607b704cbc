//! What the threads of an engine share about each shard that lives here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use quorate_router::RouteMap;
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
    /// Version of the descriptor in force; readers check it after reading, too (RULE 1).
    pub(crate) descriptor_version: AtomicU64,
    leader: AtomicU64,
    serving: AtomicBool,
    leader_changed: Notify,
}

impl ShardState {
    pub(crate) fn new(
        shard: ShardId,
        replica: ReplicaId,
        space: SpaceId,
        worker: usize,
        descriptor_version: u64,
    ) -> ShardState {
        ShardState {
            shard,
            replica,
            space,
            worker,
            descriptor_version: AtomicU64::new(descriptor_version),
            leader: AtomicU64::new(NO_LEADER),
            serving: AtomicBool::new(false),
            leader_changed: Notify::new(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.descriptor_version.load(Ordering::Acquire)
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

/// Every shard that lives here, and the map of all shards.
pub(crate) struct Shards {
    by_id: FxHashMap<ShardId, Arc<ShardState>>,
    routes: RwLock<RouteMap>,
}

impl Shards {
    pub(crate) fn new(states: Vec<Arc<ShardState>>, routes: RouteMap) -> Shards {
        let by_id = states.into_iter().map(|state| (state.shard, state)).collect();
        Shards { by_id, routes: RwLock::new(routes) }
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

    pub(crate) fn routes(&self) -> parking_lot::RwLockReadGuard<'_, RouteMap> {
        self.routes.read()
    }
}
