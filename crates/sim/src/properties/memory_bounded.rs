//! Memory is bounded: per replica the work that was handed out and is not yet done, per node the
//! cache of log entries.

use quorate_types::{NodeId, ShardId, limits};

use super::{Broken, broken};
use crate::observation::{Memory, NodeMemory};

const NAME: &str = "memory_bounded";

/// Callers of one replica: writes up to the uncommitted bytes, of which each holds one entry, and
/// reads.
const WAITING_MAX: usize = limits::READS_PENDING_MAX + limits::INBOX_EVENTS_MAX;
/// The bytes handed out exceed the bound by one run at most.
const APPLY_BYTES_MAX: usize = limits::APPLY_BYTES_MAX + limits::FRAME_BYTES_MAX;
/// More peers than any replica of a world has, strangers among them.
const PEERS_MAX: usize = 16;
/// Of each peer the newest answer of every kind is kept per write, and a few to its readers; writes of
/// one term under way are at most the appends of a window.
const HELD_MESSAGES_MAX: usize =
    PEERS_MAX * (8 + limits::HELD_READ_REPLIES_MAX) + limits::WINDOW_MESSAGES_MAX;

pub(crate) fn replica(node: NodeId, shard: ShardId, memory: &Memory) -> Result<(), Broken> {
    let table = [
        ("callers waiting", memory.waiting, WAITING_MAX),
        ("bytes being applied", memory.apply_bytes, APPLY_BYTES_MAX),
        ("messages held", memory.held_messages, HELD_MESSAGES_MAX),
    ];
    for (noun, found, bound) in table {
        if found > bound {
            let what = format!("shard {shard} on node {node}: {found} {noun}, bound {bound}");
            return Err(broken(NAME, shard, [node], what));
        }
    }
    Ok(())
}

pub(crate) fn node(node: NodeId, memory: &NodeMemory) -> Result<(), Broken> {
    // The end of each turn trims from the cache all that may be given up.
    let bound = memory.cached_bytes_max + memory.pinned_bytes;
    if memory.cached_bytes <= bound {
        return Ok(());
    }
    let what = format!("node {node} caches {} bytes of log, bound {bound}", memory.cached_bytes);
    Err(Broken { property: NAME, shard: None, nodes: vec![node], what })
}

#[cfg(test)]
mod tests {
    use super::super::samples::breaks;
    use super::*;

    #[test]
    fn bounds_hold_until_they_are_passed() {
        let full = Memory { waiting: WAITING_MAX, ..Memory::default() };
        replica(NodeId(1), ShardId(1), &full).expect("just within");
        let over = Memory { waiting: WAITING_MAX + 1, ..Memory::default() };
        breaks(replica(NodeId(1), ShardId(1), &over), NAME);
        let cache =
            NodeMemory { cached_bytes: 9 << 20, cached_bytes_max: 1 << 20, pinned_bytes: 0 };
        breaks(node(NodeId(1), &cache), NAME);
        node(NodeId(1), &NodeMemory { pinned_bytes: 8 << 20, ..cache }).expect("pinned");
        breaks(node(NodeId(1), &NodeMemory { pinned_bytes: (8 << 20) - 1, ..cache }), NAME);
    }
}
