//! Memory is bounded: per replica the work that was handed out and is not yet done, whether it waits
//! behind an install or not, and the messages that wait for a sync; per node the cache of log
//! entries, the work handed out, and the snapshots under way.

use quorate_raft::{Run, Write};
use quorate_types::{NodeId, ShardId, limits};

use super::{Broken, broken};
use crate::observation::{Memory, NodeMemory};

const NAME: &str = "memory_bounded";

/// Callers of one replica: writes up to the uncommitted bytes, of which each holds one entry, and
/// reads.
const WAITING_MAX: usize = limits::READS_PENDING_MAX + limits::INBOX_EVENTS_MAX;
/// More peers than any replica of a world has, strangers among them.
const PEERS_MAX: usize = 16;
/// Of each peer the newest answer of every kind is kept per write, and a few to its readers; writes of
/// one term under way are at most the appends of a window.
const HELD_MESSAGES_MAX: usize =
    PEERS_MAX * (8 + limits::HELD_READ_REPLIES_MAX) + limits::WINDOW_MESSAGES_MAX;

/// Checks memory. Bytes handed out of one replica exceed their bound by one run at most.
#[derive(Default)]
pub(crate) struct MemoryBounded {
    run_bytes_max: usize,
}

impl MemoryBounded {
    /// Learns how large runs get.
    pub(crate) fn written(&mut self, write: &Write) {
        let largest = write.runs.iter().map(Run::len_bytes).max().unwrap_or_default();
        self.run_bytes_max = self.run_bytes_max.max(largest);
    }

    pub(crate) fn replica(
        &self,
        node: NodeId,
        shard: ShardId,
        memory: &Memory,
    ) -> Result<(), Broken> {
        let handed_max = memory.apply_bytes_max + self.run_bytes_max;
        let table = [
            ("callers waiting", memory.waiting, WAITING_MAX),
            ("bytes being applied", memory.apply_bytes, handed_max),
            // What was handed out before the install was decided, and as much after it.
            ("bytes parked", memory.parked_bytes, 2 * handed_max),
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

    pub(crate) fn node(&self, node: NodeId, memory: &NodeMemory) -> Result<(), Broken> {
        // The end of each turn trims from the cache all that may be given up.
        let cached_max = memory.cached_bytes_max + memory.pinned_bytes;
        // Each replica may exceed what was reserved for it by one run that is read back.
        let handed_max = memory.apply_bytes_max + memory.replicas * self.run_bytes_max;
        let table = [
            ("bytes of log cached", memory.cached_bytes, cached_max),
            ("bytes being applied", memory.apply_bytes, handed_max),
            // With the bound of each, this bounds what is parked on the node.
            ("replicas paused for an install", memory.paused, memory.transfers_max),
            ("snapshots being sent", memory.sending, memory.transfers_max),
            ("snapshots being received", memory.receiving, memory.transfers_max),
        ];
        for (noun, found, bound) in table {
            if found > bound {
                let what = format!("node {node}: {found} {noun}, bound {bound}");
                return Err(Broken { property: NAME, shard: None, nodes: vec![node], what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{breaks, write};
    use super::*;

    #[test]
    fn bounds_hold_until_they_are_passed() {
        let mut bounds = MemoryBounded::default();
        let (on, of) = (NodeId(1), ShardId(1));
        let full = Memory { waiting: WAITING_MAX, ..Memory::default() };
        bounds.replica(on, of, &full).expect("just within");
        let over = Memory { waiting: WAITING_MAX + 1, ..Memory::default() };
        breaks(bounds.replica(on, of, &over), NAME);
        let handed = Memory { apply_bytes: 101, apply_bytes_max: 100, ..Memory::default() };
        breaks(bounds.replica(on, of, &handed), NAME);
        let parked = Memory { parked_bytes: 201, apply_bytes_max: 100, ..Memory::default() };
        breaks(bounds.replica(on, of, &parked), NAME);
        bounds.written(&write(1).run(1, 2, 1).build());
        bounds.replica(on, of, &handed).expect("one run beyond the bound");
        bounds.replica(on, of, &parked).expect("one run beyond the bound");
    }

    #[test]
    fn bounds_of_a_node_hold_until_they_are_passed() {
        let (bounds, on) = (MemoryBounded::default(), NodeId(1));
        let cache = NodeMemory {
            cached_bytes: 9 << 20,
            cached_bytes_max: 1 << 20,
            ..NodeMemory::default()
        };
        breaks(bounds.node(on, &cache), NAME);
        bounds.node(on, &NodeMemory { pinned_bytes: 8 << 20, ..cache }).expect("pinned");
        breaks(bounds.node(on, &NodeMemory { pinned_bytes: (8 << 20) - 1, ..cache }), NAME);
        let of = |apply_bytes, paused, sending, receiving| NodeMemory {
            apply_bytes,
            apply_bytes_max: 9,
            paused,
            sending,
            receiving,
            transfers_max: 2,
            ..NodeMemory::default()
        };
        bounds.node(on, &of(9, 2, 2, 2)).expect("just within");
        for over in [of(10, 2, 2, 2), of(9, 3, 2, 2), of(9, 2, 3, 2), of(9, 2, 2, 3)] {
            breaks(bounds.node(on, &over), NAME);
        }
    }
}
