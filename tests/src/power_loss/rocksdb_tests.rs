//! Goal: the model judges RocksDB correctly: synced batches survive any power loss, and without the
//! syncs they do not. Method: this test program runs itself under the preload library, writes
//! synced batches from two threads through flushes and compactions, and marks each one when it is
//! acknowledged; the database is reopened after cuts at random records.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rocksdb::{DB, DBRecoveryMode, Options, WriteBatch, WriteOptions};

use super::live_tests::{Scene, Task, assert_same_tree};
use super::{Entries, Journal, Loss, Model, copy_tree};
use quorate_types::SplitMix64;

const CHILD: &str = "power_loss::rocksdb_tests::child";
const THREADS: u64 = 2;
const KEYS_PER_BATCH: u64 = 8;

fn options(recovery: DBRecoveryMode) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_wal_recovery_mode(recovery);
    options.set_track_and_verify_wals_in_manifest(true);
    // Small, so that tables are written, compacted and deleted all the time.
    options.set_write_buffer_size(128 << 10);
    options.set_target_file_size_base(128 << 10);
    options.set_level_zero_file_num_compaction_trigger(2);
    options
}

fn value(thread: u64, batch: u64, key: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(thread << 48 | batch << 8 | key);
    let length = 1 + random.below(300);
    (0..length).map(|_| random.bits() as u8).collect()
}

fn key(thread: u64, batch: u64, key: u64) -> Vec<u8> {
    format!("{thread}/{key}/{batch:08}").into_bytes()
}

#[test]
#[ignore = "runs only as the child of the other tests"]
fn child() {
    if let Some(task) = Task::find() {
        load(&task, true);
    }
}

#[test]
#[ignore = "runs only as the child of the other tests"]
fn child_without_syncs() {
    if let Some(task) = Task::find() {
        load(&task, false);
    }
}

fn load(task: &Task, sync: bool) {
    let path = task.root.join("db");
    if task.round == 0 {
        fs::create_dir(&path).unwrap();
        // RocksDB syncs its directory, but not the one above.
        File::open(&task.root).unwrap().sync_all().unwrap();
    }
    let db = DB::open(&options(DBRecoveryMode::PointInTime), path).unwrap();
    std::thread::scope(|scope| {
        for thread in task.round * THREADS..(task.round + 1) * THREADS {
            let (root, db) = (&task.root, &db);
            scope.spawn(move || write_and_promise(root, db, thread, task.operations, sync));
        }
    });
}

fn write_and_promise(root: &Path, db: &DB, thread: u64, batches: u64, sync: bool) {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    let mut marks = File::create(root.join(format!("ANNOTATIONS-{thread}"))).unwrap();
    for batch in 0..batches {
        let mut changes = WriteBatch::default();
        for number in 0..KEYS_PER_BATCH {
            changes.put(key(thread, batch, number), value(thread, batch, number));
        }
        db.write_opt(&changes, &options).unwrap();
        marks.write_all(format!("{thread} {batch}\n").as_bytes()).unwrap();
    }
}

/// The outcome of reopening one database.
#[derive(Debug, Default)]
struct Tally {
    opened: usize,
    refused: usize,
    acknowledged: usize,
    missing: usize,
    bytes_dropped: u64,
    writes_torn: usize,
    renames_lost: usize,
    first_refusal: Option<String>,
}

fn check(tree: &Path, marks: &[u8], recovery: DBRecoveryMode, tally: &mut Tally) {
    let promises: Vec<(u64, u64)> = std::str::from_utf8(marks)
        .unwrap()
        .lines()
        .map(|mark| mark.split_once(' ').unwrap())
        .map(|(thread, batch)| (thread.parse().unwrap(), batch.parse().unwrap()))
        .collect();
    tally.acknowledged += promises.len();
    let db = match DB::open(&options(recovery), tree.join("db")) {
        Ok(db) => db,
        Err(error) => {
            tally.refused += 1;
            tally.first_refusal.get_or_insert(error.to_string());
            return;
        }
    };
    tally.opened += 1;
    for (thread, batch) in promises {
        let whole = (0..KEYS_PER_BATCH).all(|number| {
            // A table that was cut may open and show its damage only when read: counted as lost.
            let found = db.get(key(thread, batch, number));
            found.is_ok_and(|found| found == Some(value(thread, batch, number)))
        });
        tally.missing += usize::from(!whole);
    }
}

/// Random records after the first acknowledgement, and records shortly after renames.
fn cuts(journal: &Journal, rounds: u64) -> Vec<usize> {
    let end = journal.records();
    let first = journal.marks(0..end).unwrap()[0].record + 1;
    let renames = journal.renames();
    let mut random = SplitMix64::new(rounds);
    let mut cuts = Vec::new();
    for round in 0..rounds {
        let any = first + random.below((end - first) as u64 + 1) as usize;
        let rename = renames[random.below(renames.len() as u64) as usize];
        let after_rename = rename + 1 + random.below(4) as usize;
        cuts.push(if round % 4 == 0 { after_rename.min(end) } else { any });
    }
    cuts.sort_unstable();
    cuts
}

