//! RULE 5: a replica that may have lost what it promised is never trusted again.

mod common;

use common::*;
use quorate_log::{CreateError, EndReason, LogOpenError, LogOptions, NewReplica, ShardWrite};
use quorate_types::{ReplicaId, ShardId};
use rocksdb::{DBWithThreadMode, MultiThreaded, Options};

type Db = DBWithThreadMode<MultiThreaded>;

fn lost() -> EndReason {
    EndReason::Damaged("entries through 15 are gone".to_owned())
}

/// A shard with a sound log of ten entries, in one family with another shard, that ended as
/// damaged, closed.
fn ended_as_damaged() -> Disk {
    let disk = Disk::new();
    let pooled = LogOptions { families_dedicated_max: 0, families_pooled: 1, ..options() };
    let (log, _) = disk.try_open(pooled).expect("opens");
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    put(&log, &[append(1, run(2, 11, 10)), append(2, run(2, 11, 10))]).expect("written");
    end(&log, 1, lost()).expect("ended");
    assert_eq!(log.held(ShardId(1)), None);
    assert_eq!(Some(log.held_bytes()), log.held(ShardId(2)).map(|held| held.bytes));
    disk
}

fn replica_of(shard: u64, id: u64) -> NewReplica {
    NewReplica { replica: ReplicaId(id), ..replica(shard) }
}

/// Opens the closed directory behind the store's back.
fn look<T>(disk: &Disk, at: impl FnOnce(&Db) -> T) -> T {
    let names = Db::list_cf(&Options::default(), disk.dir()).expect("families");
    at(&Db::open_cf(&Options::default(), disk.dir(), names).expect("opens"))
}

fn key_of_run(shard: u64) -> Vec<u8> {
    [shard.to_be_bytes(), 11u64.to_be_bytes()].concat()
}

fn has_run(disk: &Disk, shard: u64) -> bool {
    look(disk, |db| {
        let family = db.cf_handle("p0").expect("a family");
        db.get_cf(&family, key_of_run(shard)).expect("readable").is_some()
    })
}

fn key_of_damage() -> Vec<u8> {
    [&[15u8][..], &1u64.to_be_bytes()].concat()
}

/// Goal: the end is durable, later reasons and writes change nothing, and its runs stay as
/// evidence, unread: even an unreadable one does not change what is reported.
#[test]
fn a_damaged_end_outlives_restarts() {
    let disk = ended_as_damaged();
    assert!(has_run(&disk, 1), "evidence");
    look(&disk, |db| {
        let family = db.cf_handle("p0").expect("a family");
        db.put_cf(&family, key_of_run(1), b"no run").expect("put");
    });
    for _ in 0..2 {
        let (log, recovery) = disk.open();
        let found = recovered(&recovery, 1);
        assert_eq!(found.damaged.as_deref(), Some("entries through 15 are gone"));
        assert_eq!((found.replica, found.tombstone), (REPLICA, false));
        assert_eq!(recovered(&recovery, 2).damaged, None);
        assert_eq!(entries(&log, 2, 11, 99).len(), 10);
        put(&log, &[append(1, run(2, 21, 1))]).expect("skipped");
        purge(&log, 1, id(2, 15)).expect("skipped");
        assert_eq!(log.statistics().skipped_parts, 2);
        end(&log, 1, EndReason::Damaged("another reason".to_owned())).expect("nothing new");
    }
}

/// Goal: only a new admission replaces it, and then nothing of it is left, and nothing of its
/// neighbour in the same family is lost.
#[test]
fn only_a_higher_id_replaces_a_damaged_replica() {
    let disk = ended_as_damaged();
    let (log, _) = disk.open();
    for found in [REPLICA, ReplicaId(REPLICA.0 - 1)] {
        let refused = log.create_replicas(&[replica_of(1, found.0)]);
        let (shard, damaged) = (ShardId(1), REPLICA);
        assert_eq!(refused, Err(CreateError::Damaged { shard, found, damaged }));
    }
    log.create_replicas(&[replica_of(1, 101)]).expect("a higher id");
    drop(log);
    assert!(!has_run(&disk, 1) && has_run(&disk, 2));
    let (log, recovery) = disk.open();
    let reborn = recovered(&recovery, 1);
    assert_eq!((reborn.replica, &reborn.damaged), (ReplicaId(101), &None));
    let write = ShardWrite { replica: ReplicaId(101), ..append(1, run(3, 11, 2)) };
    put(&log, &[write]).expect("it lives");
    assert_eq!((entries(&log, 1, 11, 99).len(), entries(&log, 2, 11, 99).len()), (2, 10));
}

/// Goal: proof that the group goes on without it removes what was kept as evidence.
#[test]
fn a_damaged_replica_can_be_removed() {
    let disk = ended_as_damaged();
    let (log, _) = disk.open();
    end(&log, 1, EndReason::Removed).expect("removed");
    drop(log);
    assert!(!has_run(&disk, 1) && has_run(&disk, 2));
    let (log, recovery) = disk.open();
    let removed = recovered(&recovery, 1);
    assert_eq!((removed.tombstone, &removed.damaged), (true, &None));
    let (shard, found) = (ShardId(1), REPLICA);
    let refused = log.create_replicas(&[replica(1)]);
    assert_eq!(refused, Err(CreateError::Removed { shard, found, removed: found }));
}

/// Goal: a replica that the start found damaged can be given up for good, so that a later start
/// that can read everything does not trust it. Method: an unreadable run that heals.
#[test]
fn what_a_start_found_damaged_can_be_made_final() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1)]).expect("new");
    put(&log, &[append(1, run(2, 11, 10))]).expect("written");
    drop(log);
    let change = |bytes: &[u8]| {
        look(&disk, |db| {
            let family = db.cf_handle("s1").expect("a family");
            db.put_cf(&family, key_of_run(1), bytes).expect("put");
        });
    };
    change(b"no run");
    let (log, recovery) = disk.open();
    assert!(recovered(&recovery, 1).damaged.is_some());
    end(&log, 1, lost()).expect("final");
    drop(log);
    change(run(2, 11, 10).bytes());
    let (_log, recovery) = disk.open();
    assert_eq!(recovered(&recovery, 1).damaged.as_deref(), Some("entries through 15 are gone"));
}

/// Goal: damage to the record itself never makes a replica live. Method: a flipped bit; and the
/// record of the replica gone.
#[test]
fn a_damaged_record_of_damage_is_damage() {
    let disk = ended_as_damaged();
    look(&disk, |db| {
        let mut bytes = db.get(key_of_damage()).expect("read").expect("a record");
        bytes[4] ^= 1;
        db.put(key_of_damage(), bytes).expect("put");
    });
    let (log, recovery) = disk.open();
    let what = recovered(&recovery, 1).damaged.clone().expect("damaged");
    assert!(what.contains("record of damage") && what.contains("checksum"), "{what}");
    drop(log);
    let replica = [&[6u8][..], &1u64.to_be_bytes()].concat();
    look(&disk, |db| db.delete(replica).expect("deleted"));
    let refused = disk.try_open(options()).map(|_| ()).expect_err("damaged");
    assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
}
