//! The table of shards, and one shard in detail.

use quorate::{CatchUp, IncomingSnapshot, Lag, ShardState};

use super::table::{NOTHING, Side, number, one_line, table as draw};
use crate::redis::protocol::slot::SLOTS;
use crate::report::amounts;
use crate::report::{ReplicaReport, ShardReport};

/// The shard that keeps the cluster's directory.
const META: u64 = 0;

/// True if some node is known to lead the shard.
pub(super) fn serves(shard: &ShardReport) -> bool {
    matches!(shard.state, ShardState::Healthy | ShardState::UnderReplicated)
}

/// How many shards are in each state.
pub(super) fn heading(shards: &[ShardReport]) -> String {
    let count = |state| shards.iter().filter(|shard| shard.state == state).count();
    let healthy = count(ShardState::Healthy);
    let mut text = format!("Shards: {healthy} of {} healthy", shards.len());
    for (state, words) in [
        (ShardState::NoLeader, "without a leader"),
        (ShardState::Unknown, "not seen"),
        (ShardState::UnderReplicated, "with a leader, lacking a replica"),
    ] {
        match count(state) {
            0 => {}
            count => text += &format!("; {count} {words}"),
        }
    }
    text + "\n"
}

/// The unhealthy shards, the worst first, at most `listed_max`; empty if there are none.
pub(super) fn table_of_unhealthy(shards: &[ShardReport], listed_max: usize) -> String {
    let unhealthy = shards.iter().filter(|shard| shard.state != ShardState::Healthy);
    let mut unhealthy: Vec<&ShardReport> = unhealthy.collect();
    if unhealthy.is_empty() {
        return String::new();
    }
    unhealthy.sort_by_key(|shard| (serves(shard), shard.shard));
    let left_out = unhealthy.len().saturating_sub(listed_max);
    unhealthy.truncate(listed_max);
    let text = table(&unhealthy);
    match left_out {
        0 => text,
        count => format!("{text}  ... and {count} more: quorate shard list\n"),
    }
}

pub(super) fn table(shards: &[&ShardReport]) -> String {
    let columns = [
        ("SHARD", Side::Right),
        ("STATE", Side::Left),
        ("LEADER", Side::Left),
        ("TERM", Side::Right),
        ("REPLICAS ON NODES", Side::Left),
        ("OWNS", Side::Left),
    ];
    let row = |shard: &&ShardReport| {
        vec![
            shard.shard.to_string(),
            state(shard.state).to_owned(),
            leader(shard),
            shard.term.to_string(),
            shard.replicas.iter().map(replica).collect::<Vec<_>>().join(", "),
            owns(shard),
        ]
    };
    draw(&columns, shards.iter().map(row).collect())
}

/// `quorate shard show`.
#[must_use]
pub fn shard(shard: &ShardReport) -> String {
    let columns = [
        ("REPLICA", Side::Right),
        ("NODE", Side::Right),
        ("ROLE", Side::Left),
        ("LAST", Side::Right),
        ("COMMIT", Side::Right),
        ("APPLIED", Side::Right),
        ("BEHIND", Side::Right),
        ("LOG AFTER", Side::Right),
        ("ENTRIES", Side::Right),
        ("LOG", Side::Right),
        ("DATA ABOUT", Side::Right),
    ];
    let row = |replica: &ReplicaReport| {
        vec![
            replica.replica.to_string(),
            replica.node.to_string(),
            role(replica),
            number(replica.last),
            number(replica.commit),
            number(replica.applied),
            number(replica.behind),
            number(replica.base),
            number(replica.log_entries),
            bytes(replica.log_bytes),
            bytes(replica.data_bytes),
        ]
    };
    let facts: String = shard.replicas.iter().filter_map(facts).collect();
    let facts = if facts.is_empty() { facts } else { format!("\n{facts}") };
    format!(
        "Shard {}: {}\n  leader   {}, term {}\n  owns     {}\n  epoch    version {} of its range, \
         {} of its members\n\n{}{facts}",
        shard.shard,
        state(shard.state),
        leader(shard),
        shard.term,
        owns(shard),
        shard.version,
        shard.membership,
        draw(&columns, shard.replicas.iter().map(row).collect()),
    )
}

fn state(state: ShardState) -> &'static str {
    match state {
        ShardState::Healthy => "healthy",
        ShardState::UnderReplicated => "lacks a replica",
        ShardState::NoLeader => "no leader",
        ShardState::Unknown => "not seen",
    }
}

fn leader(shard: &ShardReport) -> String {
    shard.leader.map_or_else(|| NOTHING.to_owned(), |node| format!("node {node}"))
}

