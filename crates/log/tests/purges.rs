//! What purges cost, and what shares their batch.

mod common;

use common::*;
use quorate_log::{EndReason, LogStore, TurnWrite};
use quorate_types::{Index, ShardId, SpaceId};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

/// Every way in which this thread can have looked for a key.
const READS: [PerfMetric; 8] = [
    PerfMetric::GetFromMemtableCount,
    PerfMetric::SeekOnMemtableCount,
    PerfMetric::NextOnMemtableCount,
    PerfMetric::PrevOnMemtableCount,
    PerfMetric::SeekChildSeekCount,
    PerfMetric::BlockReadCount,
    PerfMetric::InternalKeySkippedCount,
    PerfMetric::InternalDeleteSkippedCount,
];

fn reads(perf: &PerfContext) -> u64 {
    READS.into_iter().map(|metric| perf.metric(metric)).sum()
}

/// Writes as many turns as one call, and returns how many batches that took.
fn batches(log: &LogStore, turns: &[TurnWrite]) -> u64 {
    let before = log.statistics().batches;
    log.write(turns).expect("written");
    log.statistics().batches - before
}

/// Goal: a purge reads nothing, however many came before it. Method: a hundred thousand purges of
/// one run each, with RocksDB's own counts of what this thread looked for; a read at the end shows
/// that they count.
#[test]
fn a_purge_reads_nothing() {
    const RUNS: u64 = 100_000;
    const RUNS_PER_CALL: u64 = 100;
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1)]).expect("new");
    for first in (11..11 + RUNS).step_by(RUNS_PER_CALL as usize) {
        let runs = (first..first + RUNS_PER_CALL).map(|at| run(2, at, 1)).collect();
        put(&log, &[write(1, None, runs)]).expect("written");
    }
    assert_eq!(log.held(ShardId(1)).expect("living").runs, RUNS);

    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut perf = PerfContext::default();
    perf.reset();
    for first in (11..11 + RUNS).step_by(RUNS_PER_CALL as usize) {
        let purge = |at| TurnWrite { purges: vec![purging(1, id(2, at))], ..TurnWrite::default() };
        let turns: Vec<TurnWrite> = (first..first + RUNS_PER_CALL).map(purge).collect();
        assert_eq!(batches(&log, &turns), 1);
    }
    assert_eq!(reads(&perf), 0);
    let statistics = log.statistics();
    assert_eq!((statistics.purges, statistics.purged_runs), (RUNS, RUNS));
    assert_eq!((statistics.purged_bytes, log.held_bytes()), (statistics.run_bytes, 0));
    let last = 10 + RUNS;
    assert!(log.read(ShardId(1), Index(last)..Index(last + 1), 1).is_err());
    assert_eq!(reads(&perf), 0, "nor does the answer that an entry was purged");
    put(&log, &[append(1, run(2, last + 1, 2))]).expect("written");
    assert_eq!(reads(&perf), 0);
    assert_eq!(entries(&log, 1, last + 1, last + 9).len(), 2);
    assert!(reads(&perf) > 0, "a read counts");
}

/// Goal: whatever shares a batch is one batch, unless a run that it holds is cut. Method: turns
/// that append, purge, install and end the same shards, in one call each.
#[test]
fn only_a_cut_within_the_batch_splits_it() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    let writes = |writes| TurnWrite { writes, ..TurnWrite::default() };
    let purges = |purges| TurnWrite { purges, ..TurnWrite::default() };
    let appends = || writes(vec![append(1, run(2, 11, 5)), append(2, run(2, 11, 5))]);
    assert_eq!(batches(&log, &[appends(), purges(vec![purging(1, id(2, 13))])]), 1);
    let whole = [
        writes(vec![append(1, run(2, 16, 5))]),
        purges(vec![purging(1, id(2, 15))]),
        writes(vec![write(1, Some(16), vec![run(3, 16, 2)])]),
        writes(vec![installing(append(2, run(4, 31, 4)), id(4, 30), SpaceId(9), false)]),
        writes(vec![installing(write(2, None, vec![]), id(4, 34), SpaceId(10), true)]),
        TurnWrite { ends: vec![ending(2, EndReason::Removed)], ..TurnWrite::default() },
    ];
    assert_eq!(batches(&log, &whole), 1, "runs are deleted whole");
    assert_eq!(entries(&log, 1, 16, 99), [(3, 16), (3, 17)]);
    let cuts = [
        writes(vec![append(1, run(3, 18, 5))]),
        writes(vec![write(1, Some(20), vec![run(4, 20, 1)])]),
    ];
    assert_eq!(batches(&log, &cuts), 2, "a run of the first is cut by the second");
    assert_eq!(batches(&log, &[writes(vec![write(1, Some(19), vec![])])]), 1);
    drop(log);
    let (log, recovery) = disk.open();
    assert_eq!(entries(&log, 1, 16, 99), [(3, 16), (3, 17), (3, 18)]);
    assert!(recovered(&recovery, 2).tombstone);
}
