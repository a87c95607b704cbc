//! A node of the driver: its parts that survive a restart, and those that do not.

use std::collections::BTreeMap;

use quorate_liveness::{AuditList, BindRequest, Binding};
use quorate_liveness::{
    BoundReplica, ChangeNumber, LeaderMonitor, Lease, LivenessConfig, NodeLiveness, StandingChange,
    Standings, WakeIndex,
};
use quorate_raft::{Member, Membership, TransferOf};
use quorate_types::{
    ClusterId, Duration, Incarnation, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term,
};

/// Shards, each with a replica on every node.
pub(crate) const SHARDS: usize = 2;

/// Messages between replicas: Raft with whole logs of terms, and bindings on top.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Append {
        log: Vec<Term>,
        commit: usize,
    },
    Accepted {
        length: usize,
    },
    Bind(BindRequest),
    Bound(Binding, ChangeNumber),
    /// "Your term is over", with the sender's.
    StaleTerm,
    VoteRequest {
        pre: bool,
        last: LogId,
        transfer: Option<TransferOf>,
    },
    VoteReply {
        pre: bool,
        granted: bool,
    },
    TimeoutNow,
    Release,
    /// Does the receiver lead this term?
    Query,
}

/// What the network carries.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Datagram(Vec<u8>),
    Shard { shard: usize, term: Term, said: Said },
    List { is_of_leader: bool, list: AuditList },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// One replica.
pub(crate) struct Replica {
    // Durable; every write is taken as synced at once.
    pub(crate) term: Term,
    pub(crate) vote: Option<usize>,
    pub(crate) log: Vec<Term>,
    pub(crate) is_quarantined: bool,
    // Volatile.
    pub(crate) commit: usize,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    pub(crate) bound: BoundReplica,
    pub(crate) lease: Option<Lease>,
    pub(crate) watch: Option<LeaderMonitor>,
    pub(crate) matched: Vec<usize>,
    pub(crate) votes: Vec<bool>,
    pub(crate) handed_at: Option<Monotonic>,
    pub(crate) elect_at: Monotonic,
    pub(crate) append_at: Monotonic,
}

impl Replica {
    pub(crate) fn last(&self) -> LogId {
        let term = self.log.last().copied().unwrap_or_default();
        LogId::new(term, quorate_types::Index(self.log.len() as u64))
    }
}

/// One node: a process, its disk and its clock.
pub(crate) struct Node {
    // Durable.
    pub(crate) incarnation: u64,
    pub(crate) longest: Duration,
    pub(crate) replicas: Vec<Replica>,
    // The clock.
    pub(crate) parts_per_million: i64,
    pub(crate) offset_ms: u64,
    // Volatile.
    pub(crate) is_up: bool,
    pub(crate) paused_until_ms: u64,
    pub(crate) heartbeat_thread_at_ms: u64,
    pub(crate) worker_at_ms: u64,
    pub(crate) support: Duration,
    pub(crate) persisting: Option<(u64, Duration)>,
    pub(crate) live: NodeLiveness,
    /// The worker's copy, which lags.
    pub(crate) standings: Standings,
    pub(crate) changes: Vec<StandingChange>,
    pub(crate) index: WakeIndex,
    /// For [`super::rules::Broken::EpochKept`]: how far epochs on the wire lie below the supporter's.
    pub(crate) epochs_hidden: BTreeMap<NodeId, u64>,
    /// For [`super::rules::Broken::ReceiveTime`].
    pub(crate) until_by_receipt: BTreeMap<NodeId, Monotonic>,
    /// For the check that nothing shortens a support.
    pub(crate) supported: BTreeMap<NodeId, (Incarnation, u64, Monotonic)>,
}

pub(crate) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(crate) fn node_of(id: NodeId) -> usize {
    id.0 as usize - 1
}

pub(crate) fn shard_id(shard: usize) -> ShardId {
    ShardId(shard as u64 + 1)
}

pub(crate) fn shard_of(id: ShardId) -> usize {
    id.0 as usize - 1
}

pub(crate) fn member(shard: usize, node: usize) -> Member {
    Member { replica: ReplicaId((shard * 100 + node + 1) as u64), node: node_id(node) }
}

pub(crate) fn membership(shard: usize, nodes: usize) -> Membership {
    Membership::of_voters((0..nodes).map(|node| member(shard, node)))
}

/// The liveness of a process that starts at `now`.
pub(crate) fn start_liveness(
    now: Monotonic,
    node: usize,
    nodes: usize,
    incarnation: u64,
    support: Duration,
    longest_durable: Duration,
) -> NodeLiveness {
    let config = LivenessConfig {
        cluster: ClusterId(7),
        incarnation: Incarnation(incarnation),
        support,
        longest_durable,
        peers: (0..nodes).filter(|peer| *peer != node).map(node_id).collect(),
    };
    NodeLiveness::new(now, &config)
}

/// A new process's memory of a replica; what is durable comes from `old`.
pub(crate) fn start_replica(
    shard: usize,
    node: usize,
    nodes: usize,
    old: Option<Replica>,
) -> Replica {
    let (term, vote, log, is_quarantined) = old.map_or((Term(0), None, Vec::new(), false), |old| {
        (old.term, old.vote, old.log, old.is_quarantined)
    });
    Replica {
        term,
        vote,
        log,
        is_quarantined,
        commit: 0,
        role: Role::Follower,
        leader: None,
        bound: BoundReplica::new(member(shard, node).replica),
        lease: None,
        watch: None,
        matched: vec![0; nodes],
        votes: vec![false; nodes],
        handed_at: None,
        elect_at: Monotonic(0),
        append_at: Monotonic(0),
    }
}
