//! What the threads of an engine share about each shard that lives here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use quorate_machine::{AppliedRecord, StoreFault};
use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId, SpaceId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::state::clock;
use crate::state::position::PositionCell;

const NO_LEADER: u64 = u64::MAX;

/// The leadership of a shard, as one of its replicas knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's node, if known. Another node may have taken over already.
    pub leader: Option<NodeId>,
    /// True if the watching node itself leads and has committed an entry of its term, so that it
    /// serves reads and writes (thesis 6.4). Always false elsewhere.
    pub serving: bool,
}

/// A replica that was given up: its stored bytes are not what was written, so it may have lost what it
/// promised (RULE 5), or the store that its state machine keeps fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedReplica {
    /// Its shard.
    pub shard: ShardId,
    /// Its id in the group.
    pub replica: ReplicaId,
    /// What is wrong with it.
    pub what: String,
    /// True if only its machine's own store failed: it has lost nothing that it promised, and is tried
    /// again at the node's next start.
    #[serde(default)]
    pub until_restart: bool,
}

impl DamagedReplica {
    /// One whose stored bytes are not what was written.
    pub(crate) fn for_good(shard: ShardId, replica: ReplicaId, what: String) -> DamagedReplica {
        DamagedReplica { shard, replica, what, until_restart: false }
    }

    /// One whose own store has this fault.
    pub(crate) fn of_store(
        shard: ShardId,
        replica: ReplicaId,
        fault: &StoreFault,
    ) -> DamagedReplica {
        let (what, until_restart) = match fault {
            StoreFault::Damaged(what) => (format!("its own store is damaged: {what}"), false),
            StoreFault::Failed(what) => (format!("its own store fails: {what}"), true),
        };
        DamagedReplica { shard, replica, what, until_restart }
    }
}

/// One shard as callers and threads see it without asking its worker.
pub(crate) struct LocalShard {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    /// Where its data is kept. Another one once a snapshot was put in force.
    space: AtomicU64,
    /// Index of the worker that owns the kernel.
    pub(crate) worker: usize,
    /// The descriptor in force here, from the shard's own log.
    descriptor: RwLock<ShardDescriptor>,
    /// The descriptor's version; readers check it after reading, too (RULE 1).
    descriptor_version: AtomicU64,
    /// Why the replica was given up, if it was.
    ended: OnceLock<DamagedReplica>,
    /// Through where the state machine's own store is durable, as far as this process knows; `None`
    /// if the machine writes into the engine's data store.
    own_synced: Option<AtomicU64>,
    /// How far it has come here.
    pub(crate) position: PositionCell,
    /// The same as in `leadership`; every request reads these.
    leader: AtomicU64,
    serving: AtomicBool,
    /// When the last leader was lost, on the node's clock; meaningful only while there is none.
    leader_lost_ns: AtomicU64,
    leadership: watch::Sender<Leadership>,
}

impl LocalShard {
    pub(crate) fn new(
        descriptor: ShardDescriptor,
        replica: ReplicaId,
        space: SpaceId,
        worker: usize,
        applied: Index,
    ) -> LocalShard {
        LocalShard {
            shard: descriptor.shard,
            replica,
            space: AtomicU64::new(space.0),
            ended: OnceLock::new(),
            own_synced: None,
            worker,
            descriptor_version: AtomicU64::new(descriptor.epoch.version),
            descriptor: RwLock::new(descriptor),
            leader: AtomicU64::new(NO_LEADER),
            leader_lost_ns: AtomicU64::new(clock::now().0),
            serving: AtomicBool::new(false),
            leadership: watch::Sender::new(Leadership::default()),
            position: PositionCell::new(applied),
        }
    }

    /// The same for a replica whose state machine keeps a store of its own.
    pub(crate) fn with_own_store(self) -> LocalShard {
        LocalShard { own_synced: Some(AtomicU64::new(0)), ..self }
    }

    /// Whether the state machine keeps a store of its own.
    pub(crate) fn keeps_own_store(&self) -> bool {
        self.own_synced.is_some()
    }

    /// The last entry that the state machine's own store has made durable since the engine was opened;
    /// `None` if the machine keeps none, index 0 if it was not asked yet.
    pub(crate) fn own_synced(&self) -> Option<Index> {
        self.own_synced.as_ref().map(|index| Index(index.load(Ordering::Acquire)))
    }

    /// The own store is durable through `index`.
    pub(crate) fn note_own_synced(&self, index: Index) {
        let synced = self.own_synced.as_ref().expect("only own stores are synced");
        synced.fetch_max(index.0, Ordering::AcqRel);
    }

