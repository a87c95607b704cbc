//! The status of a node's log.

use std::time::Duration;

use quorate_log::LogStore;
use serde::{Deserialize, Serialize};

/// The log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Writes of shards.
    pub writes: u64,
    /// Batches written, each for all shards that had something to write.
    pub batches: u64,
    /// Batches that were synced.
    pub syncs: u64,
    /// Runs written.
    pub runs: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of runs written.
    pub run_bytes: u64,
    /// Bytes of the runs that are stored, of all shards.
    #[serde(default)]
    pub held_bytes: u64,
    /// How many of these are kept for followers that are away: beyond that the log is purged, as far
    /// as it is applied durably and followers that keep up do not need it.
    #[serde(default)]
    pub kept_bytes_max: u64,
    /// Purges of shards' logs.
    #[serde(default)]
    pub purges: u64,
    /// Runs deleted by purges, and by snapshots that took their place.
    #[serde(default)]
    pub purged_runs: u64,
    /// Bytes of these runs.
    #[serde(default)]
    pub purged_bytes: u64,
    /// Snapshots that took the place of a log's beginning.
    #[serde(default)]
    pub installs: u64,
    /// Changes that were skipped because their replica was no longer the living one.
    #[serde(default)]
    pub skipped_parts: u64,
    /// Median time of a synced batch in microseconds; an upper bound, at most twice too high.
    pub sync_p50_us: u64,
    /// 99th percentile of that time, equally rough.
    pub sync_p99_us: u64,
    /// All times of synced batches.
    #[serde(default)]
    pub sync_times: TimesStatus,
}

/// Times, counted by power of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimesStatus {
    /// Their sum, in microseconds.
    pub sum_us: u64,
    /// How many were in `[2^n, 2^(n+1))` nanoseconds, at place n; the first also counts zero, and the
    /// last everything longer.
    pub counts: Vec<u64>,
}

impl LogStatus {
    /// The status of `log`, of which `kept_bytes_max` are kept.
    pub(crate) fn of(log: &LogStore, kept_bytes_max: u64) -> LogStatus {
        let found = log.statistics();
        LogStatus {
            writes: found.writes,
            batches: found.batches,
            syncs: found.syncs,
            runs: found.runs,
            entries: found.entries,
            run_bytes: found.run_bytes,
            held_bytes: log.held_bytes(),
            kept_bytes_max,
            purges: found.purges,
            purged_runs: found.purged_runs,
            purged_bytes: found.purged_bytes,
            installs: found.installs,
            skipped_parts: found.skipped_parts,
            sync_p50_us: micros(found.sync_latency.quantile(0.5)),
            sync_p99_us: micros(found.sync_latency.quantile(0.99)),
            sync_times: TimesStatus {
                sum_us: micros(found.sync_latency.sum),
                counts: found.sync_latency.counts.to_vec(),
            },
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
