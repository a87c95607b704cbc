//! What is wrong with a cluster, as facts: the program that shows them chooses the words.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, ShardId};

use crate::status::cluster_status::{
    Lag, NodeState, NodeStatus, Reason, ReplicaSummary, ShardState, ShardSummary,
};
use crate::status::resources::Warning;

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
    },
    /// Something will end a node's service.
    Warning {
        /// The node.
        node: NodeId,
        /// The warning.
        warning: Warning,
    },
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
    problems.extend(nodes_apart(nodes));
    problems.extend(some(shards, lacks_a_replica).map(Problem::ReplicasOutOfReach));
    problems.extend(replicas_behind(shards));
    for node in nodes {
        let warnings = node.warnings.iter().cloned();
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
    let is_unseen = |replica: &ReplicaSummary| replica.role.is_none();
    shard.state == ShardState::UnderReplicated && shard.replicas.iter().any(is_unseen)
}

/// Pairs of nodes that answer but have no connection to each other. One missing direction is
/// enough: each end counts a connection only while it works.
fn nodes_apart(nodes: &[NodeStatus]) -> impl Iterator<Item = Problem> {
    let serving = |node: &&NodeStatus| matches!(node.state, NodeState::Up | NodeState::Stalled);
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
    let mut behind: BTreeMap<(Lag, NodeId), (Vec<ShardId>, BTreeSet<NodeId>)> = BTreeMap::new();
    for shard in shards {
        for replica in &shard.replicas {
            if let Some(lag) = replica.lag {
                let (shards, leaders) = behind.entry((lag, replica.node)).or_default();
                shards.push(shard.shard);
                leaders.extend(shard.leader.filter(|leader| *leader != replica.node));
            }
        }
    }
    behind.into_iter().map(|((lag, node), (shards, leaders))| Problem::ReplicasBehind {
        node,
        lag,
        shards,
        leaders: leaders.into_iter().collect(),
    })
}
