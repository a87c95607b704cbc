//! An engine's counters. Two engines in one process share none.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See [`CounterValues`] for the meanings.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) writes_applied: Counter,
    pub(crate) writes_refused: Counter,
    pub(crate) writes_unknown: Counter,
    pub(crate) reads_served: Counter,
    pub(crate) reads_refused: Counter,
    pub(crate) forwards_sent: Counter,
    pub(crate) relayed: Counter,
    pub(crate) statuses_told: Counter,
    pub(crate) turns: Counter,
    pub(crate) messages_dropped: Counter,
    pub(crate) appends_dropped: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_failed: Counter,
    pub(crate) snapshots_received: Counter,
    pub(crate) snapshot_bytes_sent: Counter,
    pub(crate) snapshot_bytes_received: Counter,
}

/// Totals since the engine opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CounterValues {
    /// Calls answered after their entry was applied here.
    pub writes_applied: u64,
    /// Writes that ended as "did not happen" for callers here.
    pub writes_refused: u64,
    /// Writes that ended as "outcome unknown" for callers here.
    pub writes_unknown: u64,
    /// Reads answered.
    pub reads_served: u64,
    /// Reads refused.
    pub reads_refused: u64,
    /// Requests forwarded to other nodes.
    pub forwards_sent: u64,
    /// Requests handled or relayed for nodes that could not reach a leader themselves.
    #[serde(default)]
    pub relayed: u64,
    /// Statuses of this node that were computed for others.
    #[serde(default)]
    pub statuses_told: u64,
    /// Turns of all workers.
    pub turns: u64,
    /// Messages of peers dropped because a worker's inbox was full.
    pub messages_dropped: u64,
    /// Appends of peers dropped because the disk was below half of its floor.
    #[serde(default)]
    pub appends_dropped: u64,
    /// Snapshots that followers have put in force.
    #[serde(default)]
    pub snapshots_sent: u64,
    /// Snapshots that followers did not take, or did not get in time.
    #[serde(default)]
    pub snapshots_failed: u64,
    /// Snapshots of others that replicas here have put in force.
    #[serde(default)]
    pub snapshots_received: u64,
    /// Bytes of snapshots that arrived at followers.
    #[serde(default)]
    pub snapshot_bytes_sent: u64,
    /// Bytes of snapshots that arrived here.
    #[serde(default)]
    pub snapshot_bytes_received: u64,
}

impl Counters {
    pub(crate) fn values(&self) -> CounterValues {
        CounterValues {
            writes_applied: self.writes_applied.get(),
            writes_refused: self.writes_refused.get(),
            writes_unknown: self.writes_unknown.get(),
            reads_served: self.reads_served.get(),
            reads_refused: self.reads_refused.get(),
            forwards_sent: self.forwards_sent.get(),
            relayed: self.relayed.get(),
            statuses_told: self.statuses_told.get(),
            turns: self.turns.get(),
            messages_dropped: self.messages_dropped.get(),
            appends_dropped: self.appends_dropped.get(),
            snapshots_sent: self.snapshots_sent.get(),
            snapshots_failed: self.snapshots_failed.get(),
            snapshots_received: self.snapshots_received.get(),
            snapshot_bytes_sent: self.snapshot_bytes_sent.get(),
            snapshot_bytes_received: self.snapshot_bytes_received.get(),
        }
    }
}
