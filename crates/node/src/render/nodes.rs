//! Nodes as a table.

use quorate::{NodeState, NodeStatus};

use super::table::{NOTHING, Side, number, table as draw};

pub(super) fn heading(nodes: &[NodeStatus]) -> String {
    let up = nodes.iter().filter(|node| node.state == NodeState::Up).count();
    format!("Nodes: {up} of {} up\n", nodes.len())
}

pub(super) fn table(nodes: &[NodeStatus]) -> String {
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
    let has_reasons = nodes.iter().any(|node| node.reason.is_some());
    if has_reasons {
        columns.push(("WHY", Side::Left));
    }
    let rows = nodes.iter().map(|node| {
        let mut row = row(node);
        if has_reasons {
            row.push(shorten(node.reason.as_deref().unwrap_or_default()));
        }
        row
    });
    draw(&columns, rows.collect())
}

fn row(node: &NodeStatus) -> Vec<String> {
    let service = |name| node.services.get(name).map_or(NOTHING, String::as_str).to_owned();
    vec![
        node.node.to_string(),
        state(node.state).to_owned(),
        number(node.leaders),
        node.replicas.to_string(),
        node.sync_p99_us.map_or_else(|| NOTHING.to_owned(), duration),
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
        NodeState::Failed => "failed",
        NodeState::Unreachable => "unreachable",
    }
}

/// Microseconds in the unit that a reader would choose.
fn duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} us"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.1} s", microseconds as f64 / 1e6),
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

    #[test]
    fn durations() {
        for (microseconds, expected) in
            [(0, "0 us"), (999, "999 us"), (1_024, "1.0 ms"), (2_500_000, "2.5 s")]
        {
            assert_eq!(duration(microseconds), expected);
        }
    }
}
