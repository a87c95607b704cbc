//! The status of the whole cluster as one node sees it, from the answers of all reachable nodes.
//!
//! It has facts only: the program that shows them to an operator chooses the words.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::Role;
use quorate_types::{ClusterId, Epoch, Incarnation, Index, NodeId, ReplicaId, ShardId, Term};
use serde::{Deserialize, Serialize};

use crate::error::DiskLow;
use crate::state::shards::DamagedReplica;
use crate::status::problems::Problem;
use crate::status::resources::{ResourceStatus, Warning};
use crate::status::snapshots::{IncomingSnapshot, SnapshotCounts};

/// A cluster at one moment, as far as the asked node could find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The node that was asked.
    pub asked: NodeId,
    /// The health that follows from everything below.
    pub health: Health,
    /// What is wrong, the worst first; empty if healthy.
    pub problems: Vec<Problem>,
    /// What is not wrong but worth knowing.
    pub notes: Vec<Note>,
    /// Revision of the asked node's map; 0 before the first map came.
    pub map_revision: u64,
    /// Every known node, ascending.
    pub nodes: Vec<NodeStatus>,
    /// Every known shard, ascending; 0 is the meta shard.
    pub shards: Vec<ShardSummary>,
}

/// The health of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Every node answers and hears every other, every shard has a leader, and all its replicas
    /// keep up.
    Healthy,
    /// Every shard serves, but a further failure may end that.
    Degraded,
    /// Some shard does not serve or takes no writes, or no node could say whether it does.
    Unavailable,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answered and serves.
    Up,
    /// It answered; it has not yet met every founder, so its replicas are silent.
    Founding,
    /// It answered; its log's disk or its state machine hangs, so it gave up its leaderships.
    Stalled,
    /// It answered; its disk is below its floor, so it takes no writes, and hands its leaderships to nodes
    /// that have room. It serves reads.
    ReadOnly,
    /// It answered; a fatal error ended its service.
    Failed,
    /// It did not answer.
    Unreachable,
}

/// Why a node is not up, or why another one has no connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its cluster is being founded, and it has not met these nodes.
    Founding {
        /// The founders that it waits for.
        missing: Vec<NodeId>,
    },
    /// Its log's disk hangs: it neither fails nor completes anything.
    DiskStalled,
    /// Its state machine hangs: it neither fails nor completes anything.
    ApplyStalled,
    /// Its disk is below its floor.
    DiskLow(DiskLow),
    /// A fatal error ended its service: that error's text.
    Fatal(String),
    /// One of the two nodes does not admit the other: the refusal's text, which says what to do.
    NotAdmitted(String),
    /// There is no connection: why the last one ended, or could not be made.
    Disconnected(String),
    /// There was no connection yet, and no failure either.
    NotConnectedYet,
    /// Its address is not known to the node that would connect.
    AddressUnknown,
    /// The connection is up, but no answer came.
    NoAnswer {
        /// How long this node waited.
        within: Duration,
    },
    /// Its answer can't be read: why.
    UnreadableAnswer(String),
    /// It answered with something other than its status: that answer.
    OtherAnswer(String),
    /// The asked node is stopping, and asks no more nodes.
    Stopping,
}

/// What is not wrong with a cluster but worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// [`Engine::balance_leaders`](crate::Engine::balance_leaders) would move leaders.
    LeadersNotSpread {
        /// Shards that are led by nodes that are up.
        led: usize,
        /// The node that leads most, and how many.
        most: (NodeId, usize),
        /// The node that leads fewest, and how many.
        fewest: (NodeId, usize),
        /// How many would move.
        moves: usize,
    },
}

/// One node of a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Its state.
    pub state: NodeState,
    /// Why it is not up.
    pub reason: Option<Reason>,
    /// Where other nodes reach it; empty if that is not known.
    pub address: String,
    /// Where its services listen, by the names that their owner gave them.
    pub services: BTreeMap<String, String>,
    /// Its directory's id, 32 hexadecimal digits, if known.
    pub store: Option<String>,
    /// How often it has started, if it answered.
    pub incarnation: Option<Incarnation>,
    /// Replicas that live there: as it said, or as the map says.
    pub replicas: u64,
    /// Shards that it leads, if it answered.
    pub leaders: Option<u64>,
    /// 99th percentile of its synced batches in microseconds, if it answered.
    pub sync_p99_us: Option<u64>,
    /// Its limited resources, if it answered.
    pub resources: Option<ResourceStatus>,
    /// The snapshots that it sends and receives, if it answered.
    pub snapshots: Option<SnapshotCounts>,
    /// Its replicas that were given up because their bytes are damaged, by shard.
    pub damaged: Vec<DamagedReplica>,
    /// What will end its service unless somebody acts.
    pub warnings: Vec<Warning>,
    /// The other nodes that it has no connection to, ascending, if it answered.
    pub unheard: Vec<UnheardNode>,
}

/// A node that another one has no connection to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnheardNode {
    /// Its id.
    pub node: NodeId,
    /// Why, as the other node reports.
    pub reason: Reason,
}

