//! The table of nodes.

use quorate::{NodeState, SnapshotCounts};

use super::table::{NOTHING, Side, number, table as draw};
use crate::report::NodeReport;

pub(super) fn heading(nodes: &[NodeReport]) -> String {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    format!("Nodes: {up} of {} up\n", nodes.len())
}

pub(super) fn table(nodes: &[NodeReport]) -> String {
    let mut columns = vec![
        ("NODE", Side::Right),
        ("STATE", Side::Left),
        ("LEADS", Side::Right),
        ("REPLICAS", Side::Right),
        ("SYNC P99", Side::Right),
        ("ADDRESS", Side::Left),
        ("REDIS", Side::Left),
        ("ADMIN", Side::Left),
    ];
    let mut rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    // Shown only if there is something to show.
    for (header, cell) in
        [("SNAPSHOTS", snapshots as fn(&NodeReport) -> Option<String>), ("WHY", why)]
    {
        let cells: Vec<Option<String>> = nodes.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            columns.push((header, Side::Left));
            rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell.unwrap_or_default()));
        }
    }
    draw(&columns, rows)
}

/// The snapshots that a node sends and receives.
fn snapshots(node: &NodeReport) -> Option<String> {
    let SnapshotCounts { sending, waiting, receiving } = node.snapshots?;
    let counts = [(receiving, "in"), (sending, "out"), (waiting, "to begin")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, words)| format!("{count} {words}")).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// Why a node is not up, or lacks replicas.
fn why(node: &NodeReport) -> Option<String> {
    let damaged = match node.damaged.len() {
        0 => None,
        1 => Some("1 replica is damaged".to_owned()),
        count => Some(format!("{count} replicas are damaged")),
    };
    node.reason.as_deref().map(shorten).or(damaged)
}

fn row(node: &NodeReport) -> Vec<String> {
    let service = |name| node.services.get(name).map_or(NOTHING, String::as_str).to_owned();
    vec![
        node.node.to_string(),
        state(node.state).to_owned(),
        number(node.leaders),
        node.replicas.to_string(),
        node.sync_p99_us.filter(|us| *us > 0).map_or_else(|| NOTHING.to_owned(), below),
        if node.address.is_empty() { NOTHING.to_owned() } else { node.address.clone() },
        service("redis"),
        service("admin"),
    ]
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Founding => "founding",
        NodeState::Stalled => "stalled",
        NodeState::ReadOnly => "read-only",
        NodeState::Failed => "failed",
        NodeState::Unreachable => "unreachable",
    }
}

/// Formats an upper bound in microseconds in a readable unit. It is known to a factor of two: more
/// than two digits would look like a measurement. Rounded up, so that it stays a bound.
fn below(microseconds: u64) -> String {
    let (value, unit) = match microseconds {
        0..1_000 => (microseconds as f64, "us"),
        1_000..1_000_000 => (microseconds as f64 / 1e3, "ms"),
        _ => (microseconds as f64 / 1e6, "s"),
    };
    match value {
        ..10.0 => format!("< {:.1} {unit}", (value * 10.0).ceil() / 10.0),
        10.0..100.0 => format!("< {:.0} {unit}", value.ceil()),
        _ => format!("< {:.0} {unit}", (value / 10.0).ceil() * 10.0),
    }
}

/// Longest reason in a table, in characters; the list of problems has the whole of it.
const REASON_CHARS_MAX: usize = 72;

fn shorten(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        None => reason.to_owned(),
        Some((at, _)) => format!("{}...", reason[..at].trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a bound that is known to a factor of two is shown as one, with two digits.
    #[test]
    fn bounds_have_two_digits() {
        for (microseconds, expected) in [
            (2, "< 2.0 us"),
            (524, "< 530 us"),
            (1_048, "< 1.1 ms"),
            (16_777, "< 17 ms"),
            (134_217, "< 140 ms"),
            (2_147_483, "< 2.2 s"),
        ] {
            assert_eq!(below(microseconds), expected);
        }
    }
}
