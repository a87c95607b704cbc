//! What is wrong with a cluster, as facts: the program that shows them chooses the words.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, ShardId};

use crate::state::shards::DamagedReplica;
use crate::status::cluster_status::{
    CatchUp, Lag, NodeState, NodeStatus, Reason, ReplicaSummary, ShardState, ShardSummary,
};
use crate::status::resources::Warning;
use crate::status::snapshots::seconds_left;

/// Something that an operator has to know and can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A node does not serve.
    NodeNotUp {
        /// Which one.
        node: NodeId,
        /// Its state.
        state: NodeState,
        /// Where other nodes should reach it; empty if that is not known.
        address: String,
        /// Why it is so, if that is known.
        reason: Option<Reason>,
    },
    /// No replica of these shards was seen.
    ShardsUnseen(Vec<ShardId>),
    /// These shards have no leader.
    ShardsLeaderless(Vec<ShardId>),
    /// Two nodes answer others, but have no connection to each other.
    NodesApart {
        /// Both, with their addresses, the lower id first.
        nodes: [(NodeId, String); 2],
        /// The reason that each of them gives, if it has no connection.
        reasons: Vec<(NodeId, Reason)>,
    },
    /// These shards serve, but lack a replica whose node does not answer.
    ReplicasOutOfReach(Vec<ShardId>),
    /// Replicas of one node lag behind.
    ReplicasBehind {
        /// The node.
        node: NodeId,
        /// How they lag.
        lag: Lag,
        /// Their shards.
        shards: Vec<ShardId>,
        /// The leaders of these shards, without the node itself.
        leaders: Vec<NodeId>,
        /// What is left of the snapshots that it needs for some of them.
        snapshots: Option<SnapshotsLeft>,
    },
    /// A node has given up replicas because their stored bytes are not what was written. They may have
    /// lost what they promised, so they have to be replaced (RULE 5).
    ReplicasDamaged {
        /// The node.
        node: NodeId,
        /// The replicas, by shard.
        replicas: Vec<DamagedReplica>,
        /// Those of their shards that have no leader.
        leaderless: Vec<ShardId>,
    },
    /// Something will end a node's service.
    Warning {
        /// The node.
        node: NodeId,
        /// The warning.
        warning: Warning,
    },
}

/// What is left of the snapshots that a node needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotsLeft {
    /// Those that are under way.
    pub under_way: usize,
    /// Those that are not yet begun; their bytes are not known.
    pub awaited: usize,
    /// About how many bytes are left of those under way.
    pub bytes_left: u64,
    /// Their rate.
    pub bytes_per_second: u64,
    /// How long these bytes take at that rate; none if nothing arrives, or nothing is left.
    pub seconds_left: Option<u64>,
}

/// What an operator has to know, the worst first.
pub(crate) fn problems(nodes: &[NodeStatus], shards: &[ShardSummary]) -> Vec<Problem> {
    let is_founding = |node: &&NodeStatus| node.state == NodeState::Founding;
    let mut problems: Vec<Problem> = nodes.iter().filter(is_founding).map(not_up).collect();
    // Before the cluster is founded no shard has a leader: this would only repeat the problem.
    if problems.is_empty() {
        let in_state = |state| some(shards, |shard| shard.state == state);
        problems.extend(in_state(ShardState::Unknown).map(Problem::ShardsUnseen));
        problems.extend(in_state(ShardState::NoLeader).map(Problem::ShardsLeaderless));
    }
    let is_down = |node: &&NodeStatus| !matches!(node.state, NodeState::Up | NodeState::Founding);
    problems.extend(nodes.iter().filter(is_down).map(not_up));
    problems.extend(nodes.iter().filter_map(|node| replicas_damaged(node, shards)));
    problems.extend(nodes_apart(nodes));
    problems.extend(some(shards, lacks_a_replica).map(Problem::ReplicasOutOfReach));
    problems.extend(replicas_behind(shards));
    for node in nodes {
        // A disk below its floor is told as the reason why its node is not up.
        let warnings =
            node.warnings.iter().filter(|it| !matches!(it, Warning::DiskLow(_))).cloned();
        problems.extend(warnings.map(|warning| Problem::Warning { node: node.node, warning }));
    }
    problems
}

fn not_up(status: &NodeStatus) -> Problem {
    Problem::NodeNotUp {
        node: status.node,
        state: status.state,
        address: status.address.clone(),
        reason: status.reason.clone(),
    }
}

/// The shards that are `wanted`, if there are any.
fn some(shards: &[ShardSummary], wanted: impl Fn(&ShardSummary) -> bool) -> Option<Vec<ShardId>> {
    let found = shards.iter().filter(|shard| wanted(shard)).map(|shard| shard.shard);
    let found: Vec<ShardId> = found.collect();
    (!found.is_empty()).then_some(found)
}

fn lacks_a_replica(shard: &ShardSummary) -> bool {
    let is_unseen = |replica: &ReplicaSummary| replica.role.is_none() && replica.damaged.is_none();
    shard.state == ShardState::UnderReplicated && shard.replicas.iter().any(is_unseen)
}

/// Pairs of nodes that answer but have no connection to each other. One missing direction is
/// enough: each end counts a connection only while it works.
fn nodes_apart(nodes: &[NodeStatus]) -> impl Iterator<Item = Problem> {
    let serving = |node: &&NodeStatus| {
        matches!(node.state, NodeState::Up | NodeState::Stalled | NodeState::ReadOnly)
    };
    let by_id: BTreeMap<NodeId, &NodeStatus> =
        nodes.iter().filter(serving).map(|node| (node.node, node)).collect();
    let mut pairs: BTreeMap<(NodeId, NodeId), Vec<(NodeId, Reason)>> = BTreeMap::new();
    for node in by_id.values() {
        for peer in node.unheard.iter().filter(|peer| by_id.contains_key(&peer.node)) {
            let pair = (node.node.min(peer.node), node.node.max(peer.node));
            pairs.entry(pair).or_default().push((node.node, peer.reason.clone()));
        }
    }
    pairs.into_iter().map(move |((low, high), reasons)| {
        let nodes = [low, high].map(|node| (node, by_id[&node].address.clone()));
        Problem::NodesApart { nodes, reasons }
    })
}

