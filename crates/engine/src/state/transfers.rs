//! How far the snapshots are that this node sends and receives, for its status and its other
//! threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId};

/// A snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransferProgress {
    /// The other node.
    pub(crate) peer: NodeId,
    /// The last entry that it holds.
    pub(crate) base: Index,
    pub(crate) bytes_done: u64,
    /// An estimate.
    pub(crate) bytes_total: u64,
    pub(crate) began: Monotonic,
}

/// The snapshots of a node, by shard and receiving replica.
type Progresses = BTreeMap<(ShardId, ReplicaId), TransferProgress>;

/// All snapshots of a node. Written by the threads that send and receive them.
#[derive(Default)]
pub(crate) struct Transfers {
    /// Snapshots that followers wait for, those included that are not yet begun.
    wanted: AtomicUsize,
    pub(crate) sending: Mutex<Progresses>,
    pub(crate) receiving: Mutex<Progresses>,
}

impl Transfers {
    /// Bytes of snapshots that are being received and have not arrived.
    pub(crate) fn expected_bytes(&self) -> u64 {
        let receiving = self.receiving.lock();
        receiving.values().map(|it| it.bytes_total.saturating_sub(it.bytes_done)).sum()
    }

    /// Whether this node sends a snapshot of `shard`.
    pub(crate) fn is_sent(&self, shard: ShardId) -> bool {
        self.is_wanted() && self.sending.lock().keys().any(|(sent, _)| *sent == shard)
    }

    /// Whether any follower waits for a snapshot of this node.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// So many followers more wait.
    pub(crate) fn want(&self, count: usize) {
        self.wanted.fetch_add(count, Ordering::AcqRel);
    }

    /// One follower less waits.
    pub(crate) fn end_wanted(&self) {
        self.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}
