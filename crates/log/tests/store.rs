//! The store on a real RocksDB: what goes in comes out, also after a restart.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use common::*;
use quorate_log::{
    CreateError, EndReason, LogFault, LogOptions, LogReadError, NewReplica, ShardPurge, ShardWrite,
    TurnWrite,
};
use quorate_raft::{EntryKind, HardState, RunDraft};
use quorate_types::{Incarnation, Index, ReplicaId, ShardId, SpaceId, Term};

/// Goal: everything of a replica survives a restart. Method: two shards, several writes in one
/// batch, a membership entry and two terms among them.
#[test]
fn a_restart_gives_back_what_was_written() {
    let disk = Disk::new();
    let (log, recovery) = disk.open();
    assert_eq!(recovery.identity.incarnation, Incarnation(1));
    assert_eq!(recovery.identity.store, STORE);
    assert!(recovery.replicas.is_empty());
    log.create_replicas(&[replica(1), replica(2)]).expect("new");

    let mut change = RunDraft::new();
    change.push(EntryKind::Command, &[b"x"]);
    change.push(EntryKind::Membership, &[&membership(4).encode()]);
    let state = HardState { term: Term(7), vote: None, committed: Index(12) };
    let mut second = append(1, change.seal(Term(7), Index(13)));
    second.write.hard_state = Some(state);
    put(&log, &[append(1, run(5, 11, 2)), append(2, run(5, 11, 1)), second]).expect("written");
    assert_eq!(entries(&log, 1, 11, 13), [(5, 11), (5, 12)]);
    drop(log);

    let (log, recovery) = disk.open();
    assert_eq!(recovery.identity.incarnation, Incarnation(2));
    assert_eq!(log.identity(), &recovery.identity);
    let found = recovered(&recovery, 1);
    assert_eq!((found.replica, found.space), (ReplicaId(100), SpaceId(2)));
    assert_eq!((found.tombstone, &found.damaged), (false, &None));
    let restored = &found.restored;
    assert_eq!(restored.hard_state, state);
    assert_eq!((restored.base, restored.last, restored.applied), (id(1, 10), id(7, 14), Index(10)));
    assert_eq!(restored.base_membership, membership(3));
    assert_eq!(restored.terms, [(Index(11), Term(5)), (Index(13), Term(7))]);
    assert_eq!(restored.memberships, [(Index(14), membership(4))]);
    assert_eq!(recovered(&recovery, 2).restored.last, id(5, 11));
}

/// Goal: reads return a head of the range, cut at both ends and bounded in bytes.
#[test]
fn reads_are_cut_to_the_range_and_bounded() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    let runs = (0..5).map(|n| append(1, run(5, 11 + 4 * n, 4)));
    put(&log, &runs.collect::<Vec<_>>()).expect("written");
    put(&log, &[append(2, run(5, 11, 1))]).expect("written");

    let read = |first, end, bytes| log.read(ShardId(1), Index(first)..Index(end), bytes);
    assert_eq!(entries(&log, 1, 13, 20).len(), 7);
    assert_eq!(entries(&log, 1, 12, 13), [(5, 12)]);
    assert_eq!(entries(&log, 1, 11, 99).len(), 20, "the end of the log ends the read");
    let head = read(12, 31, 1).expect("a head");
    assert_eq!(head.iter().map(|run| run.range()).collect::<Vec<_>>(), [Index(12)..Index(15)]);
    let absent = |index| Err(LogReadError::Absent { shard: ShardId(1), index: Index(index) });
    assert_eq!(read(10, 12, 1), absent(10), "the base is no entry");
    assert_eq!(read(31, 32, 1), absent(31));
    let unknown = log.read(ShardId(3), Index(1)..Index(2), 1);
    assert_eq!(unknown, Err(LogReadError::Unknown { shard: ShardId(3) }));
}

/// Goal: RULE 7. An overwrite inside a run leaves no dead tail, neither at once, nor after a
/// restart, nor when a later purge drops the run in front of it.
#[test]
fn a_truncation_inside_a_run_leaves_no_dead_tail() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1)]).expect("new");
    put(&log, &[append(1, run(2, 11, 10)), append(1, run(2, 21, 10)), append(1, run(3, 31, 10))])
        .expect("written");
    put(&log, &[write(1, Some(15), vec![run(4, 15, 2)])]).expect("written");
    let expected: Vec<(u64, u64)> = (11..15).map(|n| (2, n)).chain([(4, 15), (4, 16)]).collect();
    assert_eq!(entries(&log, 1, 11, 99), expected);
    drop(log);

    let (log, recovery) = disk.open();
    let restored = &recovered(&recovery, 1).restored;
    assert_eq!(restored.last, id(4, 16));
    assert_eq!(restored.terms, [(Index(11), Term(2)), (Index(15), Term(4))]);
    assert_eq!(entries(&log, 1, 11, 99), expected);
    purge(&log, 1, id(2, 14)).expect("purged");
    put(&log, &[write(1, Some(16), vec![])]).expect("written");
    drop(log);

    let (log, recovery) = disk.open();
    let found = recovered(&recovery, 1);
    assert_eq!((&found.damaged, found.restored.last), (&None, id(4, 15)));
    assert_eq!(found.restored.base, id(2, 14));
    assert_eq!(entries(&log, 1, 15, 99), [(4, 15)]);
}

