//! What must not pass: damage, foreign directories, and anything after the first fault.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use quorate_log::{EndReason, LogFault, LogOpenError, LogOptions, LogStore, SyncMode, WriteHook};
use quorate_types::{ClusterId, Incarnation, Index, NodeId, ShardId};
use rocksdb::{DBWithThreadMode, MultiThreaded, Options};

type Db = DBWithThreadMode<MultiThreaded>;

/// Opens the closed directory behind the store's back and changes it.
fn tamper(disk: &Disk, change: impl FnOnce(&Db)) {
    let names = Db::list_cf(&Options::default(), disk.dir()).expect("families");
    let db = Db::open_cf(&Options::default(), disk.dir(), names).expect("opens");
    change(&db);
}

fn run_key(shard: u64, first: u64) -> Vec<u8> {
    [shard.to_be_bytes(), first.to_be_bytes()].concat()
}

/// Two shards with three runs of ten each, closed.
fn two_shards() -> Disk {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    for first in [11, 21, 31] {
        put(&log, &[append(1, run(2, first, 10)), append(2, run(2, first, 10))]).expect("written");
    }
    disk
}

/// Asserts that shard 1 is reported with `words` and shard 2 still works.
fn assert_only_shard_1_is_damaged(disk: &Disk, words: &str) {
    let (log, recovery) = disk.open();
    let damaged = recovered(&recovery, 1).damaged.as_ref().expect("damaged");
    assert!(damaged.contains(words), "{damaged}");
    assert_eq!(recovered(&recovery, 2).damaged, None);
    assert!(log.read(ShardId(1), Index(11)..Index(12), 1).is_err());
    assert_eq!(entries(&log, 2, 11, 99).len(), 30);
    end(&log, 1, EndReason::Removed).expect("a damaged replica can be removed");
    drop(log);
    let (_log, recovery) = disk.open();
    assert!(recovered(&recovery, 1).tombstone);
}

#[test]
fn a_missing_run_is_found() {
    let disk = two_shards();
    tamper(&disk, |db| {
        let family = db.cf_handle("s1").expect("a family");
        db.delete_cf(&family, run_key(1, 21)).expect("deleted");
    });
    assert_only_shard_1_is_damaged(&disk, "hole or overlap");
}

#[test]
fn a_flipped_bit_in_a_run_is_found() {
    let disk = two_shards();
    tamper(&disk, |db| {
        let family = db.cf_handle("s1").expect("a family");
        let mut bytes = db.get_cf(&family, run_key(1, 21)).expect("read").expect("a run");
        bytes[40] ^= 4;
        db.put_cf(&family, run_key(1, 21), bytes).expect("put");
    });
    assert_only_shard_1_is_damaged(&disk, "checksum");
}

/// A log that lost its end keeps all checksums; only the hard state shows the loss.
#[test]
fn a_log_shorter_than_its_commit_is_found() {
    let disk = two_shards();
    let (log, _) = disk.open();
    let mut commit = write(1, None, vec![]);
    let state = replica(1).hard_state;
    commit.write.hard_state = Some(quorate_raft::HardState { committed: Index(40), ..state });
    put(&log, &[commit]).expect("written");
    drop(log);
    tamper(&disk, |db| {
        let family = db.cf_handle("s1").expect("a family");
        db.delete_cf(&family, run_key(1, 31)).expect("deleted");
    });
    assert_only_shard_1_is_damaged(&disk, "entries are lost");
}

#[test]
fn a_damaged_hard_state_ends_its_replica_only() {
    let disk = two_shards();
    let key = [&[7u8][..], &1u64.to_be_bytes()].concat();
    tamper(&disk, |db| db.put(&key, b"no hard state").expect("put"));
    assert_only_shard_1_is_damaged(&disk, "hard state");
}

/// Goal: RULE 9. Damage inside the write-ahead log refuses the directory and cuts nothing. Method:
/// one bit in the middle of the one file that a crash left; the same bit back opens it again.
#[test]
fn a_flipped_bit_in_the_write_ahead_log_refuses_the_directory() {
    let disk = two_shards();
    let path = disk.files(".log").pop().expect("a write-ahead log");
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let refused = disk.try_open(options()).map(|_| ()).expect_err("damaged");
    assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let (log, recovery) = disk.open();
    assert_eq!(recovered(&recovery, 1).restored.last, id(2, 40));
    assert_eq!(entries(&log, 1, 11, 99).len(), 30);
}

