//! What is wrong with a cluster, as sentences with a remedy.

use quorate::{
    DamagedReplica, Lag, NodeId, NodeState, Note, Problem, Reason, ShardId, SnapshotsLeft,
};

use super::amounts;
use super::reasons::{self, nodes, reason, reason_elsewhere, shards};

/// Most pairs of nodes that are named one by one.
const PAIRS_NAMED_MAX: usize = 8;

/// Most damaged replicas of a node that are named one by one.
const DAMAGED_NAMED_MAX: usize = 3;

/// One sentence for each problem, in the order given. Of many pairs of nodes that do not hear each
/// other, some are named and the rest counted.
pub(super) fn sentences(problems: &[Problem]) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut pairs = 0;
    for (place, problem) in problems.iter().enumerate() {
        let is_pair = |problem: &Problem| matches!(problem, Problem::NodesApart { .. });
        pairs += usize::from(is_pair(problem));
        if !is_pair(problem) || pairs <= PAIRS_NAMED_MAX {
            sentences.push(sentence(problem));
        }
        let is_last_pair = is_pair(problem) && !problems.get(place + 1).is_some_and(is_pair);
        if is_last_pair && pairs > PAIRS_NAMED_MAX {
            let left_out = pairs - PAIRS_NAMED_MAX;
            sentences.push(format!("{left_out} more pairs of nodes do not hear each other"));
        }
    }
    sentences
}

fn sentence(problem: &Problem) -> String {
    match problem {
        Problem::NodeNotUp { node, state, address, reason } => {
            not_up(*node, *state, address, reason.as_ref())
        }
        Problem::ShardsUnseen(found) => format!(
            "{}: no replica answers; bring back the nodes that do not answer",
            shards(found)
        ),
        Problem::ShardsLeaderless(found) => format!(
            "{}: no leader; an election takes about two seconds, after that it means that a \
             majority of the replicas is out of reach: bring their nodes back",
            shards(found)
        ),
        Problem::NodesApart { nodes, reasons } => apart(nodes, reasons),
        Problem::ReplicasOutOfReach(found) => {
            let have = if found.len() == 1 { "has a replica" } else { "have replicas" };
            format!(
                "{} {have} out of reach: they serve, and another failure may end that",
                shards(found)
            )
        }
        Problem::ReplicasBehind { node, lag, shards, leaders, snapshots } => {
            behind(*node, *lag, shards, leaders, snapshots.as_ref())
        }
        Problem::ReplicasDamaged { node, replicas, leaderless } => {
            damaged(*node, replicas, leaderless)
        }
        Problem::Warning { node, warning } => {
            format!("node {node}: {}", reasons::warning(warning))
        }
        // The engine may add problems.
        other => format!("{other:?}"),
    }
}

/// The damaged replicas of a node, what that means for their shards, and what to do.
fn damaged(node: NodeId, replicas: &[DamagedReplica], leaderless: &[ShardId]) -> String {
    let service = match leaderless {
        [] => "the other replicas serve, and another failure may end that".to_owned(),
        found => format!("without the other replicas nothing serves {}", shards(found)),
    };
    let lost = replicas.iter().filter(|replica| !replica.until_restart).count();
    let its = if lost == 1 { "replica has" } else { "replicas have" };
    let remedy = if lost == 0 {
        "nothing that was promised is lost: see to what the state machine keeps its data in, then start \
         this node again"
            .to_owned()
    } else {
        format!(
            "this node's {its} to be replaced, because what was promised may be lost: keep the other \
             nodes up until then, and look at this one's disk"
        )
    };
    format!("node {node}: {}; {service}; {remedy}", given_up(replicas))
}