/// Goal: a truncation sees the writes of the same call, which no family holds yet.
#[test]
fn a_truncation_cuts_what_the_same_call_appended() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    put(
        &log,
        &[
            append(1, run(2, 11, 10)),
            append(2, run(2, 11, 1)),
            write(1, Some(13), vec![run(3, 13, 5)]),
            write(1, Some(15), vec![run(4, 15, 1)]),
            write(2, Some(11), vec![run(3, 11, 2)]),
        ],
    )
    .expect("written");
    drop(log);
    let (log, recovery) = disk.open();
    assert_eq!(entries(&log, 1, 11, 99), [(2, 11), (2, 12), (3, 13), (3, 14), (4, 15)]);
    assert_eq!(entries(&log, 2, 11, 99), [(3, 11), (3, 12)]);
    assert_eq!(recovered(&recovery, 1).restored.last, id(4, 15));
}

/// Goal: purge drops whole runs only, and a start accepts a run that spans the base.
#[test]
fn a_purge_inside_a_run_keeps_the_run() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1)]).expect("new");
    let runs = [append(1, run(2, 11, 5)), append(1, run(2, 16, 5)), append(1, run(3, 21, 5))];
    put(&log, &runs).expect("written");
    let to = |base, members| {
        let purge = ShardPurge { base_membership: membership(members), ..purging(1, base) };
        TurnWrite { purges: vec![purge], ..TurnWrite::default() }
    };
    log.write(&[to(id(2, 18), 5), to(id(2, 12), 1)]).expect("an older base is no news");
    assert!(log.read(ShardId(1), Index(15)..Index(16), 1).is_err());
    drop(log);
    let (_log, recovery) = disk.open();
    let found = recovered(&recovery, 1);
    assert_eq!(found.damaged, None);
    assert_eq!((found.restored.base, found.restored.last), (id(2, 18), id(3, 25)));
    assert_eq!(found.restored.base_membership, membership(5));
    assert_eq!(found.restored.terms, [(Index(19), Term(2)), (Index(21), Term(3))]);
}

/// Goal: an assertion catches every broken part; and since the caller may survive its panic, the
/// store closes, with nothing of the batch written. Method: each kind behind a sound write.
#[test]
fn a_broken_part_is_a_bug() {
    let without_space = {
        let install = installing(write(1, None, vec![]), id(2, 20), SpaceId(9), false);
        ShardWrite { space: None, ..install }
    };
    let broken = [
        TurnWrite { writes: vec![append(1, run(2, 13, 1))], ..TurnWrite::default() },
        TurnWrite { writes: vec![append(1, run(2, 11, 1))], ..TurnWrite::default() },
        TurnWrite { writes: vec![write(1, Some(10), vec![])], ..TurnWrite::default() },
        TurnWrite { writes: vec![without_space], ..TurnWrite::default() },
        TurnWrite {
            writes: vec![ShardWrite { space: Some(SpaceId(9)), ..write(1, None, vec![]) }],
            ..TurnWrite::default()
        },
        TurnWrite {
            writes: vec![installing(write(1, None, vec![]), id(1, 10), SpaceId(9), true)],
            ..TurnWrite::default()
        },
        TurnWrite { purges: vec![purging(1, id(2, 12))], ..TurnWrite::default() },
    ];
    for part in broken {
        let disk = Disk::new();
        let (log, _) = disk.open();
        log.create_replicas(&[replica(1)]).expect("new");
        let sound = TurnWrite { writes: vec![append(1, run(2, 11, 1))], ..TurnWrite::default() };
        let turns = [sound, part.clone()];
        assert!(catch_unwind(AssertUnwindSafe(|| log.write(&turns))).is_err(), "{part:?}");
        assert!(matches!(log.fault(), Some(LogFault::Panicked { .. })));
        drop(log);
        let (_log, recovery) = disk.open();
        assert_eq!(recovered(&recovery, 1).restored.last, id(1, 10));
    }
}

