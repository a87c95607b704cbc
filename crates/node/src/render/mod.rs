//! Text about a cluster, for people. Pure: a report in, text out.
//!
//! Written for an operator who was woken at night: the verdict first, then what is wrong and what
//! to do, then the facts. Healthy parts are shown only if they were asked for.

mod nodes;
mod shards;
mod table;

use quorate::{Health, NodeState, ShardState};

use crate::report::{ClusterReport, NodeReport, ShardReport};

pub use shards::shard;

/// Most shards that [`status`] lists: more would push the verdict off the screen.
const LISTED_MAX: usize = 10;

/// `quorate status`.
#[must_use]
pub fn status(status: &ClusterReport) -> String {
    let mut text = format!("{}\n", verdict(status));
    if !status.problems.is_empty() {
        text += "\nWhat is wrong, and what to do:\n";
        for (place, problem) in status.problems.iter().enumerate() {
            text += &format!("  {}. {}\n", place + 1, table::one_line(problem));
        }
    }
    if !status.notes.is_empty() {
        text += "\nGood to know:\n";
        for note in &status.notes {
            text += &format!("  - {}\n", table::one_line(note));
        }
    }
    text += &format!("\n{}{}", nodes::heading(&status.nodes), nodes::table(&status.nodes));
    text += &format!("\n{}", shards::heading(&status.shards));
    text += &shards::table_of_unhealthy(&status.shards, LISTED_MAX);
    text + &format!("\nCluster {}, as node {} sees it.\n", status.cluster, status.asked)
}

/// `quorate node list`.
#[must_use]
pub fn node_list(status: &ClusterReport) -> String {
    nodes::heading(&status.nodes) + &nodes::table(&status.nodes)
}

/// `quorate shard list`.
#[must_use]
pub fn shard_list(status: &ClusterReport) -> String {
    let all: Vec<_> = status.shards.iter().collect();
    shards::heading(&status.shards) + &shards::table(&all)
}

fn verdict(status: &ClusterReport) -> String {
    match status.health {
        Health::Healthy => format!(
            "HEALTHY: every node is up ({}), and every shard has its leader and all its replicas \
             ({}).",
            status.nodes.len(),
            status.shards.len(),
        ),
        Health::Degraded if is_complete(status) => {
            "DEGRADED: every shard serves and has all its replicas, but what is said below may end that."
                .to_owned()
        }
        Health::Degraded => {
            "DEGRADED: every shard serves, but one more failure may end that.".to_owned()
        }
        Health::Unavailable => unavailable(status),
    }
}

/// True if nothing is missing yet: what is wrong is only a warning.
fn is_complete(status: &ClusterReport) -> bool {
    let is_up = |node: &NodeReport| node.state == NodeState::Up && node.unheard.is_empty();
    let is_healthy = |shard: &ShardReport| shard.state == ShardState::Healthy;
    status.nodes.iter().all(is_up) && status.shards.iter().all(is_healthy)
}

/// True if the disk of the leader's node has no room; the meta shard takes its commands all the same.
fn takes_no_writes(status: &ClusterReport, shard: &ShardReport) -> bool {
    let leads = |node: &&NodeReport| Some(node.node) == shard.leader;
    let leader = status.nodes.iter().find(leads);
    shard.shard != 0 && leader.is_some_and(|node| node.state == NodeState::ReadOnly)
}

fn unavailable(status: &ClusterReport) -> String {
    let silent = status.shards.iter().filter(|shard| !shards::serves(shard)).count();
    let read_only = status.shards.iter().filter(|shard| takes_no_writes(status, shard)).count();
    if silent == 0 && read_only > 0 {
        let verb = if read_only == 1 { "takes" } else { "take" };
        return format!(
            "UNAVAILABLE: {read_only} of {} shards {verb} no writes, because disks have no room; \
             reads are served.",
            status.shards.len()
        );
    }
    if silent == 0 {
        return "UNAVAILABLE: whether every shard serves could not be found out.".to_owned();
    }
    if status.nodes.iter().any(|node| node.state == NodeState::Founding) {
        return "UNAVAILABLE: the cluster is being founded; it serves once all its nodes have run \
                and met each other."
            .to_owned();
    }
    let (verb, whose) = if silent == 1 { ("does", "its") } else { ("do", "their") };
    format!(
        "UNAVAILABLE: {silent} of {} shards {verb} not serve; requests for {whose} keys wait, then fail.",
        status.shards.len()
    )
}
