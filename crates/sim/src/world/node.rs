//! One simulated node: its clock and stores, which outlive its process, and the process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_host::{Event, Host, ShardSnapshot, Ticket};
use quorate_liveness::{NodeLiveness, SupportHeld};
use quorate_machine::StateMachine;
use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId, WallMillis};

use super::apply::ApplyQueue;
use super::clients::Caller;
use super::clock::Clock;
use super::data_store::{DataStore, SpaceId};
use super::log_disk::{LogDisk, ReplicaEnd};
use super::receiving::Receiving;
use super::transfers::SnapshotTransfer;
use super::units::MILLI;

/// A replica that a process hosts, or has given up while entries of it are still being applied.
pub(crate) struct Live {
    pub(crate) replica: ReplicaId,
    /// The space in force: reads are served from it, and entries are applied to it.
    pub(crate) space: SpaceId,
    pub(crate) machine: Box<dyn StateMachine>,
    /// The commit index as last shown.
    pub(crate) commit: Index,
    pub(crate) is_quiesced: bool,
    /// What its apply thread has to do.
    pub(crate) apply: ApplyQueue,
}

impl Live {
    pub(crate) fn new(
        replica: ReplicaId,
        space: SpaceId,
        mut machine: Box<dyn StateMachine>,
    ) -> Live {
        // What such a store commits and loses is not simulated, so it would prove nothing.
        assert!(machine.own_store().is_none(), "a machine here writes into the world's data store");
        let (commit, is_quiesced, apply) = (Index(0), false, ApplyQueue::default());
        Live { replica, space, machine, commit, is_quiesced, apply }
    }
}

/// A node's process: the state that a crash loses.
pub(crate) struct Process {
    pub(crate) host: Host,
    pub(crate) liveness: Option<NodeLiveness>,
    /// The support held of each peer, as the host was last told.
    pub(crate) held: Vec<Option<SupportHeld>>,
    pub(crate) replicas: BTreeMap<ShardId, Live>,
    /// Replicas that were given up, while entries handed out before are still being applied.
    pub(crate) leaving: BTreeMap<(ShardId, ReplicaId), Live>,
    /// Replicas that the worker is to give up in its next turn, and why.
    pub(crate) orders: VecDeque<(ShardId, ReplicaId, &'static str)>,
    /// Replicas that were ordered to be given up.
    pub(crate) doomed: BTreeSet<(ShardId, ReplicaId)>,
    /// Replicas given up since the last turn was carried out: their ends go to the log with the
    /// next one.
    pub(crate) ends: Vec<ReplicaEnd>,
    /// From where on entries are kept for followers at most, as the host was last told.
    pub(crate) kept_from: BTreeMap<ShardId, Index>,
    pub(crate) callers: BTreeMap<Ticket, Caller>,
    /// Events that wait for the worker's next turn.
    pub(crate) inbox: VecDeque<Event>,
    /// Snapshots being sent.
    pub(crate) transfers: BTreeMap<u64, SnapshotTransfer>,
    /// Snapshots that wait until fewer are being sent, the oldest first.
    pub(crate) transfers_waiting: VecDeque<ShardSnapshot>,
    /// Snapshots being received.
    pub(crate) receiving: BTreeMap<ShardId, Receiving>,
}

/// A node; its process is absent while it is down.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// Counts processes: happenings for an earlier one are dropped.
    pub(crate) life: u64,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    pub(crate) disk: LogDisk,
    pub(crate) data: DataStore,
    /// Nothing of the process runs before this true time.
    pub(crate) paused_until: u64,
    /// The worker does not run before this true time.
    pub(crate) hung_until: u64,
    /// When the worker began to hang.
    pub(crate) hung_since: u64,
    /// When its clock last jumped.
    pub(crate) jumped_at: u64,
    /// When the last news of the heartbeat thread reaches the worker.
    pub(crate) news_at: u64,
    /// When the worker's timer is due; `u64::MAX` if it is not armed.
    pub(crate) timer_at: u64,
    /// When the heartbeat thread's timer is due.
    pub(crate) heartbeat_at: u64,
}

impl Node {
    pub(crate) fn new(number: usize, clock: Clock) -> Node {
        Node {
            id: node_id(number),
            life: 0,
            clock,
            process: None,
            disk: LogDisk::default(),
            data: DataStore::default(),
            paused_until: 0,
            hung_until: 0,
            hung_since: 0,
            jumped_at: 0,
            news_at: 0,
            timer_at: u64::MAX,
            heartbeat_at: u64::MAX,
        }
    }

    /// What the node's clock shows.
    pub(crate) fn read(&self, now: u64) -> Monotonic {
        self.clock.read(now)
    }

    /// The node's wall clock: an hour after 1970 plus what its clock shows, and just as wrong.
    pub(crate) fn wall(&self, now: u64) -> WallMillis {
        WallMillis(3_600_000 + self.clock.read(now).0 / MILLI)
    }

    /// The time until which the worker does nothing.
    pub(crate) fn worker_stands_until(&self) -> u64 {
        self.paused_until.max(self.hung_until)
    }

    /// The replica, if the process hosts exactly this id.
    pub(crate) fn live(&mut self, shard: ShardId, replica: ReplicaId) -> Option<&mut Live> {
        let live = self.process.as_mut()?.replicas.get_mut(&shard)?;
        (live.replica == replica).then_some(live)
    }

    /// The replica, if entries of exactly this id may still be applied.
    pub(crate) fn applier(&mut self, shard: ShardId, replica: ReplicaId) -> Option<&mut Live> {
        let process = self.process.as_mut()?;
        match process.replicas.get_mut(&shard) {
            Some(live) if live.replica == replica => Some(live),
            _ => process.leaving.get_mut(&(shard, replica)),
        }
    }

    /// Whether a replica was given up here, and its end is not durable yet.
    pub(crate) fn has_ends_under_way(&self) -> bool {
        let is_begun = self.process.as_ref().is_some_and(|process| !process.ends.is_empty());
        is_begun || self.disk.has_ends_under_way()
    }

    /// Deletes every space that nobody needs any more: no log names it or is about to, no snapshot
    /// is arriving there, and no entries are being applied to it.
    pub(crate) fn sweep_spaces(&mut self) {
        let mut kept: BTreeSet<SpaceId> = self.disk.replicas().map(|(_, log)| log.space).collect();
        kept.extend(self.disk.spaces_under_way());
        if let Some(process) = &self.process {
            kept.extend(process.replicas.values().map(|live| live.space));
            kept.extend(process.leaving.values().map(|live| live.space));
            kept.extend(process.receiving.values().filter_map(Receiving::space));
        }
        self.data.retain(|space| kept.contains(&space));
    }
}

/// The id of the node at a place.
pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId(number as u64 + 1)
}

/// The place of a node.
pub(crate) fn number_of(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("few nodes")
}