/// Goal: RULE 3 and RULE 13. A removed replica stays removed, a later admission begins with an
/// empty log, and so does one that installs a snapshot.
#[test]
fn removal_rebirth_and_install() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    let exists = CreateError::Exists { shard: ShardId(1), found: ReplicaId(100) };
    assert_eq!(log.create_replicas(&[replica(3), replica(1)]), Err(exists));
    put(&log, &[append(1, run(2, 11, 5)), append(2, run(2, 11, 5))]).expect("written");
    end(&log, 1, EndReason::Removed).expect("removed");
    end(&log, 1, EndReason::Removed).expect("twice is once");
    assert!(log.read(ShardId(1), Index(11)..Index(12), 1).is_err());
    drop(log);

    let (log, recovery) = disk.open();
    assert!(recovered(&recovery, 1).tombstone);
    assert_eq!(recovery.replicas.len(), 2, "the list that was refused left nothing");
    let again = log.create_replicas(&[replica(1)]);
    let (shard, found, removed) = (ShardId(1), ReplicaId(100), ReplicaId(100));
    assert_eq!(again, Err(CreateError::Removed { shard, found, removed }));
    log.create_replicas(&[NewReplica { replica: ReplicaId(101), ..replica(1) }]).expect("higher");
    let reborn = ShardWrite { replica: ReplicaId(101), ..append(1, run(6, 11, 1)) };
    put(&log, &[append(1, run(5, 11, 9)), reborn]).expect("only the second is the living one's");
    assert_eq!((entries(&log, 1, 11, 99), log.statistics().skipped_parts), (vec![(6, 11)], 1));
    let (base, space) = (id(9, 40), SpaceId(77));
    let install = installing(write(2, None, vec![]), base, space, false);
    put(&log, &[install]).expect("installed");
    put(&log, &[append(2, run(9, 41, 1))]).expect("written");
    drop(log);

    let (log, recovery) = disk.open();
    let reborn = recovered(&recovery, 1);
    assert_eq!(
        (reborn.replica, reborn.tombstone, &reborn.damaged.is_some()),
        (ReplicaId(101), false, &true),
        "term 6 lies beyond the hard state's 5: {reborn:?}"
    );
    let installed = recovered(&recovery, 2);
    assert_eq!((installed.space, installed.restored.base), (space, base));
    assert!(log.read(ShardId(2), Index(11)..Index(12), 1).is_err());
}

/// Goal: space ids are never given twice (RULE 12).
#[test]
fn spaces_are_never_given_twice() {
    let disk = Disk::new();
    let mut last = SpaceId(0);
    for _ in 0..3 {
        let (log, _) = disk.open();
        for _ in 0..1_500 {
            let space = log.next_space().expect("a space");
            assert!(space > last);
            last = space;
        }
    }
}

/// Goal: shards that share a family don't see each other, in any operation; their places survive
/// other options. Method: three families for eight shards.
#[test]
fn shards_share_families_without_meeting() {
    let disk = Disk::new();
    let few = LogOptions { families_dedicated_max: 1, families_pooled: 2, ..options() };
    let (log, _) = disk.try_open(few).expect("opens");
    let new: Vec<NewReplica> = (0..8).map(replica).collect();
    log.create_replicas(&new).expect("new");
    for shard in 0..8 {
        put(&log, &[append(shard, run(2, 11, 10)), append(shard, run(2, 21, 10 + shard))])
            .expect("written");
    }
    put(&log, &[write(4, Some(15), vec![])]).expect("written");
    purge(&log, 5, id(2, 20)).expect("purged");
    end(&log, 6, EndReason::Removed).expect("removed");
    drop(log);
    let (log, recovery) = disk.open();
    for shard in [0, 1, 2, 3, 5, 7] {
        let found = recovered(&recovery, shard);
        assert_eq!((&found.damaged, found.restored.last), (&None, id(2, 30 + shard)));
        assert_eq!(entries(&log, shard, 21, 99).len() as u64, 10 + shard);
    }
    assert_eq!(recovered(&recovery, 4).restored.last, id(2, 14));
}

/// Goal: families are made in batches, so a thousand replicas take seconds, not minutes.
#[test]
fn a_thousand_replicas_are_made_and_reopened_in_seconds() {
    let disk = Disk::new();
    let (log, _) = disk.open();
    let new: Vec<NewReplica> = (0..1_000).map(replica).collect();
    let start = Instant::now();
    log.create_replicas(&new).expect("new");
    let made = start.elapsed();
    let first: Vec<_> = (0..1_000).map(|shard| append(shard, run(2, 11, 4))).collect();
    put(&log, &first).expect("written");
    drop(log);
    let start = Instant::now();
    let (log, recovery) = disk.open();
    let opened = start.elapsed();
    println!("1,000 replicas: made in {made:?}, reopened in {opened:?}");
    assert!(made.as_secs() < 30 && opened.as_secs() < 30, "made {made:?}, opened {opened:?}");
    assert!(recovery.replicas.iter().all(|found| found.restored.last == id(2, 14)));
    assert_eq!(entries(&log, 999, 11, 15).len(), 4);
}

/// Goal: the counters count.
#[test]
fn statistics_add_up() {
    let disk = Disk::new();
    let (log, _) = disk.try_open(LogOptions::default()).expect("opens");
    log.create_replicas(&[replica(1), replica(2)]).expect("new");
    let before = log.statistics();
    put(&log, &[append(1, run(2, 11, 3)), append(2, run(2, 11, 4))]).expect("written");
    put(&log, &[]).expect("nothing");
    let after = log.statistics();
    assert_eq!(after.writes - before.writes, 2);
    assert_eq!((after.syncs - before.syncs, after.batches - before.batches), (1, 1));
    assert_eq!((after.runs, after.entries), (2, 7));
    assert!(after.batch_bytes > after.run_bytes);
    assert!(after.sync_latency.quantile(0.5).as_nanos() > 0);
    log.close().expect("closed");
}
