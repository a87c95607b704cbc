//! The descriptor of one shard: its range, its epoch and its members.

use std::cmp::Ordering;

use bytes::Bytes;
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

/// One replica of a shard and the node it lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// Unique per admission to the shard's group.
    pub replica: ReplicaId,
    /// The node that it lives on.
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

    /// How this descriptor compares with `other`, of the same shard: the newer one is the greater.
    /// `None`: they can't both have been in force, because their epochs have no order, or because one
    /// version has two ranges, or one epoch two lists of members.
    #[must_use]
    pub fn compare(&self, other: &ShardDescriptor) -> Option<Ordering> {
        let order = self.epoch.partial_cmp(&other.epoch)?;
        let is_one_version = self.epoch.version == other.epoch.version;
        let is_one_range = (&self.start, &self.end) == (&other.start, &other.end);
        let is_one_list = self.members == other.members;
        let is_sound = (!is_one_version || is_one_range) && (order.is_ne() || is_one_list);
        is_sound.then_some(order)
    }

    /// True if no key lies in the range; no real shard has such a range.
    #[must_use]
    pub fn is_range_empty(&self) -> bool {
        !is_before(&self.start, self.end.as_deref())
    }

    /// True if the range shares a key with `[start, end)`; an `end` of `None` is the end of the key
    /// space. An empty range shares nothing.
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
