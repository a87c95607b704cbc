//! The whole cluster as the JSON of `quorate status -o json` and of `GET /cluster`.
//!
//! Documented in docs/operations.md: fields are added, never renamed or removed, within one `schema`.

use std::collections::BTreeMap;

use quorate::{
    CatchUp, ClusterStatus, DamagedReplica, Health, IncomingSnapshot, Lag, NodeState, NodeStatus,
    ReplicaRole, ReplicaSummary, ResourceStatus, ShardState, ShardSummary, SnapshotCounts,
    UnheardNode,
};
use serde::{Deserialize, Serialize};

use super::problems::{note, sentences};
use super::reasons::{reason, reason_elsewhere, warning};

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// A cluster at one moment, as far as the asked node could find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The node that was asked.
    pub asked: u64,
    /// The verdict over everything below.
    pub health: Health,
    /// What is wrong, one sentence each, with the remedy; empty if healthy.
    pub problems: Vec<String>,
    /// Facts worth knowing, though nothing is wrong.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Revision of the asked node's map; 0 before the first one came.
    pub map_revision: u64,
    /// Every known node, ascending.
    pub nodes: Vec<NodeReport>,
    /// Every known shard, ascending; 0 is the meta shard.
    pub shards: Vec<ShardReport>,
}

/// One node of a [`ClusterReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its id.
    pub node: u64,
    /// Its state.
    pub state: NodeState,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Where other nodes reach it.
    pub address: String,
    /// Where its services listen: `redis`, `admin`.
    pub services: BTreeMap<String, String>,
    /// Its directory's id, 32 hexadecimal digits, if known.
    pub store: Option<String>,
    /// How often it has started, if it answered.
    pub incarnation: Option<u64>,
    /// Replicas on it: by its own answer, or by the map.
    pub replicas: u64,
    /// Shards that it leads, if it answered.
    pub leaders: Option<u64>,
    /// 99th percentile of its synced batches in microseconds, if it answered.
    pub sync_p99_us: Option<u64>,
    /// What is left of its limited resources, if it answered.
    #[serde(default)]
    pub resources: Option<ResourceStatus>,
    /// How many snapshots it sends and receives, if it answered.
    #[serde(default)]
    pub snapshots: Option<SnapshotCounts>,
    /// Its replicas that were given up because their bytes are damaged.
    #[serde(default)]
    pub damaged: Vec<DamagedReplica>,
    /// What an operator should do before its service ends, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The other nodes that it has no connection to, ascending, if it answered.
    #[serde(default)]
    pub unheard: Vec<UnconnectedNode>,
}

/// A node that another one has no connection to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnconnectedNode {
    /// Its id.
    pub node: u64,
    /// Why, as the other node reports it.
    pub reason: String,
}

/// One shard of a [`ClusterReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Its id.
    pub shard: u64,
    /// Its state.
    pub state: ShardState,
    /// First key, as lower-case hexadecimal.
    pub start: String,
    /// First key after its range, as lower-case hexadecimal; none: no bound.
    pub end: Option<String>,
    /// How often its range changed.
    pub version: u64,
    /// How often its members changed.
    pub membership: u64,
    /// Newest term seen.
    pub term: u64,
    /// The leader's node in that term.
    pub leader: Option<u64>,
    /// Its replicas, in the order of the descriptor.
    pub replicas: Vec<ReplicaReport>,
}

