//! One simulated node: its clock and stores, which outlive its process, and the process.

use std::collections::{BTreeMap, VecDeque};

use quorate_host::{Apply, Event, Host, Ticket};
use quorate_liveness::{NodeLiveness, SupportHeld};
use quorate_machine::StateMachine;
use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId, WallMillis};

use super::MILLI;
use super::clients::Caller;
use super::clock::Clock;
use super::data_store::{DataStore, SpaceId};
use super::log_disk::LogDisk;
use super::snapshots::{Receiving, SnapshotTransfer};

/// A replica that a process hosts.
pub(crate) struct Live {
    pub(crate) replica: ReplicaId,
    pub(crate) space: SpaceId,
    pub(crate) machine: Box<dyn StateMachine>,
    /// The commit index as last shown.
    pub(crate) commit: Index,
    pub(crate) is_quiesced: bool,
    /// Applies handed out and not yet done, oldest first.
    pub(crate) applying: VecDeque<Apply>,
    /// When the last of `applying` is applied.
    pub(crate) apply_at: u64,
}

/// A node's process: the state that a crash loses.
pub(crate) struct Process {
    pub(crate) host: Host,
    pub(crate) liveness: Option<NodeLiveness>,
    /// The support held of each peer, as the host was last told.
    pub(crate) held: Vec<Option<SupportHeld>>,
    pub(crate) replicas: BTreeMap<ShardId, Live>,
    pub(crate) callers: BTreeMap<Ticket, Caller>,
    /// Events that wait for the worker's next turn.
    pub(crate) inbox: VecDeque<Event>,
    /// Snapshots being sent.
    pub(crate) transfers: BTreeMap<u64, SnapshotTransfer>,
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
}

/// The id of the node at a place.
pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId(number as u64 + 1)
}

/// The place of a node.
pub(crate) fn number_of(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("few nodes")
}
