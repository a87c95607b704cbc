//! The whole cluster as one node sees it: what every reachable node said of itself, put together.
//!
//! The types are the documented JSON of `quorate status -o json` (docs/operations.md); fields are
//! added, never renamed or removed, within one `schema`.

use serde::{Deserialize, Serialize};

use crate::status::resources::ResourceStatus;

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// A cluster at one moment, as far as the asked node could find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
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
    /// What is not wrong, and worth to be known.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Revision of the asked node's map; 0 before the first one came.
    pub map_revision: u64,
    /// Every known node, ascending.
    pub nodes: Vec<NodeStatus>,
    /// Every known shard, ascending; 0 is the meta shard.
    pub shards: Vec<ShardSummary>,
}

/// How a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Every node answers and hears every other, every shard has a leader, and all its replicas
    /// keep up.
    Healthy,
    /// Every shard serves, but a further failure may end that.
    Degraded,
    /// Some shard does not serve, or nobody could say whether it does.
    Unavailable,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answered and serves.
    Up,
    /// It answered; it has not yet met every founder, so its replicas are silent.
    Founding,
    /// It answered; its log's disk or its state machine hangs, so it gave up its leaderships.
    Stalled,
    /// It answered; a fatal error ended its service.
    Failed,
    /// It did not answer.
    Unreachable,
}

/// One node of a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: u64,
    /// How it is.
    pub state: NodeState,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Where other nodes reach it.
    pub address: String,
    /// Where its services listen: `redis`, `admin`.
    pub services: std::collections::BTreeMap<String, String>,
    /// Its directory's id, 32 hexadecimal digits, if known.
    pub store: Option<String>,
    /// How often it has started, if it answered.
    pub incarnation: Option<u64>,
    /// Replicas that live there: as it said, or as the map says.
    pub replicas: u64,
    /// Shards that it leads, if it answered.
    pub leaders: Option<u64>,
    /// 99th percentile of its synced batches in microseconds, if it answered.
    pub sync_p99_us: Option<u64>,
    /// What is left there of what runs out, if it answered.
    #[serde(default)]
    pub resources: Option<ResourceStatus>,
    /// What should be done about it before its service ends, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The other nodes that it has no connection to, ascending, if it answered.
    #[serde(default)]
    pub unheard: Vec<UnheardNode>,
}

/// A node that another one has no connection to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnheardNode {
    /// Its id.
    pub node: u64,
    /// Why, as the other one knows.
    pub reason: String,
}

/// How a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardState {
    /// It has a leader, and every replica was seen and keeps up.
    Healthy,
    /// It has a leader, and a replica is out of reach or lags.
    UnderReplicated,
    /// No node that was seen leads it.
    NoLeader,
    /// None of its replicas was seen.
    Unknown,
}

/// One shard of a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSummary {
    /// Its id.
    pub shard: u64,
    /// How it is.
    pub state: ShardState,
    /// First key, as lower-case hexadecimal.
    pub start: String,
    /// First key beyond, as lower-case hexadecimal; none: no bound.
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
    pub replicas: Vec<ReplicaSummary>,
}

/// One replica of a [`ShardSummary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSummary {
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
    /// How it lags behind its leader; none if it keeps up, or is not known to lag.
    #[serde(default)]
    pub lag: Option<Lag>,
}

/// How a replica lags: found by two looks, more than a second apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lag {
    /// It hears no leader, though there is one.
    Leaderless,
    /// It has not come to where the leader was, and does not move.
    Stuck,
    /// It has not come to where the leader was, and moves.
    CatchingUp,
}

/// Whether a node can serve what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// True if nothing below stands against it.
    pub ready: bool,
    /// True once every founder of the cluster has met this node's directory.
    pub founded: bool,
    /// Founders that it has not met.
    pub founders_missing: Vec<u64>,
    /// Shards that live here and know no leader that serves.
    pub shards_without_leader: Vec<u64>,
    /// True while the log's disk fails nothing and finishes nothing.
    pub disk_stalled: bool,
    /// True while entries wait for the state machine, and it fails nothing and finishes nothing.
    pub apply_stalled: bool,
    /// The fatal error that ended service, if any.
    pub fatal: Option<String>,
}

/// What came of [`Engine::balance_leaders`](crate::Engine::balance_leaders).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balanced {
    /// Transfers that have begun.
    pub begun: usize,
    /// Transfers that it would take to spread the leaders.
    pub planned: usize,
}

/// What came of [`Engine::drain`](crate::Engine::drain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Leaderships that another node is known to have taken.
    pub handed: usize,
    /// Leaderships still held: no other replica was ready in time. What is in neither number has
    /// lost its leader and not found another yet.
    pub kept: usize,
}
