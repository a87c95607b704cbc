//! The writer thread gathers batches, completes them in order, and fails for good.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use crossbeam_channel::{Receiver, Sender, unbounded};
use quorate_log::{EndReason, LogFault, LogOptions, LogStore, LogWriter, TurnWrite, WriteHook};
use quorate_types::ShardId;

type Completion = Result<Vec<(usize, u64)>, LogFault>;

fn spawn(store: &Arc<LogStore>) -> (LogWriter, Receiver<Completion>) {
    let (tell, told) = unbounded();
    let completed = move |result: Result<&[(usize, u64)], &LogFault>| {
        let result = result.map(<[_]>::to_vec).map_err(Clone::clone);
        tell.send(result).expect("the test listens");
    };
    (LogWriter::spawn(Arc::clone(store), completed), told)
}

fn turn(worker: usize, number: u64, index: u64) -> TurnWrite {
    let writes = vec![append(worker as u64, run(2, index, 1))];
    TurnWrite { worker, number: Some(number), writes, ..TurnWrite::default() }
}

/// A hook that waits for a message before each batch, once `held_from` batches have passed.
fn gate(held_from: u64) -> (WriteHook, Sender<Option<String>>, Receiver<()>) {
    let (release, released) = unbounded();
    let (arrive, arrived) = unbounded();
    let passed = AtomicU64::new(0);
    let hook = WriteHook::new(move || {
        if passed.fetch_add(1, Ordering::Relaxed) < held_from {
            return None;
        }
        arrive.send(()).expect("the test listens");
        released.recv().expect("the test releases")
    });
    (hook, release, arrived)
}

/// Batches before the first turn: the incarnation, the replicas.
const BATCHES_BEFORE: u64 = 2;

/// Goal: turns that arrive while a batch is with the disk share the next sync, and completions
/// come in the order of submission. Method: a gate holds the first batch until all are submitted.
#[test]
fn turns_gather_while_a_batch_syncs() {
    let disk = Disk::new();
    let (hook, release, arrived) = gate(BATCHES_BEFORE);
    let options = LogOptions { write_hook: Some(hook), ..LogOptions::default() };
    let (store, _) = disk.try_open(options).expect("opens");
    let store = Arc::new(store);
    store.create_replicas(&[replica(0), replica(1)]).expect("new");
    let syncs_before = store.statistics().syncs;
    let (writer, told) = spawn(&store);

    writer.submit(turn(0, 1, 11));
    arrived.recv().expect("the first turn leaves alone, at once");
    for number in 2..=10 {
        writer.submit(turn(0, number, 10 + number));
        writer.submit(turn(1, number, 9 + number));
    }
    release.send(None).expect("held");
    release.send(None).expect("held");
    assert_eq!(told.recv().expect("told"), Ok(vec![(0, 1)]));
    let second = told.recv().expect("told").expect("durable");
    let expected: Vec<(usize, u64)> = (2..=10).flat_map(|n| [(0, n), (1, n)]).collect();
    assert_eq!(second, expected);
    writer.shutdown();
    assert_eq!(store.statistics().syncs - syncs_before, 2);
    assert_eq!(entries(&store, 0, 11, 99).len(), 10);
    assert_eq!(entries(&store, 1, 11, 99).len(), 9);
}

/// Goal: turns that nobody waits for are made durable in their order with the others, and nobody
/// is told of them. Method: purges between appends, the last ones alone.
#[test]
fn turns_without_a_number_are_written_in_silence() {
    let disk = Disk::new();
    let (store, _) = disk.open();
    let store = Arc::new(store);
    store.create_replicas(&[replica(0)]).expect("new");
    let (writer, told) = spawn(&store);
    let purge = |to| TurnWrite { purges: vec![purging(0, id(2, to))], ..TurnWrite::default() };
    for number in 1..=50 {
        writer.submit(turn(0, number, 10 + number));
        writer.submit(purge(10 + number));
    }
    let mut numbers = Vec::new();
    while numbers.len() < 50 {
        let batch = told.recv().expect("told").expect("durable");
        assert!(!batch.is_empty());
        numbers.extend(batch.into_iter().map(|(_, number)| number));
    }
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
    // With all numbers told, the next batch is one of silent turns only; the one after has another.
    let batches = store.statistics().batches;
    writer.submit(TurnWrite { ends: vec![ending(0, EndReason::Removed)], ..TurnWrite::default() });
    while store.statistics().batches == batches {
        std::thread::yield_now();
    }
    writer.submit(turn(0, 51, 61));
    assert_eq!(told.recv().expect("told"), Ok(vec![(0, 51)]), "skipped, and told all the same");
    writer.shutdown();
    assert_eq!(told.try_iter().count(), 0);
    assert_eq!((store.statistics().purges, store.statistics().skipped_parts), (50, 1));
    assert_eq!(store.held(ShardId(0)), None);
}

/// Goal: shutdown writes everything that was submitted.
#[test]
fn shutdown_drains() {
    let disk = Disk::new();
    let (store, _) = disk.open();
    let store = Arc::new(store);
    store.create_replicas(&[replica(0)]).expect("new");
    let (writer, told) = spawn(&store);
    for number in 1..=500 {
        writer.submit(turn(0, number, 10 + number));
    }
    writer.shutdown();
    let numbers: Vec<u64> =
        told.iter().flat_map(|result| result.expect("durable")).map(|(_, n)| n).collect();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
    assert_eq!(entries(&store, 0, 11, 999).len(), 500);
}

/// Goal: RULE 8 on the thread: after a failure every batch is answered with it, none is lost
/// silently, and the thread still ends.
#[test]
fn a_fault_answers_every_later_turn() {
    let disk = Disk::new();
    let (hook, release, arrived) = gate(BATCHES_BEFORE);
    let options = LogOptions { write_hook: Some(hook), ..options() };
    let (store, _) = disk.try_open(options).expect("opens");
    let store = Arc::new(store);
    store.create_replicas(&[replica(0)]).expect("new");
    let (writer, told) = spawn(&store);
    writer.submit(turn(0, 1, 11));
    arrived.recv().expect("held");
    release.send(Some("io error".to_owned())).expect("held");
    let first = told.recv().expect("told").expect_err("failed");
    writer.submit(turn(0, 2, 12));
    assert_eq!(told.recv().expect("told"), Err(first.clone()));
    writer.shutdown();
    assert_eq!(store.fault(), Some(first));
}

/// Goal: a broken invariant on the thread stops the store instead of hanging its workers.
#[test]
fn a_panic_of_the_writer_latches() {
    let disk = Disk::new();
    let (store, _) = disk.open();
    let store = Arc::new(store);
    store.create_replicas(&[replica(0)]).expect("new");
    let (writer, told) = spawn(&store);
    writer.submit(turn(0, 1, 12));
    let fault = told.recv().expect("told").expect_err("nobody is told that it is durable");
    assert!(matches!(fault, LogFault::Panicked { .. }), "{fault}");
    drop(writer);
    assert!(matches!(store.fault(), Some(LogFault::Panicked { .. })));
}