    /// Where its data is. A reader asks again after it has read: the space may have been replaced
    /// and deleted meanwhile.
    pub(crate) fn space(&self) -> SpaceId {
        SpaceId(self.space.load(Ordering::Acquire))
    }

    /// From now on the data in `space`, with its `record`, is the replica's.
    pub(crate) fn put_in_force(&self, space: SpaceId, record: &AppliedRecord) {
        self.follow(record);
        self.space.store(space.0, Ordering::Release);
        self.position.skip_to(record.applied.index);
    }

    /// From now on the descriptor of `record` is in force.
    pub(crate) fn follow(&self, record: &AppliedRecord) {
        *self.descriptor.write() = descriptor_of(self.shard, record);
        self.descriptor_version.store(record.epoch.version, Ordering::Release);
    }

    /// Notes why the replica was given up; it serves nothing from now on.
    pub(crate) fn end(&self, damaged: DamagedReplica) {
        // The first reason is the one that counts.
        let _first = self.ended.set(damaged);
        self.set_leader(None, false);
        // Who waits for its position learns that it comes no further.
        self.position.announce();
    }

    /// How the replica was given up first; `None` while it serves.
    pub(crate) fn end_reason(&self) -> Option<&DamagedReplica> {
        self.ended.get()
    }

    /// Why the replica was given up; `None` while it serves.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.get().map(|damaged| &damaged.what[..])
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

    /// How long no leader has been known; zero while one is.
    pub(crate) fn leaderless_for(&self) -> Duration {
        if self.leader().is_some() {
            return Duration::ZERO;
        }
        clock::now().since(Monotonic(self.leader_lost_ns.load(Ordering::Acquire)))
    }

    pub(crate) fn set_leader(&self, leader: Option<NodeId>, serving: bool) {
        self.serving.store(serving, Ordering::Release);
        if leader.is_none() && self.leader().is_some() {
            self.leader_lost_ns.store(clock::now().0, Ordering::Release);
        }
        self.leader.store(leader.map_or(NO_LEADER, |node| node.0), Ordering::Release);
        let new = Leadership { leader, serving };
        // A term that ends without a leader changes nothing for those who wait.
        self.leadership.send_if_modified(|known| std::mem::replace(known, new) != new);
    }

    pub(crate) fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Completes at the next change of leadership after this call.
    pub(crate) fn leader_changed(&self) -> impl Future<Output = ()> + use<> {
        let mut changes = self.leadership.subscribe();
        async move {
            let changed = changes.changed().await;
            changed.expect("a shard's state outlives those who wait for it");
        }
    }
}

/// The descriptor that an applied record holds.
pub(crate) fn descriptor_of(shard: ShardId, record: &AppliedRecord) -> ShardDescriptor {
    let members = record.membership.members();
    ShardDescriptor {
        shard,
        start: record.start.clone(),
        end: record.end.clone(),
        epoch: record.epoch,
        members: members.map(|m| Replica { replica: m.replica, node: m.node }).collect(),
    }
}

/// Every shard that lives here.
pub(crate) struct Shards {
    by_id: FxHashMap<ShardId, Arc<LocalShard>>,
    /// What the start found damaged.
    damaged: Vec<DamagedReplica>,
}

impl Shards {
    pub(crate) fn new(states: Vec<Arc<LocalShard>>, damaged: Vec<DamagedReplica>) -> Shards {
        Shards { by_id: states.into_iter().map(|state| (state.shard, state)).collect(), damaged }
    }

    /// The replicas that were given up because they are damaged, by shard.
    pub(crate) fn damaged(&self) -> Vec<DamagedReplica> {
        let meanwhile = self.by_id.values().filter_map(|state| state.ended.get());
        let mut all: Vec<_> = self.damaged.iter().chain(meanwhile).cloned().collect();
        all.sort_by_key(|damaged| damaged.shard);
        all
    }

    /// The shard, if a replica of it serves here.
    pub(crate) fn get(&self, shard: ShardId) -> Option<&Arc<LocalShard>> {
        self.by_id.get(&shard).filter(|state| state.ended.get().is_none())
    }

    /// The shard, also if its replica was given up.
    pub(crate) fn find(&self, shard: ShardId) -> Option<&Arc<LocalShard>> {
        self.by_id.get(&shard)
    }

    /// The shards that are served here, ascending.
    pub(crate) fn all(&self) -> Vec<&Arc<LocalShard>> {
        let mut all: Vec<_> = self.by_id.values().filter(|it| it.ended.get().is_none()).collect();
        all.sort_by_key(|state| state.shard);
        all
    }
}
