//! Replicas of a shard are one state machine (Schneider, "Implementing fault-tolerant services
//! using the state machine approach", 1990): the same entry has the same reply at each of them, and
//! the same applied index means the same data. This finds a machine that keeps something beside its
//! map, or reads a clock, or depends on the order of a hash table.

use std::collections::BTreeMap;

use quorate_types::{Index, LogId, NodeId, ShardId};

use super::{Broken, broken};

const NAME: &str = "replicas_agree";

/// The first node that reached an index, and the hash of its reply or data.
#[derive(Clone, Copy)]
struct Seen {
    node: NodeId,
    hash: u64,
}

/// Compares the replies and the data of all replicas.
#[derive(Default)]
pub(crate) struct ReplicasAgree {
    replies: BTreeMap<(ShardId, Index), Seen>,
    data: BTreeMap<(ShardId, Index), Seen>,
}

impl ReplicasAgree {
    pub(crate) fn replied(
        &mut self,
        node: NodeId,
        shard: ShardId,
        id: LogId,
        hash: u64,
    ) -> Result<(), Broken> {
        let first = *self.replies.entry((shard, id.index)).or_insert(Seen { node, hash });
        if first.hash == hash {
            return Ok(());
        }
        let what = format!(
            "entry {id} of shard {shard} was answered otherwise at node {node} than at node {}: the \
             state machine does not depend on its map and the entries alone",
            first.node
        );
        Err(broken(NAME, shard, [first.node, node], what))
    }

    pub(crate) fn data_seen(
        &mut self,
        node: NodeId,
        shard: ShardId,
        applied: Index,
        digest: u64,
    ) -> Result<(), Broken> {
        let first = *self.data.entry((shard, applied)).or_insert(Seen { node, hash: digest });
        if first.hash == digest {
            return Ok(());
        }
        let what = format!(
            "shard {shard} has other data at node {node} than at node {}, both as of {applied:?}",
            first.node
        );
        Err(broken(NAME, shard, [first.node, node], what))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks, id};
    use super::*;
    use crate::observation::Observation;

    fn replied(bench: &mut Bench, node: u64, index: u64, reply_hash: u64) -> Result<(), Broken> {
        let (node, id) = (NodeId(node), id(2, index));
        bench.see(&Observation::Replied { node, shard: SHARD, id, reply_hash })
    }

    fn seen(bench: &mut Bench, node: u64, applied: u64, digest: u64) -> Result<(), Broken> {
        let (node, applied) = (NodeId(node), Index(applied));
        bench.see(&Observation::DataSeen { node, shard: SHARD, applied, digest })
    }

    #[test]
    fn the_same_everywhere_is_sound() {
        let mut bench = Bench::new();
        for node in 1..=3 {
            replied(&mut bench, node, 2, 77).expect("the same reply");
            replied(&mut bench, node, 3, 78).expect("another entry");
            seen(&mut bench, node, 3, 5).expect("the same data");
        }
        seen(&mut bench, 1, 4, 6).expect("further on");
    }

    #[test]
    fn another_reply_and_other_data_are_found() {
        let mut bench = Bench::new();
        replied(&mut bench, 1, 2, 77).expect("the first");
        breaks(replied(&mut bench, 2, 2, 78), NAME);
        seen(&mut bench, 1, 3, 5).expect("the first");
        breaks(seen(&mut bench, 3, 3, 6), NAME);
    }
}
