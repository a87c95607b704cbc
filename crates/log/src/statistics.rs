//! Counters and latencies of the store, for metrics and benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of the latency histogram: one per power of two nanoseconds, up to 2^40 (18 minutes).
const BUCKETS: usize = 41;

/// A copy of the counters, which all start at 0 when the store opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatistics {
    /// Shards' writes made.
    pub writes: u64,
    /// Batches handed to the storage engine, synced or not.
    pub batches: u64,
    /// Batches that were synced.
    pub syncs: u64,
    /// Runs stored.
    pub runs: u64,
    /// Entries in those runs.
    pub entries: u64,
    /// Encoded bytes of those runs.
    pub run_bytes: u64,
    /// Bytes of all batches: runs, keys and records. A table file written later is not in it.
    pub batch_bytes: u64,
    /// Purges that raised a base.
    pub purges: u64,
    /// Snapshots that were put in force.
    pub installs: u64,
    /// Runs deleted by purges and installs.
    pub purged_runs: u64,
    /// Encoded bytes of those runs.
    pub purged_bytes: u64,
    /// Parts of turns that were skipped, because their replica was no longer the living one.
    pub skipped_parts: u64,
    /// Small tables that were merged with their neighbours.
    pub tables_merged: u64,
    /// How long synced batches took, from submission to stable storage.
    pub sync_latency: LatencyHistogram,
}

/// Counts by power of two: bucket `n` holds latencies in `[2^n, 2^(n+1))` nanoseconds, bucket 0
/// also zero, the last one everything longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Latencies per bucket.
    pub counts: [u64; BUCKETS],
    /// The sum of all latencies.
    pub sum: Duration,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        LatencyHistogram { counts: [0; BUCKETS], sum: Duration::ZERO }
    }
}

impl LatencyHistogram {
    /// An upper bound, at most twice too high, of the latency that `share` (0.0 to 1.0) of all
    /// stay below; zero if nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(2 << bucket);
            }
        }
        Duration::ZERO
    }
}

/// The live counters. All accesses are relaxed, because the counters are independent.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) writes: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) runs: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) run_bytes: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) purges: AtomicU64,
    pub(crate) installs: AtomicU64,
    pub(crate) purged_runs: AtomicU64,
    pub(crate) purged_bytes: AtomicU64,
    pub(crate) skipped_parts: AtomicU64,
    pub(crate) tables_merged: AtomicU64,
    sync_latency: [AtomicU64; BUCKETS],
    sync_latency_sum_ns: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            writes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            run_bytes: AtomicU64::new(0),
            batch_bytes: AtomicU64::new(0),
            purges: AtomicU64::new(0),
            installs: AtomicU64::new(0),
            purged_runs: AtomicU64::new(0),
            purged_bytes: AtomicU64::new(0),
            skipped_parts: AtomicU64::new(0),
            tables_merged: AtomicU64::new(0),
            sync_latency: std::array::from_fn(|_| AtomicU64::new(0)),
            sync_latency_sum_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn count_sync(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (nanos.max(1).ilog2() as usize).min(BUCKETS - 1);
        add(&self.sync_latency[bucket], 1);
        // It wraps after 584 years of syncs.
        add(&self.sync_latency_sum_ns, nanos);
    }

    pub(crate) fn snapshot(&self) -> LogStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts: [u64; BUCKETS] = std::array::from_fn(|at| read(&self.sync_latency[at]));
        LogStatistics {
            writes: read(&self.writes),
            batches: read(&self.batches),
            syncs: counts.iter().sum(),
            runs: read(&self.runs),
            entries: read(&self.entries),
            run_bytes: read(&self.run_bytes),
            batch_bytes: read(&self.batch_bytes),
            purges: read(&self.purges),
            installs: read(&self.installs),
            purged_runs: read(&self.purged_runs),
            purged_bytes: read(&self.purged_bytes),
            skipped_parts: read(&self.skipped_parts),
            tables_merged: read(&self.tables_merged),
            sync_latency: LatencyHistogram {
                counts,
                sum: Duration::from_nanos(read(&self.sync_latency_sum_ns)),
            },
        }
    }
}

/// Raises `counter` by `amount`.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_bound_from_above_by_at_most_two() {
        let counters = Counters::new();
        assert_eq!(counters.snapshot().sync_latency.quantile(0.5), Duration::ZERO);
        for _ in 0..99 {
            counters.count_sync(Duration::from_micros(100));
        }
        counters.count_sync(Duration::MAX);
        let latency = counters.snapshot().sync_latency;
        let median = latency.quantile(0.5);
        assert!(median >= Duration::from_micros(100) && median <= Duration::from_micros(200));
        assert!(latency.quantile(1.0) > Duration::from_secs(1_000));
        assert_eq!(counters.snapshot().syncs, 100);
    }

    #[test]
    fn the_sum_is_that_of_all() {
        let counters = Counters::new();
        counters.count_sync(Duration::from_micros(100));
        counters.count_sync(Duration::from_micros(250));
        assert_eq!(counters.snapshot().sync_latency.sum, Duration::from_micros(350));
    }
}