/// The state of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardState {
    /// It has a leader, and every replica was seen and keeps up.
    Healthy,
    /// It has a leader, but a replica is out of reach, damaged, or lags.
    UnderReplicated,
    /// None of the nodes that were seen leads it.
    NoLeader,
    /// None of its replicas was seen.
    Unknown,
}

/// One shard of a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSummary {
    /// Its id.
    pub shard: ShardId,
    /// Its state.
    pub state: ShardState,
    /// First key.
    pub start: Bytes,
    /// First key after its range; none if there is no bound.
    pub end: Option<Bytes>,
    /// Version of its range, and of its members.
    pub epoch: Epoch,
    /// Newest term seen.
    pub term: Term,
    /// The leader's node in that term.
    pub leader: Option<NodeId>,
    /// Its replicas, in the order of the descriptor.
    pub replicas: Vec<ReplicaSummary>,
}

/// One replica of a [`ShardSummary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSummary {
    /// Its id in the group.
    pub replica: ReplicaId,
    /// Where it lives.
    pub node: NodeId,
    /// Its role in its group; none if its node did not answer.
    pub role: Option<ReplicaRole>,
    /// Last entry of its log, if seen.
    pub last: Option<Index>,
    /// Its commit index, if seen.
    pub commit: Option<Index>,
    /// Its applied index, if seen.
    pub applied: Option<Index>,
    /// The entry before the first of its log, if seen.
    pub base: Option<Index>,
    /// Bytes of its stored log, if seen.
    pub log_bytes: Option<u64>,
    /// About how many bytes its data has; none unless this shard was asked for.
    pub data_bytes: Option<u64>,
    /// By how many entries its log ends before the longest one that was seen. The replicas are asked
    /// one after the other: under load a few entries are no lag.
    pub behind: Option<u64>,
    /// How it lags behind its leader; none if it keeps up, or is not known to lag.
    pub lag: Option<Lag>,
    /// What brings it up to its leader, if it lags.
    pub catch_up: Option<CatchUp>,
    /// The snapshot that it is about to get.
    pub snapshot: Option<IncomingSnapshot>,
    /// What is damaged, if it was given up.
    pub damaged: Option<String>,
}

impl ReplicaSummary {
    /// A replica of which nothing was seen.
    pub(crate) fn unseen(replica: ReplicaId, node: NodeId) -> ReplicaSummary {
        ReplicaSummary {
            replica,
            node,
            role: None,
            last: None,
            commit: None,
            applied: None,
            base: None,
            log_bytes: None,
            data_bytes: None,
            behind: None,
            lag: None,
            catch_up: None,
            snapshot: None,
            damaged: None,
        }
    }
}

/// What brings a replica that lags up to its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// Its leader's log, which holds everything that it lacks.
    Log,
    /// A snapshot, which is under way.
    Snapshot,
    /// A snapshot that is not yet begun: its leader's log no longer holds what it lacks.
    SnapshotAwaited,
}

/// The role of a replica in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaRole {
    /// It leads.
    Leader,
    /// It follows a leader, or waits for one.
    Follower,
    /// It stands for election.
    Candidate,
    /// It asks whether it would be elected.
    PreCandidate,
}

impl From<Role> for ReplicaRole {
    fn from(role: Role) -> ReplicaRole {
        match role {
            Role::Leader => ReplicaRole::Leader,
            Role::Follower => ReplicaRole::Follower,
            Role::Candidate => ReplicaRole::Candidate,
            Role::PreCandidate => ReplicaRole::PreCandidate,
        }
    }
}

/// How a replica lags, found from two statuses more than a second apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lag {
    /// It hears no leader, though there is one.
    Leaderless,
    /// It has not reached the leader's position at the first status, and does not advance.
    Stuck,
    /// It has not reached the leader's position at the first status, but advances.
    CatchingUp,
}

/// Whether a node can serve requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// True if nothing below prevents it.
    pub ready: bool,
    /// True once every founder of the cluster has met this node's directory.
    pub founded: bool,
    /// Founders that it has not met.
    pub founders_missing: Vec<NodeId>,
    /// Shards that live here and know no leader that serves.
    pub shards_without_leader: Vec<ShardId>,
    /// True while the log's disk neither fails nor completes anything.
    pub disk_stalled: bool,
    /// True while entries wait for the state machine, and it neither fails nor completes anything.
    pub apply_stalled: bool,
    /// Set while the disk is below its floor, so that writes of shards led here are refused. That alone
    /// does not make the node unready: it serves reads, and forwards writes.
    #[serde(default)]
    pub disk_low: Option<DiskLow>,
    /// The fatal error that ended service, if any.
    pub fatal: Option<String>,
}

/// The outcome of [`Engine::balance_leaders`](crate::Engine::balance_leaders).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balanced {
    /// Transfers that have begun.
    pub begun: usize,
    /// Transfers that it would take to spread the leaders.
    pub planned: usize,
}

/// The outcome of [`Engine::drain`](crate::Engine::drain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Leaderships that another node is known to have taken.
    pub handed: usize,
    /// Leaderships still held: no other replica was ready in time. A shard in neither number has
    /// lost its leader and has no new one yet.
    pub kept: usize,
}