/// Goal: a torn tail is a write that was never acknowledged. Method: the last batch cut at every
/// tenth byte; all earlier batches are there, the torn one not at all.
#[test]
fn a_torn_tail_loses_the_torn_batch_only() {
    for cut in [1, 10, 100, 200] {
        let disk = two_shards();
        let path = disk.files(".log").pop().expect("a write-ahead log");
        let length = fs::metadata(&path).expect("a file").len();
        let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
        file.set_len(length - cut).expect("cut");
        let (log, recovery) = disk.open();
        for shard in [1, 2] {
            assert_eq!(recovered(&recovery, shard).restored.last, id(2, 30), "cut {cut}");
            assert_eq!(entries(&log, shard, 11, 99).len(), 20);
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

/// Goal: RULE 9. A power loss may keep the length of the last write and lose any of its bytes.
/// Method: a hole at several places of the last batch, also over its header; all earlier batches
/// are there, this one not at all, and the store continues.
#[test]
fn a_hole_in_the_last_batch_loses_that_batch_only() {
    for (from, length) in [(0, 100), (5, 1), (100, 64), (200, usize::MAX)] {
        let disk = Disk::new();
        let (log, _) = disk.open();
        log.create_replicas(&[replica(1), replica(2)]).expect("new");
        let write = |first| [append(1, run(2, first, 10)), append(2, run(2, first, 10))];
        put(&log, &write(11)).expect("written");
        put(&log, &write(21)).expect("written");
        let path = disk.files(".log").pop().expect("a write-ahead log");
        let begin = usize::try_from(fs::metadata(&path).expect("a file").len()).expect("small");
        put(&log, &write(31)).expect("written");
        drop(log);
        let mut bytes = fs::read(&path).expect("read");
        let last = &mut bytes[begin + from..];
        let length = length.min(last.len());
        last[..length].fill(0);
        fs::write(&path, bytes).expect("written");
        let (log, recovery) = disk.open();
        for shard in [1, 2] {
            assert_eq!(recovered(&recovery, shard).restored.last, id(2, 30), "hole {from}");
            assert_eq!(entries(&log, shard, 11, 99).len(), 20);
            put(&log, &[append(shard, run(2, 31, 5))]).expect("written");
        }
        drop(log);
        assert_eq!(recovered(&disk.open().1, 2).restored.last, id(2, 35));
    }
}

/// Goal: RULE 9. RocksDB takes a length that reaches beyond the end for a torn tail; with a record
/// behind it, it was synced. Method: the high byte of the length of the first batch.
#[test]
fn a_damaged_length_with_records_behind_it_refuses_the_directory() {
    let disk = two_shards();
    let path = disk.files(".log").pop().expect("a write-ahead log");
    let before = fs::read(&path).expect("read");
    flip(&path, 5);
    let refused = disk.try_open(options()).map(|_| ()).expect_err("damaged");
    assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
    assert_eq!(fs::read(&path).expect("read").len(), before.len(), "nothing is cut");
    flip(&path, 5);
    assert_eq!(recovered(&disk.open().1, 1).restored.last, id(2, 40));
}

/// Goal: RULE 8. What a start replayed is in synced tables before the open returns. Method: the
/// write-ahead log that the crash left is gone or empty of runs after the next open: the directory
/// stays whole without it.
#[test]
fn a_start_flushes_what_it_replayed() {
    let disk = two_shards();
    assert!(disk.files(".sst").len() <= 1, "only the first records are in a table");
    let (log, _) = disk.open();
    let tables = disk.files(".sst").len();
    assert!(tables >= 3, "two shards and the records: {tables}");
    drop(log);
    tamper(&disk, |db| {
        let family = db.cf_handle("s1").expect("a family");
        let property = "rocksdb.num-files-at-level0";
        let files = db.property_int_value_cf(&family, property).expect("a property");
        assert_eq!(files, Some(1));
    });
}

#[test]
fn a_missing_table_refuses_the_directory() {
    let disk = two_shards();
    drop(disk.open());
    fs::remove_file(disk.files(".sst").pop().expect("a table")).expect("removed");
    let refused = disk.try_open(options()).map(|_| ()).expect_err("damaged");
    assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
}

#[test]
fn data_without_a_current_file_is_not_taken_for_a_new_directory() {
    let disk = two_shards();
    fs::remove_file(disk.dir().join("CURRENT")).expect("removed");
    let refused = disk.try_open(options()).map(|_| ()).expect_err("damaged");
    assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("CURRENT"));
}

#[test]
fn foreign_newer_and_older_directories_are_refused() {
    let disk = two_shards();
    let open = |cluster, node| LogStore::open(&disk.dir(), cluster, node, STORE, options());
    let other = open(ClusterId(9), NODE).map(|_| ()).expect_err("another cluster");
    let expected = (ClusterId(9), CLUSTER);
    assert!(
        matches!(other, LogOpenError::OtherCluster { expected: e, found: f, .. } if (e, f) == expected)
    );
    let other = open(CLUSTER, NodeId(9)).map(|_| ()).expect_err("another node");
    assert!(matches!(other, LogOpenError::OtherNode { found: NODE, .. }), "{other}");
    let (log, recovery) = disk.open();
    assert_eq!(recovery.identity.incarnation, Incarnation(2), "refusals count for nothing");
    drop(log);

    let key = [1u8, 0, 0, 0, 0, 0, 0, 0, 0];
    let refusal_of = |format: u8| {
        let mut record = vec![1u8, format, 0, 0, 0];
        record.extend(crc32c::crc32c(&[&key[..], &record].concat()).to_le_bytes());
        tamper(&disk, |db| db.put(key, record).expect("put"));
        disk.try_open(options()).map(|_| ()).expect_err("another format")
    };
    let newer = refusal_of(3);
    assert!(matches!(newer, LogOpenError::NewerFormat { found: 3, supported: 2, .. }), "{newer}");
    let older = refusal_of(1);
    assert!(matches!(older, LogOpenError::OlderFormat { found: 1, supported: 2, .. }), "{older}");
    assert!(older.to_string().contains("no data was changed"), "{older}");
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let disk = Disk::new();
    let (_log, _) = disk.open();
    let refused = disk.try_open(options()).map(|_| ()).expect_err("in use");
    assert!(matches!(refused, LogOpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by this very process"), "{refused}");
    assert!(refused.to_string().contains(&*disk.dir().to_string_lossy()));
}

/// Goal: RULE 8. After the first failure every change is refused with that failure, although the
/// disk works again; a restart finds what came before it.
#[test]
fn the_first_fault_latches() {
    let disk = Disk::new();
    let fails = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&fails);
    let hook = move || asked.load(Ordering::Relaxed).then(|| "no space".to_owned());
    let options = LogOptions {
        write_hook: Some(WriteHook::new(hook)),
        sync: SyncMode::Sync,
        ..LogOptions::default()
    };
    let (log, _) = disk.try_open(options).expect("opens");
    log.create_replicas(&[replica(1)]).expect("new");
    put(&log, &[append(1, run(2, 11, 1))]).expect("written");
    assert_eq!(log.fault(), None);

    fails.store(true, Ordering::Relaxed);
    let fault = put(&log, &[append(1, run(2, 12, 1))]).expect_err("fails");
    assert_eq!(fault, LogFault::Write { dir: disk.dir(), detail: "no space".to_owned() });
    fails.store(false, Ordering::Relaxed);
    assert_eq!(put(&log, &[append(1, run(2, 13, 1))]), Err(fault.clone()));
    assert_eq!(put(&log, &[]), Err(fault.clone()));
    assert_eq!(log.create_replicas(&[replica(2)]), Err(fault.clone().into()));
    assert_eq!(purge(&log, 1, id(2, 11)), Err(fault.clone()));
    assert_eq!(end(&log, 1, EndReason::Removed), Err(fault.clone()));
    assert_eq!(log.next_space(), Err(fault.clone()));
    assert_eq!(log.fault(), Some(fault.clone()));
    assert_eq!(log.close(), Err(fault));

    let (_log, recovery) = disk.open();
    assert_eq!(recovered(&recovery, 1).restored.last, id(2, 11));
}
