//! What is wrong with a cluster, as sentences with a remedy.

use std::collections::{BTreeMap, BTreeSet};

use crate::status::cluster_status::{Lag, NodeState, NodeStatus, ShardState, ShardSummary};

/// Part of every reason of a node that this one, or a peer, did not admit.
const NOT_ADMITTED: &str = "is not admitted by";
/// Most pairs of nodes that are named one by one.
const PAIRS_NAMED_MAX: usize = 8;

/// What an operator has to know, the worst first.
pub(crate) fn problems(nodes: &[NodeStatus], shards: &[ShardSummary]) -> Vec<String> {
    let mut problems = Vec::new();
    let reason =
        |node: &NodeStatus| node.reason.clone().unwrap_or_else(|| "why is not known".into());
    for node in nodes.iter().filter(|node| node.state == NodeState::Founding) {
        problems.push(format!("the cluster is being founded: node {} {}", node.node, reason(node)));
    }
    // Before it is founded no shard can have a leader: that would say the same once more.
    if problems.is_empty() {
        problems.extend(shards_out_of_service(shards));
    }
    for node in nodes {
        match node.state {
            NodeState::Up | NodeState::Founding => {}
            NodeState::Stalled => {
                problems.push(format!("node {} serves nothing: {}", node.node, reason(node)));
            }
            NodeState::Failed => problems.push(format!(
                "node {} has stopped serving: {}; mend the cause, then restart it",
                node.node,
                reason(node)
            )),
            // One that is refused has been reached, and the reason says what to do.
            NodeState::Unreachable if reason(node).contains(NOT_ADMITTED) => {
                problems.push(format!("node {} is kept out: {}", node.node, reason(node)));
            }
            NodeState::Unreachable => problems.push(format!(
                "node {} at {} does not answer: {}; start it, or mend the network",
                node.node,
                node.address,
                reason(node)
            )),
        }
    }
    problems.extend(pairs_apart(nodes));
    if let Some(found) = out_of_reach(shards) {
        let have = if found.len() == 1 { "has a replica" } else { "have replicas" };
        problems.push(format!(
            "{} {have} out of reach: they serve, and another failure may end that",
            name_shards(&found)
        ));
    }
    problems.extend(replicas_behind(shards));
    for node in nodes {
        let warnings = node.warnings.iter();
        problems.extend(warnings.map(|warning| format!("node {}: {warning}", node.node)));
    }
    problems
}

fn shards_out_of_service(shards: &[ShardSummary]) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(found) = in_state(shards, ShardState::Unknown) {
        problems.push(format!(
            "{}: no replica answers; bring back the nodes that do not answer",
            name_shards(&found)
        ));
    }
    if let Some(found) = in_state(shards, ShardState::NoLeader) {
        problems.push(format!(
            "{}: no leader; an election takes about two seconds, after that it means that a \
             majority of the replicas is out of reach: bring their nodes back",
            name_shards(&found)
        ));
    }
    problems
}

/// Nodes that both answer, and have no connection to each other. One way without a connection is
/// enough: both ends count one only while it carries.
fn pairs_apart(nodes: &[NodeStatus]) -> Vec<String> {
    let serving = |node: &&NodeStatus| matches!(node.state, NodeState::Up | NodeState::Stalled);
    let by_id: BTreeMap<u64, &NodeStatus> =
        nodes.iter().filter(serving).map(|node| (node.node, node)).collect();
    let mut pairs: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    for node in by_id.values() {
        for peer in node.unheard.iter().filter(|peer| by_id.contains_key(&peer.node)) {
            let pair = (node.node.min(peer.node), node.node.max(peer.node));
            let says = format!("node {} says: {}", node.node, peer.reason);
            pairs.entry(pair).or_default().push(says);
        }
    }
    let left_out = pairs.len().saturating_sub(PAIRS_NAMED_MAX);
    let named = pairs.into_iter().take(PAIRS_NAMED_MAX).map(|((low, high), says)| {
        let address = |node: u64| by_id.get(&node).map_or("?", |node| node.address.as_str());
        format!(
            "nodes {low} and {high} do not hear each other, though both answer others ({}): let \
             UDP pass both ways between {} and {}; until then their requests take the way over a \
             third node, and of shards that one of them leads the other's replica gets nothing",
            says.join("; "),
            address(low),
            address(high),
        )
    });
    let mut problems: Vec<String> = named.collect();
    if left_out > 0 {
        problems.push(format!("{left_out} more pairs of nodes do not hear each other"));
    }
    problems
}

fn out_of_reach(shards: &[ShardSummary]) -> Option<Vec<u64>> {
    let lacks = |shard: &&ShardSummary| {
        shard.state == ShardState::UnderReplicated
            && shard.replicas.iter().any(|replica| replica.role.is_none())
    };
    let found: Vec<u64> = shards.iter().filter(lacks).map(|shard| shard.shard).collect();
    (!found.is_empty()).then_some(found)
}

/// A sentence for each node and kind of lag: the node is what an operator can look at.
fn replicas_behind(shards: &[ShardSummary]) -> Vec<String> {
    let mut behind: BTreeMap<(Lag, u64), (Vec<u64>, BTreeSet<u64>)> = BTreeMap::new();
    for shard in shards {
        for replica in &shard.replicas {
            if let Some(lag) = replica.lag {
                let (shards, leaders) = behind.entry((lag, replica.node)).or_default();
                shards.push(shard.shard);
                leaders.extend(shard.leader);
            }
        }
    }
    let sentence = |((lag, node), (shards, leaders)): ((Lag, u64), (Vec<u64>, BTreeSet<u64>))| {
        let leaders: Vec<u64> = leaders.into_iter().filter(|leader| *leader != node).collect();
        let shards = name_shards(&shards);
        let link = match &leaders[..] {
            [] => String::new(),
            leaders => format!("the link between it and {}", name("node", leaders)),
        };
        match lag {
            Lag::Leaderless => format!(
                "node {node} gets nothing of {shards}: its replicas hear no leader, though there is \
                 one; mend {link}, or another failure may end their service"
            ),
            Lag::Stuck => format!(
                "node {node} stands still with {shards}, behind of what is committed; look at its \
                 disk and processor{}",
                if link.is_empty() { link } else { format!(", and at {link}") }
            ),
            Lag::CatchingUp => format!(
                "node {node} is behind with {shards} and catches up; if that takes long, it gets less \
                 than is written: look at its disk and processor"
            ),
        }
    };
    behind.into_iter().map(sentence).collect()
}

fn in_state(shards: &[ShardSummary], state: ShardState) -> Option<Vec<u64>> {
    let found: Vec<u64> =
        shards.iter().filter(|shard| shard.state == state).map(|shard| shard.shard).collect();
    (!found.is_empty()).then_some(found)
}

fn name_shards(shards: &[u64]) -> String {
    if shards == [0] { "the meta shard".to_owned() } else { name("shard", shards) }
}

/// A few by number, many by count.
pub(crate) fn name(what: &str, numbers: &[u64]) -> String {
    match numbers {
        [one] => format!("{what} {one}"),
        few if few.len() <= 8 => {
            let numbers: Vec<String> = few.iter().map(ToString::to_string).collect();
            format!("{what}s {}", numbers.join(", "))
        }
        many => format!("{} {what}s ({} to {})", many.len(), many[0], many[many.len() - 1]),
    }
}
