//! A plan where leaders should be so that all nodes lead about as many, and a note about it.

use std::collections::BTreeMap;

use quorate_types::{NodeId, ShardId};

use crate::status::cluster_status::{NodeState, NodeStatus, Note, ShardSummary};

/// A plan that moves fewer than one leader in this many is not worth a note.
const NOTE_SHARE: usize = 8;

/// A leadership that should be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) shard: ShardId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
}

/// How many shards each node that is up leads.
fn loads(nodes: &[NodeStatus], shards: &[ShardSummary]) -> BTreeMap<NodeId, usize> {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up && node.replicas > 0);
    let mut loads: BTreeMap<NodeId, usize> = up.map(|node| (node.node, 0)).collect();
    for leader in shards.iter().filter_map(|shard| shard.leader) {
        if let Some(load) = loads.get_mut(&leader) {
            *load += 1;
        }
    }
    loads
}

/// The transfers after which no follower that keeps up is on a node with two leaders fewer than its
/// leader's node. Each step reduces the sum of the squares, so the loop ends.
pub(crate) fn plan(nodes: &[NodeStatus], shards: &[ShardSummary]) -> Vec<Move> {
    let mut loads = loads(nodes, shards);
    let mut leaders: Vec<Option<NodeId>> = shards.iter().map(|shard| shard.leader).collect();
    loop {
        let mut is_done = true;
        for (shard, leader) in shards.iter().zip(&mut leaders) {
            let Some((from, load)) = leader.and_then(|from| Some((from, *loads.get(&from)?)))
            else {
                continue;
            };
            let keeps_up = shard.replicas.iter().filter(|r| r.role.is_some() && r.lag.is_none());
            let others = keeps_up.filter_map(|r| Some((*loads.get(&r.node)?, r.node)));
            let Some((least, to)) = others.min().filter(|(least, _)| least + 2 <= load) else {
                continue;
            };
            loads.insert(from, load - 1);
            loads.insert(to, least + 1);
            *leader = Some(to);
            is_done = false;
        }
        if is_done {
            break;
        }
    }
    let moved = shards.iter().zip(leaders).filter_map(|(shard, leader)| {
        let (from, to) = (shard.leader?, leader?);
        (from != to).then_some(Move { shard: shard.shard, from, to })
    });
    moved.collect()
}

/// The note for an operator if the leaders are not spread evenly.
pub(crate) fn note(nodes: &[NodeStatus], shards: &[ShardSummary]) -> Option<Note> {
    let (loads, moves) = (loads(nodes, shards), plan(nodes, shards).len());
    let led: usize = loads.values().sum();
    if moves < 2 || moves * NOTE_SHARE < led {
        return None;
    }
    let pair = |(node, load): (&NodeId, &usize)| (*node, *load);
    let most = loads.iter().max_by_key(|(_, load)| **load).map(pair)?;
    let fewest = loads.iter().min_by_key(|(_, load)| **load).map(pair)?;
    Some(Note::LeadersNotSpread { led, most, fewest, moves })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::{Epoch, ReplicaId, Term};

    use super::*;
    use crate::status::cluster_status::{Lag, ReplicaRole, ReplicaSummary, ShardState};

    fn node(node: u64, state: NodeState) -> NodeStatus {
        NodeStatus {
            node: NodeId(node),
            state,
            reason: None,
            address: String::new(),
            services: BTreeMap::new(),
            store: None,
            incarnation: None,
            replicas: 9,
            leaders: None,
            sync_p99_us: None,
            unheard: Vec::new(),
            resources: None,
            snapshots: None,
            damaged: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn up(nodes: u64) -> Vec<NodeStatus> {
        (1..=nodes).map(|id| node(id, NodeState::Up)).collect()
    }

    /// A shard with replicas on `nodes`, led by the first.
    fn shard(shard: u64, nodes: &[u64]) -> ShardSummary {
        let replica = |node: &u64| ReplicaSummary {
            role: Some(if *node == nodes[0] { ReplicaRole::Leader } else { ReplicaRole::Follower }),
            ..ReplicaSummary::unseen(ReplicaId(*node), NodeId(*node))
        };
        ShardSummary {
            shard: ShardId(shard),
            state: ShardState::Healthy,
            start: Bytes::new(),
            end: None,
            epoch: Epoch { membership: 1, version: 1 },
            term: Term(2),
            leader: nodes.first().copied().map(NodeId),
            replicas: nodes.iter().map(replica).collect(),
        }
    }

    /// Goal: 19, 6 and 0 leaders of 25 become 9, 8 and 8 in as few transfers as that takes, each to a
    /// node that has a replica; and the imbalance is said, with the remedy.
    #[test]
    fn leaders_are_spread() {
        let led =
            (0..25).map(|id| if id < 19 { shard(id, &[1, 2, 3]) } else { shard(id, &[2, 3, 1]) });
        let (nodes, shards) = (up(3), led.collect::<Vec<_>>());
        let moves = plan(&nodes, &shards);
        let mut after = loads(&nodes, &shards);
        for one in &moves {
            *after.get_mut(&one.from).expect("up") -= 1;
            *after.get_mut(&one.to).expect("up") += 1;
        }
        assert_eq!(after.values().copied().collect::<Vec<_>>(), [9, 8, 8]);
        assert!(moves.len() <= 12, "{moves:?}");
        let Note::LeadersNotSpread { led, most, fewest, moves: told } =
            note(&nodes, &shards).expect("worth a word");
        assert_eq!((led, most, fewest), (25, (NodeId(1), 19), (NodeId(3), 0)));
        assert_eq!(told, moves.len());
    }

    /// Goal: nothing is moved to a node that is not up, nor to a replica that was not seen or lags, nor
    /// where it would only swap; and chance alone is not worth a word.
    #[test]
    fn nobody_is_moved_for_nothing() {
        let mut shards: Vec<_> = (0..6).map(|id| shard(id, &[1, 2])).collect();
        let down = [node(1, NodeState::Up), node(2, NodeState::Unreachable)];
        assert_eq!(plan(&down, &shards), []);
        for shard in &mut shards[..3] {
            shard.replicas[1].lag = Some(Lag::Stuck);
        }
        for shard in &mut shards[3..5] {
            shard.replicas[1].role = None;
        }
        let only = Move { shard: ShardId(5), from: NodeId(1), to: NodeId(2) };
        assert_eq!(plan(&up(2), &shards), [only]);
        assert_eq!(note(&up(2), &shards), None);
        let even = [shard(0, &[1, 2]), shard(1, &[2, 1]), shard(2, &[1, 2])];
        assert_eq!(plan(&up(2), &even), []);
    }
}