/// Cuts `rounds` times.
fn run(scene: &Scene, rounds: u64, loss: Loss, recovery: DBRecoveryMode) -> Tally {
    let journal = Journal::open(&scene.recording.journal).unwrap();
    let mut model = Model::new(&journal, None, Entries::Strict).unwrap();
    let mut tally = Tally::default();
    for (seed, cut) in cuts(&journal, rounds).into_iter().enumerate() {
        model.cut_at(cut).unwrap();
        let output = scene.output(format!("{loss:?}-{seed}"));
        let report = model.materialise(&output, seed as u64, loss).unwrap();
        tally.bytes_dropped += report.bytes_dropped;
        tally.writes_torn += report.writes_torn;
        tally.renames_lost += report.renames_lost;
        check(&output, &journal.marks_until(cut).unwrap(), recovery, &mut tally);
        fs::remove_dir_all(output).unwrap();
    }
    println!("{loss:?}, {rounds} rounds over {} records: {tally:?}", journal.records());
    tally
}

#[test]
fn acknowledged_batches_survive_any_cut() {
    let scene = Scene::new(None, None);
    assert!(scene.start(CHILD, 1_500).wait().unwrap().success());
    let journal = Journal::open(&scene.recording.journal).unwrap();
    let mut model = Model::new(&journal, None, Entries::Strict).unwrap();
    model.cut_at(journal.records()).unwrap();
    let output = scene.output("whole");
    model.materialise(&output, 0, Loss::Nothing).unwrap();
    assert_same_tree(&scene.recording.root, &output);
    for loss in [Loss::All, Loss::Tail, Loss::Scattered, Loss::Mixed] {
        let tally = run(&scene, 40, loss, DBRecoveryMode::PointInTime);
        assert_eq!((tally.refused, tally.missing), (0, 0), "{loss:?}: {tally:?}");
        let tally = run(&scene, 40, loss, DBRecoveryMode::TolerateCorruptedTailRecords);
        assert_eq!(tally.missing, 0, "{loss:?}: {tally:?}");
        // This mode accepts a file that ends early, and refuses a last record of full length with a
        // hole in it: its user has to check the file.
        assert!(loss != Loss::All || tally.refused == 0, "{loss:?}: {tally:?}");
        assert!(tally.opened > 0, "{tally:?}");
    }
}

#[test]
fn a_database_without_syncs_is_found_out() {
    let scene = Scene::new(None, Some("db"));
    assert!(scene.start(CHILD, 300).wait().unwrap().success());
    let tally = run(&scene, 50, Loss::Mixed, DBRecoveryMode::PointInTime);
    assert!(tally.refused > 0 && tally.missing > 0, "{tally:?}");
}

#[test]
fn acknowledgements_before_the_sync_are_found_out() {
    let scene = Scene::new(None, None);
    let name = "power_loss::rocksdb_tests::child_without_syncs";
    assert!(scene.start(name, 300).wait().unwrap().success());
    let tally = run(&scene, 50, Loss::Tail, DBRecoveryMode::PointInTime);
    assert!(tally.refused == 0 && tally.missing > 0, "{tally:?}");
}

#[test]
fn a_chain_of_losses_keeps_every_round() {
    let mut scene = Scene::new(None, None);
    let mut random = SplitMix64::new(7);
    let mut promises = Vec::new();
    let mut tally = Tally::default();
    let mut image: Option<PathBuf> = None;
    for round in 0..8 {
        assert!(scene.start_round(CHILD, 200, round).wait().unwrap().success());
        let journal = Journal::open(&scene.recording.journal).unwrap();
        let first = journal.marks(0..journal.records()).unwrap()[0].record + 1;
        let cut = first + random.below((journal.records() - first) as u64 + 1) as usize;
        let mut model = Model::new(&journal, image.as_deref(), Entries::Strict).unwrap();
        model.cut_at(cut).unwrap();
        promises.extend(journal.marks_until(cut).unwrap());
        let left = scene.output(round);
        model.materialise(&left, round, Loss::Mixed).unwrap();
        let next = Scene::new(Some(&left), None);
        // Opening a database changes it, so a copy is checked.
        let copy = next.output("copy");
        copy_tree(&left, &copy).unwrap();
        check(&copy, &promises, DBRecoveryMode::PointInTime, &mut tally);
        // The image of the next round must outlive the scene that it comes from.
        let kept = next.directory.path().join("image");
        copy_tree(&left, &kept).unwrap();
        image = Some(kept);
        scene = next;
    }
    println!("chain: {tally:?}");
    assert_eq!((tally.opened, tally.missing), (8, 0), "{tally:?}");
}
