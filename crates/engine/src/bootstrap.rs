//! The first map of a cluster: who holds which shard from the start.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_machine::encode_descriptor;
use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

use crate::cluster_map::META_SHARD;

/// Hash slots that [`Bootstrap::even_slots`] deals out: as many as Redis Cluster has.
pub const SLOTS: u32 = 16_384;

/// Static: every node of a new cluster must be given the same one. It is used once, when a
/// directory is new.
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
    /// First key.
    pub start: Bytes,
    /// First key beyond; `None`: no bound.
    pub end: Option<Bytes>,
    /// Nodes of its replicas. The n-th gets replica id n, counted from 1.
    pub nodes: Vec<NodeId>,
}

impl Bootstrap {
    /// `count` shards, numbered from 1, over keys that begin with a hash slot as two bytes,
    /// big-endian, in `[0, 16384)`; each with `copies` replicas (or all nodes, if fewer), dealt out
    /// in turn. The first and the last shard also own what lies outside the slots. The meta shard lives
    /// on the first `copies` nodes.
    ///
    /// # Panics
    /// If `nodes` is empty, or `count` is not in `[1, 16384]`.
    #[must_use]
    pub fn even_slots(nodes: &[NodeId], count: u32, copies: usize) -> Bootstrap {
        assert!(!nodes.is_empty(), "a cluster has a node");
        assert!((1..=SLOTS).contains(&count), "from 1 to {SLOTS} shards");
        let border = |number: u32| {
            let slot = u16::try_from(u64::from(SLOTS) * u64::from(number) / u64::from(count));
            Bytes::copy_from_slice(&slot.expect("a slot fits u16").to_be_bytes())
        };
        let shards = (0..count).map(|number| BootstrapShard {
            shard: ShardId(u64::from(number) + 1),
            start: if number == 0 { Bytes::new() } else { border(number) },
            end: (number + 1 < count).then(|| border(number + 1)),
            nodes: (0..copies.min(nodes.len()))
                .map(|copy| nodes[(number as usize + copy) % nodes.len()])
                .collect(),
        });
        let meta = nodes.iter().copied().take(copies).collect();
        Bootstrap { meta, shards: shards.collect() }
    }

    /// The map that this bootstrap begins with, the meta shard first.
    pub(crate) fn descriptors(&self) -> Vec<ShardDescriptor> {
        // It owns no user key; its range is that of its own keys.
        let meta = descriptor(META_SHARD, Bytes::new(), None, &self.meta);
        let users = self.shards.iter().map(|shard| {
            descriptor(shard.shard, shard.start.clone(), shard.end.clone(), &shard.nodes)
        });
        std::iter::once(meta).chain(users).collect()
    }

    /// Tells first maps apart, against accidents: CRC-32C of every descriptor, and never 0.
    pub(crate) fn digest(&self) -> u32 {
        let digest = self.descriptors().iter().fold(0, |digest, descriptor| {
            crc32c::crc32c_append(digest, &encode_descriptor(descriptor))
        });
        digest.max(1)
    }

    /// Every node with a replica in it.
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
