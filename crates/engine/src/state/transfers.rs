//! How far the snapshots are that this node sends and receives, for its status and its other
//! threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId};

/// The rate of a transfer is that of at least so much time, and of at most twice as much while
/// bytes arrive: parts come in bursts.
const RATE_OVER: Duration = Duration::from_secs(5);

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
    /// Everything has arrived, and is being put in force.
    pub(crate) has_arrived: bool,
    /// Where the rate is measured from, and where it will be measured from next.
    rate_from: Mark,
    rate_next: Mark,
}

/// How far a transfer was at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at: Monotonic,
    bytes: u64,
}

impl TransferProgress {
    /// A transfer of about `bytes_total` that begins.
    pub(crate) fn begin(
        now: Monotonic,
        peer: NodeId,
        base: Index,
        bytes_total: u64,
    ) -> TransferProgress {
        let mark = Mark { at: now, bytes: 0 };
        TransferProgress {
            peer,
            base,
            bytes_done: 0,
            bytes_total,
            began: now,
            has_arrived: false,
            rate_from: mark,
            rate_next: mark,
        }
    }

    /// So many bytes more have arrived.
    pub(crate) fn advance(&mut self, now: Monotonic, bytes: u64) {
        if now.since(self.rate_next.at) >= RATE_OVER {
            let mark = Mark { at: now, bytes: self.bytes_done };
            self.rate_from = std::mem::replace(&mut self.rate_next, mark);
        }
        self.bytes_done += bytes;
    }

    /// The rate of the last seconds. It falls towards zero while nothing arrives.
    pub(crate) fn bytes_per_second(&self, now: Monotonic) -> u64 {
        let bytes = u128::from(self.bytes_done - self.rate_from.bytes);
        let millis = now.since(self.rate_from.at).as_millis().max(1);
        u64::try_from(bytes * 1_000 / millis).unwrap_or(u64::MAX)
    }
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

    /// Whether this node sends a snapshot of `shard` whose receiver has taken a part of it.
    pub(crate) fn is_sent(&self, shard: ShardId) -> bool {
        let is_on_its_way = |((sent, _), progress): (&(ShardId, ReplicaId), &TransferProgress)| {
            *sent == shard && progress.bytes_done > 0
        };
        self.is_wanted() && self.sending.lock().iter().any(is_on_its_way)
    }

    /// Whether any follower waits for a snapshot of this node.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted() > 0
    }

    /// How many followers wait for a snapshot of this node.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Goal: the rate is that of the last seconds, also after a slow beginning, and a transfer that
    /// stands still does not seem to go on. Method: a slow minute, a fast one, and a pause.
    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let at = |second: u64| Monotonic((100 + second) * SECOND);
        let mut progress = TransferProgress::begin(at(0), NodeId(2), Index(9), 1 << 30);
        assert_eq!(progress.bytes_per_second(at(0)), 0);
        (1..=60).for_each(|second| progress.advance(at(second), 100));
        let slow = progress.bytes_per_second(at(60));
        assert!((80..=120).contains(&slow), "{slow}");
        (61..=120).for_each(|second| progress.advance(at(second), 10_000));
        let fast = progress.bytes_per_second(at(120));
        assert!((8_000..=12_000).contains(&fast), "{fast}");
        let paused = progress.bytes_per_second(at(180));
        assert!(paused < 2_000, "{paused}");
        assert_eq!(progress.bytes_done, 60 * 100 + 60 * 10_000);
    }
}