/// One problem for each node and kind of lag: the node is what an operator can look at.
fn replicas_behind(shards: &[ShardSummary]) -> impl Iterator<Item = Problem> {
    let mut behind: BTreeMap<(Lag, NodeId), Behind> = BTreeMap::new();
    for shard in shards {
        for replica in &shard.replicas {
            if let Some(lag) = replica.lag {
                let found = behind.entry((lag, replica.node)).or_default();
                found.shards.push(shard.shard);
                found.leaders.extend(shard.leader.filter(|leader| *leader != replica.node));
                found.snapshots.add(replica);
            }
        }
    }
    behind.into_iter().map(|((lag, node), found)| Problem::ReplicasBehind {
        node,
        lag,
        shards: found.shards,
        leaders: found.leaders.into_iter().collect(),
        snapshots: found.snapshots.told(),
    })
}

/// The replicas of one node that lag in the same way.
#[derive(Default)]
struct Behind {
    shards: Vec<ShardId>,
    leaders: BTreeSet<NodeId>,
    snapshots: SnapshotsLeft,
}

impl SnapshotsLeft {
    fn add(&mut self, replica: &ReplicaSummary) {
        match (replica.catch_up, &replica.snapshot) {
            (Some(CatchUp::Snapshot), Some(snapshot)) => {
                self.under_way += 1;
                self.bytes_left += snapshot.progress.bytes_left;
                self.bytes_per_second += snapshot.progress.bytes_per_second;
            }
            (Some(CatchUp::SnapshotAwaited), _) => self.awaited += 1,
            _ => {}
        }
    }

    /// Itself with the time that is left, if there are any.
    fn told(mut self) -> Option<SnapshotsLeft> {
        self.seconds_left = seconds_left(self.bytes_left, self.bytes_per_second);
        (self.under_way + self.awaited > 0).then_some(self)
    }
}

/// One problem for each node: its disk is what an operator can look at.
fn replicas_damaged(node: &NodeStatus, shards: &[ShardSummary]) -> Option<Problem> {
    let is_among = |shard: ShardId| node.damaged.iter().any(|damaged| damaged.shard == shard);
    let is_leaderless =
        |shard: &ShardSummary| shard.state == ShardState::NoLeader && is_among(shard.shard);
    (!node.damaged.is_empty()).then(|| Problem::ReplicasDamaged {
        node: node.node,
        replicas: node.damaged.clone(),
        leaderless: some(shards, is_leaderless).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::{Epoch, Index, ReplicaId, Term};

    use super::*;
    use crate::status::snapshots::{IncomingSnapshot, SnapshotProgress};

    /// A shard with one replica for each of `replicas`, on nodes 1, 2, ...
    fn shard(shard: u64, state: ShardState, replicas: Vec<ReplicaSummary>) -> ShardSummary {
        ShardSummary {
            shard: ShardId(shard),
            state,
            start: Bytes::new(),
            end: None,
            epoch: Epoch { membership: 1, version: 1 },
            term: Term(2),
            leader: Some(NodeId(1)),
            replicas,
        }
    }

    fn unseen(node: u64) -> ReplicaSummary {
        ReplicaSummary::unseen(ReplicaId(node), NodeId(node))
    }

    /// Goal: what a node needs is told as one sum: the snapshots under way with their bytes, rate and
    /// time, and those that are not yet begun. Method: a node that gets two, waits for one, and gets
    /// a fourth shard from the log.
    #[test]
    fn snapshots_of_a_node_are_one_sum() {
        let with = |catch_up, snapshot| ReplicaSummary {
            lag: Some(Lag::CatchingUp),
            catch_up: Some(catch_up),
            snapshot,
            ..unseen(3)
        };
        let snapshot = |bytes_left, bytes_per_second| {
            let progress = SnapshotProgress {
                base: Index(8),
                bytes_done: 5,
                bytes_total: bytes_left + 5,
                bytes_left,
                bytes_per_second,
                seconds_left: None,
                running_ms: 1,
                has_arrived: false,
            };
            Some(IncomingSnapshot { from: NodeId(1), progress })
        };
        let shards: Vec<ShardSummary> = [
            with(CatchUp::Snapshot, snapshot(700, 20)),
            with(CatchUp::Snapshot, snapshot(301, 80)),
            with(CatchUp::SnapshotAwaited, None),
            with(CatchUp::Log, None),
        ]
        .into_iter()
        .zip(1..)
        .map(|(replica, number)| shard(number, ShardState::UnderReplicated, vec![replica]))
        .collect();
        let found: Vec<Problem> = replicas_behind(&shards).collect();
        let [Problem::ReplicasBehind { node, shards: named, snapshots, .. }] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((*node, named.len()), (NodeId(3), 4));
        let expected = SnapshotsLeft {
            under_way: 2,
            awaited: 1,
            bytes_left: 1_001,
            bytes_per_second: 100,
            seconds_left: Some(11),
        };
        assert_eq!(*snapshots, Some(expected));
        let found: Vec<Problem> = replicas_behind(&shards[3..]).collect();
        let by_log = matches!(&found[..], [Problem::ReplicasBehind { snapshots: None, .. }]);
        assert!(by_log, "{found:?}");
    }
}