/// What is damaged of a replica, or what brings it up to its leader, as a line of its own.
fn facts(replica: &ReplicaReport) -> Option<String> {
    let node = replica.node;
    let behind =
        replica.behind.map_or_else(String::new, |behind| format!(", {behind} entries behind"));
    let text = match (&replica.damaged, replica.catch_up, &replica.snapshot) {
        (Some(what), _, _) => format!(
            "node {node} has given up its replica ({what}); `quorate status` says what to do"
        ),
        (None, Some(CatchUp::Log), _) => {
            format!("node {node} catches up from its leader's log{behind}")
        }
        (None, Some(CatchUp::SnapshotAwaited), _) => format!(
            "node {node} needs a snapshot, which is not yet begun{behind}: its leader's log no longer \
             holds what it lacks"
        ),
        (None, Some(CatchUp::Snapshot), Some(snapshot)) => {
            format!("node {node} gets {}{behind}", snapshot_text(snapshot))
        }
        (None, Some(CatchUp::Snapshot) | None, _) => return None,
    };
    Some(format!("  {}\n", one_line(&text)))
}

fn snapshot_text(snapshot: &IncomingSnapshot) -> String {
    let IncomingSnapshot { from, progress } = snapshot;
    let (base, done) = (progress.base, amounts::bytes(progress.bytes_done));
    let text = format!("a snapshot through entry {base} from node {from}: {done}");
    if progress.has_arrived {
        return format!("{text} have arrived, and are being put in force");
    }
    let total = amounts::bytes(progress.bytes_total);
    if progress.bytes_left == 0 {
        return format!("{text}, more than the {total} that were estimated");
    }
    let (left, rate) =
        (amounts::bytes(progress.bytes_left), amounts::bytes(progress.bytes_per_second));
    match progress.seconds_left {
        Some(seconds) => {
            let time = amounts::time(seconds);
            format!("{text} of about {total}, {left} left at {rate}/s, {time}")
        }
        None => format!("{text} of about {total}, {left} left, and nothing arrives"),
    }
}

fn bytes(value: Option<u64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), amounts::bytes)
}

/// A replica by its node; a follower has no further word.
fn replica(replica: &ReplicaReport) -> String {
    if replica.damaged.is_some() {
        return format!("{} (damaged)", replica.node);
    }
    if let Some(lag) = replica.lag {
        return format!("{} ({})", replica.node, lags(lag));
    }
    match replica.role.as_deref() {
        None => format!("{} (not seen)", replica.node),
        Some("follower") => replica.node.to_string(),
        Some(role) => format!("{} ({role})", replica.node),
    }
}

/// A replica's role, and what is wrong with it.
fn role(replica: &ReplicaReport) -> String {
    if replica.damaged.is_some() {
        return "damaged".to_owned();
    }
    let role = replica.role.as_deref().unwrap_or("not seen");
    replica.lag.map_or_else(|| role.to_owned(), |lag| format!("{role}, {}", lags(lag)))
}

fn lags(lag: Lag) -> &'static str {
    match lag {
        Lag::Leaderless => "hears no leader",
        Lag::Stuck => "stands still",
        Lag::CatchingUp => "catches up",
    }
}

/// The keys of a shard: as hash slots if its bounds are slots, else as they are.
fn owns(shard: &ShardReport) -> String {
    if shard.shard == META {
        return "the directory of the cluster (meta shard)".to_owned();
    }
    let slot = |hex: &str| match hex.len() {
        4 => u16::from_str_radix(hex, 16).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let start = if shard.start.is_empty() { Some(0) } else { slot(&shard.start) };
    let end = shard.end.as_deref().map_or(Some(SLOTS), slot);
    match (start, end) {
        (Some(start), Some(end)) => format!("slots [{start}, {end})"),
        _ => format!("keys [{}, {})", shard.start, shard.end.as_deref().unwrap_or("end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let shard = |shard, start: &str, end: Option<&str>| ShardReport {
            shard,
            state: ShardState::Healthy,
            start: start.to_owned(),
            end: end.map(str::to_owned),
            version: 1,
            membership: 1,
            term: 2,
            leader: None,
            replicas: Vec::new(),
        };
        for (summary, expected) in [
            (shard(0, "", None), "the directory of the cluster (meta shard)"),
            (shard(1, "", None), "slots [0, 16384)"),
            (shard(1, "", Some("0100")), "slots [0, 256)"),
            (shard(2, "0100", Some("3fff")), "slots [256, 16383)"),
            (shard(2, "0100", Some("01006162")), "keys [0100, 01006162)"),
            (shard(2, "4000", None), "keys [4000, end)"),
        ] {
            assert_eq!(owns(&summary), expected);
        }
    }
}