/// One replica of a [`ShardReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Its id in the group.
    pub replica: u64,
    /// Where it lives.
    pub node: u64,
    /// `leader`, `follower`, `candidate`, `pre-candidate`; none if its node did not answer.
    pub role: Option<String>,
    /// Last entry of its log, if seen.
    pub last: Option<u64>,
    /// Its commit index, if seen.
    pub commit: Option<u64>,
    /// Its applied index, if seen.
    pub applied: Option<u64>,
    /// The entry before the first of its log, if seen.
    #[serde(default)]
    pub base: Option<u64>,
    /// Entries of its log, if seen.
    #[serde(default)]
    pub log_entries: Option<u64>,
    /// Bytes of its stored log, if seen.
    #[serde(default)]
    pub log_bytes: Option<u64>,
    /// About how many bytes its data has; none unless this shard was asked for.
    #[serde(default)]
    pub data_bytes: Option<u64>,
    /// By how many entries its log ends before the longest one that was seen.
    #[serde(default)]
    pub behind: Option<u64>,
    /// How it lags behind its leader; none if it keeps up, or is not known to lag.
    #[serde(default)]
    pub lag: Option<Lag>,
    /// What brings it up to its leader, if it lags.
    #[serde(default)]
    pub catch_up: Option<CatchUp>,
    /// The snapshot that it is about to get.
    #[serde(default)]
    pub snapshot: Option<IncomingSnapshot>,
    /// What is damaged, if it was given up.
    #[serde(default)]
    pub damaged: Option<String>,
}

impl From<&ClusterStatus> for ClusterReport {
    fn from(status: &ClusterStatus) -> ClusterReport {
        ClusterReport {
            schema: SCHEMA,
            cluster: status.cluster.to_string(),
            asked: status.asked.0,
            health: status.health,
            problems: sentences(&status.problems),
            notes: status.notes.iter().map(note).collect(),
            map_revision: status.map_revision,
            nodes: status.nodes.iter().map(NodeReport::from).collect(),
            shards: status.shards.iter().map(ShardReport::from).collect(),
        }
    }
}

impl From<&NodeStatus> for NodeReport {
    fn from(status: &NodeStatus) -> NodeReport {
        NodeReport {
            node: status.node.0,
            state: status.state,
            reason: status.reason.as_ref().map(reason),
            address: status.address.clone(),
            services: status.services.clone(),
            store: status.store.clone(),
            incarnation: status.incarnation.map(|incarnation| incarnation.0),
            replicas: status.replicas,
            leaders: status.leaders,
            sync_p99_us: status.sync_p99_us,
            resources: status.resources.clone(),
            snapshots: status.snapshots,
            damaged: status.damaged.clone(),
            warnings: status.warnings.iter().map(warning).collect(),
            unheard: status.unheard.iter().map(UnconnectedNode::from).collect(),
        }
    }
}

impl From<&UnheardNode> for UnconnectedNode {
    fn from(unheard: &UnheardNode) -> UnconnectedNode {
        UnconnectedNode { node: unheard.node.0, reason: reason_elsewhere(&unheard.reason) }
    }
}

impl From<&ShardSummary> for ShardReport {
    fn from(shard: &ShardSummary) -> ShardReport {
        ShardReport {
            shard: shard.shard.0,
            state: shard.state,
            start: hex(&shard.start),
            end: shard.end.as_deref().map(hex),
            version: shard.epoch.version,
            membership: shard.epoch.membership,
            term: shard.term.0,
            leader: shard.leader.map(|leader| leader.0),
            replicas: shard.replicas.iter().map(ReplicaReport::from).collect(),
        }
    }
}

impl From<&ReplicaSummary> for ReplicaReport {
    fn from(replica: &ReplicaSummary) -> ReplicaReport {
        ReplicaReport {
            replica: replica.replica.0,
            node: replica.node.0,
            role: replica.role.map(role_name),
            last: replica.last.map(|index| index.0),
            commit: replica.commit.map(|index| index.0),
            applied: replica.applied.map(|index| index.0),
            base: replica.base.map(|index| index.0),
            log_entries: replica.last.zip(replica.base).map(|(last, base)| last.0 - base.0),
            log_bytes: replica.log_bytes,
            data_bytes: replica.data_bytes,
            behind: replica.behind,
            lag: replica.lag,
            catch_up: replica.catch_up,
            snapshot: replica.snapshot,
            damaged: replica.damaged.clone(),
        }
    }
}

fn role_name(role: ReplicaRole) -> String {
    match role {
        ReplicaRole::Leader => "leader",
        ReplicaRole::Follower => "follower",
        ReplicaRole::Candidate => "candidate",
        ReplicaRole::PreCandidate => "pre-candidate",
    }
    .to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
