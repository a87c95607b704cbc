use std::ops::Range;

use super::*;

/// A log behind 10, with runs as `(first, bytes)`, that ends at `last`.
fn index(runs: &[(u64, u32)], last: u64) -> RunIndex {
    let runs = runs.iter().map(|(first, bytes)| StoredRun { first: Index(*first), bytes: *bytes });
    RunIndex::new(Index(10), Index(last), runs.collect())
}

/// What is left: the runs as `(first, bytes)`, and base and last.
fn left(index: &RunIndex) -> (Vec<(u64, u32)>, Range<u64>) {
    let runs: Vec<_> = index.runs.iter().map(|run| (run.first.0, run.bytes)).collect();
    assert_eq!(index.bytes(), runs.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>());
    (runs, index.base.0..index.last.0)
}

/// The first indexes of the runs that `change` deletes, in its order.
fn deleted(change: impl FnOnce(&mut dyn FnMut(StoredRun))) -> Vec<u64> {
    let mut firsts = Vec::new();
    change(&mut |run| firsts.push(run.first.0));
    firsts
}

const RUNS: [(u64, u32); 3] = [(11, 100), (16, 200), (21, 300)];

#[test]
fn a_raised_base_drops_whole_runs_only() {
    for (base, dropped, kept, last) in [
        (10, 0, 3, 25),
        (14, 0, 3, 25),
        (15, 1, 2, 25),
        (20, 2, 1, 25),
        (24, 2, 1, 25),
        (25, 3, 0, 25),
        (40, 3, 0, 40),
    ] {
        let mut log = index(&RUNS, 25);
        let firsts = deleted(|delete| log.raise_base(Index(base), delete));
        assert_eq!(firsts, [11, 16, 21][..dropped], "to {base}");
        assert_eq!(left(&log), (RUNS[3 - kept..].to_vec(), base..last), "to {base}");
        let held = RUNS.get(3 - kept).map_or(last + 1, |(first, _)| *first)..=last;
        assert!((0..50).all(|at| log.holds(Index(at)) == held.contains(&at)), "to {base}");
    }
    let mut log = index(&RUNS, 25);
    assert_eq!(deleted(|delete| log.reset(Index(12), delete)), [11, 16, 21]);
    assert_eq!(left(&log), (vec![], 12..12));
}

#[test]
fn a_truncation_keeps_the_head_of_the_run_that_it_cuts() {
    let mut log = index(&RUNS, 25);
    assert_eq!(log.spanning(Index(16)), None, "it lies between two runs");
    assert_eq!(log.spanning(Index(26)), None);
    assert_eq!(log.spanning(Index(18)).map(|run| run.first), Some(Index(16)));
    assert_eq!(deleted(|delete| log.truncate(1, Index(26), None, delete)), []);
    assert_eq!(deleted(|delete| log.truncate(1, Index(18), Some(70), delete)), [21]);
    assert_eq!(left(&log), (vec![(11, 100), (16, 70)], 10..17));
    assert_eq!(deleted(|delete| log.truncate(1, Index(16), None, delete)), [16]);
    assert_eq!(left(&log), (vec![(11, 100)], 10..15));
    log.raise_base(Index(12), |run| panic!("{run:?} spans the base"));
    assert_eq!(deleted(|delete| log.truncate(1, Index(13), None, delete)), [11], "no head is left");
    assert_eq!(left(&log), (vec![], 12..12));
}

/// Goal: a run is known to be in the batch under way until the next one begins.
#[test]
fn runs_of_the_batch_under_way_are_known() {
    let mut log = index(&RUNS, 25);
    let run = |first| StoredRun { first: Index(first), bytes: 1 };
    log.append(5, run(26), Index(30));
    log.append(5, run(31), Index(35));
    let is_in = |log: &RunIndex, batch| [21, 26, 31].map(|first| log.is_in(batch, Index(first)));
    assert_eq!(is_in(&log, 5), [false, true, true]);
    assert_eq!(is_in(&log, 6), [false; 3]);
    log.truncate(5, Index(23), Some(9), |_| ());
    assert_eq!(is_in(&log, 5), [true; 3], "the head was put again");
    log.append(6, run(23), Index(23));
    assert!(!log.is_in(6, Index(21)) && log.is_in(6, Index(23)));
}

#[test]
fn the_newest_bytes_are_whole_runs() {
    let mut log = index(&RUNS, 25);
    for (bytes_max, from) in
        [(0, 26), (299, 26), (300, 21), (499, 21), (500, 16), (599, 16), (600, 11), (9_999, 11)]
    {
        assert_eq!(log.within(bytes_max), Index(from), "{bytes_max} bytes");
    }
    log.raise_base(Index(12), |run| panic!("{run:?} spans the base"));
    assert_eq!(log.within(600), Index(13), "never at or below the base");
    log.reset(Index(40), |_| ());
    assert_eq!(log.within(0), Index(41));
}

/// Goal: a long log that was purged gives its memory back.
#[test]
fn memory_follows_the_log() {
    let mut log = index(&[], 10);
    for first in 11..100_011 {
        log.append(1, StoredRun { first: Index(first), bytes: 1 }, Index(first));
    }
    log.raise_base(Index(100_000), |_| ());
    assert_eq!((log.runs.len(), log.bytes()), (10, 10));
    assert!(log.runs.capacity() < 1_000, "{} places", log.runs.capacity());
}
