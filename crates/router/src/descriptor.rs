//! What the router believes about one shard.

use bytes::Bytes;
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

/// One replica of a shard and the node it lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Unique per admission to the shard's group.
    pub replica: ReplicaId,
    /// Where it lives.
    pub node: NodeId,
}

/// The range, version and members of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardDescriptor {
    /// The shard.
    pub shard: ShardId,
    /// First key of the range.
    pub start: Bytes,
    /// First key after the range; `None`: the range reaches to the end of the key space.
    pub end: Option<Bytes>,
    /// Raised by every change of range or members.
    pub epoch: Epoch,
    /// Replicas, in the order of the shard's own descriptor.
    pub members: Vec<Replica>,
}

impl ShardDescriptor {
    /// True if `key` lies in `[start, end)`.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && is_before(key, self.end.as_deref())
    }

    /// True if the range shares a key with `[start, end)`; an `end` of `None` is the end of the
    /// key space. An empty range shares nothing.
    #[must_use]
    pub fn overlaps(&self, start: &[u8], end: Option<&[u8]>) -> bool {
        let low = self.start.as_ref().max(start);
        is_before(low, self.end.as_deref()) && is_before(low, end)
    }
}

/// True if `key` lies before the exclusive bound `end`.
pub(crate) fn is_before(key: &[u8], end: Option<&[u8]>) -> bool {
    end.is_none_or(|end| key < end)
}