/// Which replicas of a node are damaged, and how.
pub(super) fn given_up(replicas: &[DamagedReplica]) -> String {
    let describe = |DamagedReplica { shard, replica, what, .. }: &DamagedReplica| {
        format!("replica {replica} of {}: {what}", shards(&[*shard]))
    };
    let named: Vec<String> = replicas.iter().take(DAMAGED_NAMED_MAX).map(describe).collect();
    let left_out = match replicas.len().saturating_sub(DAMAGED_NAMED_MAX) {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    let are = if replicas.len() == 1 { "a replica is" } else { "replicas are" };
    let is_damaged = replicas.iter().any(|replica| !replica.until_restart);
    let damaged = if is_damaged { "damaged and " } else { "" };
    format!("{are} {damaged}given up ({}{left_out})", named.join("; "))
}

/// How far the snapshots are that a node needs for some of `shards` shards.
fn by_snapshot(lag: Lag, shards: usize, left: &SnapshotsLeft) -> String {
    let SnapshotsLeft { under_way, awaited, bytes_left, bytes_per_second, seconds_left } = left;
    let needed = under_way + awaited;
    if lag == Lag::Stuck {
        return format!("; for {needed} of these it needs a snapshot, of which nothing arrives");
    }
    let mut parts = Vec::new();
    if *under_way > 0 {
        let (left, rate) = (amounts::bytes(*bytes_left), amounts::bytes(*bytes_per_second));
        let time = seconds_left.map(|left| format!(", {}", amounts::time(left)));
        let time = time.unwrap_or_default();
        parts.push(format!("{under_way} under way (about {left} left, {rate}/s{time})"));
    }
    if *awaited > 0 {
        parts.push(format!("{awaited} not yet begun"));
    }
    let whose = if needed < shards { format!("{needed} of them ") } else { String::new() };
    format!(", {whose}by snapshot: {}", parts.join(", "))
}

fn not_up(node: NodeId, state: NodeState, address: &str, why: Option<&Reason>) -> String {
    let told = why.map_or_else(|| "why is not known".to_owned(), reason);
    match state {
        NodeState::Founding => format!("the cluster is being founded: node {node} {told}"),
        NodeState::ReadOnly => format!("node {node} takes no writes: {told}"),
        NodeState::Up | NodeState::Stalled => format!("node {node} serves nothing: {told}"),
        NodeState::Failed => {
            format!("node {node} has stopped serving: {told}; mend the cause, then restart it")
        }
        // A node that is refused has been reached, and the reason says what to do.
        NodeState::Unreachable if matches!(why, Some(Reason::NotAdmitted(_))) => {
            format!("node {node} is kept out: {told}")
        }
        NodeState::Unreachable => format!(
            "node {node} at {address} does not answer: {told}; start it, or mend the network"
        ),
    }
}

fn apart(nodes: &[(NodeId, String); 2], reasons: &[(NodeId, Reason)]) -> String {
    let [(low, low_address), (high, high_address)] = nodes;
    let says = |(node, reason): &(NodeId, Reason)| {
        format!("node {node} says: {}", reason_elsewhere(reason))
    };
    let says: Vec<String> = reasons.iter().map(says).collect();
    format!(
        "nodes {low} and {high} do not hear each other, though both answer others ({}): let \
         UDP pass both ways between {low_address} and {high_address}; until then their requests take \
         the way over a third node, and of shards that one of them leads the other's replica gets \
         nothing",
        says.join("; "),
    )
}

fn behind(
    node: NodeId,
    lag: Lag,
    found: &[ShardId],
    leaders: &[NodeId],
    snapshots: Option<&SnapshotsLeft>,
) -> String {
    let by = snapshots.map_or_else(String::new, |left| by_snapshot(lag, found.len(), left));
    let shards = shards(found);
    let link = match leaders {
        [] => String::new(),
        leaders => format!("the link between it and {}", nodes(leaders)),
    };
    match lag {
        Lag::Leaderless => format!(
            "node {node} gets nothing of {shards}: its replicas hear no leader, though there is \
             one; mend {link}, or another failure may end their service"
        ),
        Lag::Stuck => format!(
            "node {node} stands still with {shards}, behind of what is committed{by}; look at its \
             disk and processor{}",
            if link.is_empty() { link } else { format!(", and at {link}") }
        ),
        Lag::CatchingUp => format!(
            "node {node} is behind with {shards} and catches up{by}; if that takes long, it gets \
             less than is written: look at its disk and processor"
        ),
    }
}

/// Facts worth knowing, though nothing is wrong.
pub(super) fn note(note: &Note) -> String {
    match note {
        Note::LeadersNotSpread { led, most, fewest, moves } => format!(
            "leaders are not spread: of {led} shards, node {} leads {} and node {} leads {}; \
             `quorate balance leaders` moves {moves} of them, each stands still for a moment",
            most.0, most.1, fewest.0, fewest.1
        ),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use quorate::ReplicaId;

    use super::*;

    fn unreachable(reason: Reason) -> Problem {
        Problem::NodeNotUp {
            node: NodeId(3),
            state: NodeState::Unreachable,
            address: "a:1".to_owned(),
            reason: Some(reason),
        }
    }

    /// Goal: a refused node has been reached: the sentence says what the refusal asks for, not to
    /// start the node. Method: the same words, as a refusal and as a broken connection.
    #[test]
    fn a_node_that_is_kept_out_is_not_to_be_started() {
        let words = || "its clock is wrong: set it".to_owned();
        let told = sentences(&[
            unreachable(Reason::NotAdmitted(words())),
            unreachable(Reason::Disconnected(words())),
        ]);
        assert_eq!(told[0], "node 3 is kept out: its clock is wrong: set it");
        assert_eq!(
            told[1],
            "node 3 at a:1 does not answer: its clock is wrong: set it; start it, or mend the network"
        );
    }

    /// Goal: of many pairs some are named, and the rest is counted after them.
    #[test]
    fn many_pairs_are_counted() {
        let pair = |high| Problem::NodesApart {
            nodes: [(NodeId(1), "a:1".to_owned()), (NodeId(high), "a:2".to_owned())],
            reasons: vec![(NodeId(1), Reason::AddressUnknown)],
        };
        let mut problems: Vec<Problem> = (2..13).map(pair).collect();
        problems.push(Problem::ReplicasOutOfReach(vec![ShardId(0)]));
        let told = sentences(&problems);
        assert_eq!(told.len(), PAIRS_NAMED_MAX + 2, "{told:?}");
        assert!(told[0].contains("(node 1 says: its address is not known there)"), "{}", told[0]);
        assert_eq!(told[PAIRS_NAMED_MAX], "3 more pairs of nodes do not hear each other");
        assert!(told[PAIRS_NAMED_MAX + 1].starts_with("the meta shard has a replica out of reach"));
    }

    /// Goal: a damaged replica is named with its shard and what is damaged, and the sentence says whether
    /// the shard serves and what to do; of many, some are named and the rest is counted.
    #[test]
    fn damaged_replicas_are_named_with_the_remedy() {
        let damaged = |shard| DamagedReplica {
            shard: ShardId(shard),
            replica: ReplicaId(3),
            what: format!("block {shard} is not what was written"),
            until_restart: false,
        };
        let told = |shards: std::ops::Range<u64>, leaderless: Vec<ShardId>| {
            let replicas = shards.map(damaged).collect();
            let problem = Problem::ReplicasDamaged { node: NodeId(2), replicas, leaderless };
            sentences(&[problem]).remove(0)
        };
        assert_eq!(
            told(5..6, Vec::new()),
            "node 2: a replica is damaged and given up (replica 3 of shard 5: block 5 is not what was \
             written); the other replicas serve, and another failure may end that; this node's replica \
             has to be replaced, because what was promised may be lost: keep the other nodes up until \
             then, and look at this one's disk"
        );
        let many = told(5..15, vec![ShardId(7)]);
        assert!(many.contains("shard 7: block 7 is not what was written; and 7 more)"), "{many}");
        assert!(many.contains("nothing serves shard 7; this node's replicas have to"), "{many}");

        let failed = DamagedReplica {
            what: "its own store fails: no room".to_owned(),
            until_restart: true,
            ..damaged(5)
        };
        let node = NodeId(2);
        let problem =
            |replicas| Problem::ReplicasDamaged { node, replicas, leaderless: Vec::new() };
        assert_eq!(
            sentences(&[problem(vec![failed.clone()])]),
            [
                "node 2: a replica is given up (replica 3 of shard 5: its own store fails: no room); the \
              other replicas serve, and another failure may end that; nothing that was promised is \
              lost: see to what the state machine keeps its data in, then start this node again"
            ]
        );
        let mixed = sentences(&[problem(vec![failed, damaged(6)])]).remove(0);
        assert!(mixed.contains("this node's replica has to be replaced"), "{mixed}");
    }

    /// Goal: what comes by snapshot is told with what is left of it, where it stands still too.
    #[test]
    fn snapshots_are_told_with_what_is_left() {
        let told = |lag, shards: std::ops::Range<u64>, snapshots| {
            let shards = shards.map(ShardId).collect();
            let (node, leaders) = (NodeId(3), vec![NodeId(1)]);
            sentences(&[Problem::ReplicasBehind { node, lag, shards, leaders, snapshots }])
                .remove(0)
        };
        let left = SnapshotsLeft {
            under_way: 1,
            awaited: 1,
            bytes_left: 300 << 20,
            bytes_per_second: 4 << 20,
            seconds_left: Some(75),
        };
        let moves = told(Lag::CatchingUp, 4..7, Some(left));
        assert!(
            moves.starts_with(
                "node 3 is behind with shards 4, 5, 6 and catches up, 2 of them by snapshot: 1 under \
                 way (about 300 MiB left, 4.0 MiB/s, 1 min 15 s), 1 not yet begun; if that takes long"
            ),
            "{moves}"
        );
        let all = SnapshotsLeft { awaited: 0, seconds_left: None, ..left };
        let all = told(Lag::CatchingUp, 4..5, Some(all));
        assert!(
            all.contains("catches up, by snapshot: 1 under way (about 300 MiB left, 4.0 MiB/s);"),
            "{all}"
        );
        let stands = told(Lag::Stuck, 4..7, Some(left));
        assert!(
            stands.contains(
                "; for 2 of these it needs a snapshot, of which nothing arrives; look at"
            ),
            "{stands}"
        );
        let by_log = told(Lag::CatchingUp, 4..7, None);
        assert!(by_log.contains("shards 4, 5, 6 and catches up; if that"), "{by_log}");
    }

    /// Goal: leaders that are not spread are reported with the figures and the remedy.
    #[test]
    fn the_note_has_its_remedy() {
        let (most, fewest) = ((NodeId(1), 19), (NodeId(3), 0));
        let note = note(&Note::LeadersNotSpread { led: 25, most, fewest, moves: 12 });
        assert!(note.contains("of 25 shards, node 1 leads 19 and node 3 leads 0"), "{note}");
        assert!(note.contains("`quorate balance leaders`"), "{note}");
    }
}
