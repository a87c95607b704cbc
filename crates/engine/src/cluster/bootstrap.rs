//! The first map of a cluster: which nodes hold which shard at its start.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_machine::encode_descriptor;
use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

use crate::cluster::map::META_SHARD;

/// The first map, which is static: every node of a new cluster must be given the same one. It is
/// used once, when a directory is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Nodes of the meta shard, which keeps the cluster's directory.
    pub meta: Vec<NodeId>,
    /// The shards, in any order; together they should cover every key.
    pub shards: Vec<BootstrapShard>,
}

/// One shard of the first map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapShard {
    /// Its id; 0 is kept for the meta shard.
    pub shard: ShardId,
    /// The first key of its range.
    pub start: Bytes,
    /// The first key after its range; `None`: no bound.
    pub end: Option<Bytes>,
    /// Nodes of its replicas. The n-th gets replica id n, counted from 1.
    pub nodes: Vec<NodeId>,
}

impl Bootstrap {
    /// One shard that owns every key, with `replicas` replicas: [`Bootstrap::split_at`] without a key.
    ///
    /// # Panics
    /// If `nodes` is empty.
    #[must_use]
    pub fn single(nodes: &[NodeId], replicas: usize) -> Bootstrap {
        Bootstrap::split_at(nodes, replicas, [] as [Bytes; 0])
    }

    /// Shards numbered from 1 that meet at `keys`: the first owns `[.., keys[0])`, the next
    /// `[keys[0], keys[1])`, the last everything from the last key on. Each has `replicas` replicas (or
    /// as many as there are nodes, if those are fewer), assigned to `nodes` in turn. The meta shard is
    /// on the first `replicas` nodes.
    ///
    /// # Panics
    /// If `nodes` is empty, or `keys` do not ascend strictly from a first one that is not empty: a shard
    /// would own nothing.
    #[must_use]
    pub fn split_at<K: Into<Bytes>>(
        nodes: &[NodeId],
        replicas: usize,
        keys: impl IntoIterator<Item = K>,
    ) -> Bootstrap {
        assert!(!nodes.is_empty(), "a cluster has a node");
        let mut starts = vec![Bytes::new()];
        starts.extend(keys.into_iter().map(Into::into));
        assert!(starts.is_sorted_by(|one, next| one < next), "the keys do not ascend: {starts:?}");
        let shards = starts.iter().enumerate().map(|(place, start)| BootstrapShard {
            shard: ShardId(place as u64 + 1),
            start: start.clone(),
            end: starts.get(place + 1).cloned(),
            nodes: (0..replicas.min(nodes.len()))
                .map(|replica| nodes[(place + replica) % nodes.len()])
                .collect(),
        });
        let meta = nodes.iter().copied().take(replicas).collect();
        Bootstrap { meta, shards: shards.collect() }
    }

    /// The map of this bootstrap, the meta shard first.
    pub(crate) fn descriptors(&self) -> Vec<ShardDescriptor> {
        // The meta shard owns no user key; its range is that of its own keys.
        let meta = descriptor(META_SHARD, Bytes::new(), None, &self.meta);
        let users = self.shards.iter().map(|shard| {
            descriptor(shard.shard, shard.start.clone(), shard.end.clone(), &shard.nodes)
        });
        std::iter::once(meta).chain(users).collect()
    }

    /// A digest to tell different first maps apart: CRC-32C of every descriptor, and never 0.
    pub(crate) fn digest(&self) -> u32 {
        let digest = self.descriptors().iter().fold(0, |digest, descriptor| {
            crc32c::crc32c_append(digest, &encode_descriptor(descriptor))
        });
        digest.max(1)
    }

    /// Every node with a replica in this map.
    pub(crate) fn founders(&self) -> BTreeSet<NodeId> {
        let users = self.shards.iter().flat_map(|shard| &shard.nodes);
        self.meta.iter().chain(users).copied().collect()
    }
}

fn descriptor(
    shard: ShardId,
    start: Bytes,
    end: Option<Bytes>,
    nodes: &[NodeId],
) -> ShardDescriptor {
    let replica = |(place, node): (usize, &NodeId)| Replica {
        replica: ReplicaId(place as u64 + 1),
        node: *node,
    };
    let members = nodes.iter().enumerate().map(replica).collect();
    ShardDescriptor { shard, start, end, epoch: Epoch { membership: 1, version: 1 }, members }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: shards meet at the keys, own everything together, and are assigned in turn.
    #[test]
    fn shards_meet_at_the_keys() {
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let bootstrap = Bootstrap::split_at(&nodes, 2, ["g", "t"]);
        let shard = |shard, start: &'static str, end: Option<&'static str>, nodes: [u64; 2]| {
            BootstrapShard {
                shard: ShardId(shard),
                start: Bytes::from(start),
                end: end.map(Bytes::from),
                nodes: nodes.map(NodeId).to_vec(),
            }
        };
        assert_eq!(bootstrap.meta, [NodeId(1), NodeId(2)]);
        assert_eq!(
            bootstrap.shards,
            [
                shard(1, "", Some("g"), [1, 2]),
                shard(2, "g", Some("t"), [2, 3]),
                shard(3, "t", None, [3, 1]),
            ]
        );
        let single = Bootstrap::single(&nodes[..1], 3);
        let BootstrapShard { start, end, nodes, .. } = &single.shards[0];
        assert_eq!((single.shards.len(), start.len(), end, nodes.len()), (1, 0, &None, 1));
    }

    #[test]
    #[should_panic(expected = "do not ascend")]
    fn keys_that_leave_a_shard_nothing_are_refused() {
        let _bootstrap = Bootstrap::split_at(&[NodeId(1)], 1, ["b", "b"]);
    }
}
