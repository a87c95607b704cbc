//! Goal: a state machine's own store commits once a batch, and nobody is answered before; it is shown,
//! synced and replaced at commits only; its faults end its replica alone. Method: a store in memory
//! beside a shard of the engine's data store.

use std::sync::mpsc;

use parking_lot::Mutex;
use quorate_machine::KvMachine;
use quorate_types::{Index, LogId, SpaceId, Term};

use super::tests::{OTHER, SHARD, Waiting, arrived, entry, identity, places, put, record, run};
use super::*;
use crate::state::shards::{LocalShard, descriptor_of};
use crate::store::own_record::OwnRecord;
use crate::test_memory_store::{MemoryDisk, MemoryMachine};

const REPLICA: ReplicaId = ReplicaId(1);

struct World {
    appliers: Appliers,
    disk: Arc<Mutex<MemoryDisk>>,
    _directory: tempfile::TempDir,
}

/// `SHARD` keeps a store of its own, `OTHER` does not.
fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut MemoryMachine)) -> World {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let disk = Arc::new(Mutex::new(MemoryDisk::default()));
    let mut machine = MemoryMachine::new(&disk);
    change(&mut machine);
    let state = |shard: ShardId| {
        let descriptor = descriptor_of(shard, &record(1));
        LocalShard::new(descriptor, REPLICA, SpaceId(shard.0), 0, Index(1))
    };
    let own = Applier::new(Arc::new(state(SHARD).with_own_store()), Box::new(machine), record(1));
    let other = Applier::new(Arc::new(state(OTHER)), Box::new(KvMachine), record(1));
    let machines: MachineFactory = Arc::new(|_| unreachable!("own machines are kept"));
    let by_shard = [(SHARD, own), (OTHER, other)].into_iter().collect();
    let appliers = Appliers::new(by_shard, store, identity(), machines);
    World { appliers, disk, _directory: directory }
}

fn outcome(caller: &mut Waiting) -> Outcome {
    caller.try_recv().expect("answered")
}

fn committed(disk: &Mutex<MemoryDisk>) -> Option<LogId> {
    let record = disk.lock().committed.as_ref().map(|commit| commit.record.clone())?;
    let own = OwnRecord::decode(&record).expect("sound");
    assert_eq!((own.identity, own.shard), (identity(), SHARD));
    Some(own.record.applied)
}

/// Goal: one commit for each batch, with the record of its last entry; nothing of it in the engine's
/// data store. Method: three entries in two jobs, and another shard's between them.
#[test]
fn a_batch_is_one_commit() {
    let World { mut appliers, disk, .. } = world();
    let (tasks, mut callers): (Vec<_>, Vec<_>) = [
        entry(SHARD, 2, &put("a", "1")),
        entry(OTHER, 2, &put("a", "1")),
        entry(SHARD, 3, &put("b", "2")),
    ]
    .into_iter()
    .unzip();
    let done = run(&mut appliers, tasks);
    assert_eq!(disk.lock().calls, ["commit"]);
    assert_eq!(committed(&disk), Some(LogId::new(Term(1), Index(3))));
    let values = disk.lock().committed.clone().expect("committed").values;
    assert_eq!((values.commands, values.by_key.len()), (2, 2));
    assert!(callers.iter_mut().all(|caller| matches!(outcome(caller), Outcome::Applied(_))));
    let own = done.applied.iter().filter(|(_, applied)| applied.shard == SHARD);
    assert_eq!(own.map(|(_, applied)| applied.index).collect::<Vec<_>>(), [Index(3)]);
    assert_eq!(appliers.store.record(SpaceId(SHARD.0)).expect("readable"), None);
    assert!(appliers.store.record(SpaceId(OTHER.0)).expect("readable").is_some());
    run(&mut appliers, []);
    assert_eq!(disk.lock().calls, ["commit"], "nothing is left to commit");
}

/// Goal: a commit that fails leaves no caller with an answer, ends its replica, for good only if the
/// store is damaged, and touches no other shard.
#[test]
fn a_failed_commit_ends_its_replica_alone() {
    for (fault, until_restart) in [
        (StoreFault::Failed("no room".to_owned()), true),
        (StoreFault::Damaged("a checksum".to_owned()), false),
    ] {
        let World { mut appliers, disk, .. } = world();
        disk.lock().fault = Some(("commit", fault));
        let (own, mut own_caller) = entry(SHARD, 2, &put("a", "1"));
        let (other, mut other_caller) = entry(OTHER, 2, &put("a", "1"));
        let done = run(&mut appliers, [own, other]);
        assert_eq!(outcome(&mut own_caller), Outcome::UnknownStopped);
        assert!(matches!(outcome(&mut other_caller), Outcome::Applied(_)));
        let [(0, damaged)] = &done.damaged[..] else { panic!("{:?}", done.damaged) };
        assert_eq!((damaged.shard, damaged.until_restart), (SHARD, until_restart));
        assert!(done.applied.iter().all(|(_, applied)| applied.shard == OTHER));
        let (late, mut late_caller) = entry(SHARD, 3, &put("b", "2"));
        run(&mut appliers, [late]);
        assert_eq!(outcome(&mut late_caller), Outcome::UnknownLeaderChanged);
        assert_eq!(disk.lock().calls, ["commit"], "after a fault nothing is asked of the store");
    }
}

/// Goal: what a machine writes into the engine's map is noticed, because it would be lost.
#[test]
fn a_machine_writes_into_one_store_only() {
    let World { mut appliers, disk, .. } = world_with(|machine| machine.is_wrong = true);
    let (task, mut caller) = entry(SHARD, 2, &put("a", "1"));
    let done = run(&mut appliers, [task]);
    assert_eq!(outcome(&mut caller), Outcome::UnknownLeaderChanged);
    let [(0, damaged)] = &done.damaged[..] else { panic!("{:?}", done.damaged) };
    assert!(damaged.until_restart && damaged.what.contains("map"), "{damaged:?}");
    assert!(disk.lock().calls.is_empty() && done.applied.is_empty());
}

/// Goal: the thread that sends snapshots gets what is committed, with its record, although entries
/// were applied in the same batch; and a sync covers them. Method: both asked for in a batch.
#[test]
fn it_is_shown_and_synced_at_a_commit() {
    let World { mut appliers, disk, .. } = world();
    let to = ReplicaId(3);
    let (reply, syncs) = mpsc::channel();
    let (first, _caller) = entry(SHARD, 2, &put("a", "1"));
    let (last, _caller) = entry(SHARD, 3, &put("b", "2"));
    let view = ApplyTask::View { shard: SHARD, replica: REPLICA, to };
    let sync = ApplyTask::Sync { shard: SHARD, replica: REPLICA, reply };
    let mut done = run(&mut appliers, [first, view, last, sync]);
    assert_eq!(disk.lock().calls, ["commit", "snapshot", "commit", "begin_sync"]);
    let [SendTask::Viewed { viewed: Ok(viewed), .. }] = &mut done.viewed[..] else {
        panic!("{:?}", done.viewed)
    };
    assert_eq!(viewed.record.applied.index, Index(2));
    let commands = viewed.snapshot.next_chunk(1 << 20).expect("sound").expect("the first");
    assert_eq!(commands[..], 1_u64.to_le_bytes());

    let state = Arc::clone(&appliers.by_shard[&SHARD].state);
    assert_eq!(state.own_synced(), Some(Index(0)));
    let sync = syncs.recv().expect("one");
    let (next, _caller) = entry(SHARD, 4, &put("c", "3"));
    run(&mut appliers, [next]);
    sync.run().expect("healthy");
    assert_eq!(state.own_synced(), Some(Index(3)), "not what was committed meanwhile");
    disk.lock().cut_power();
    assert_eq!(committed(&disk), Some(LogId::new(Term(1), Index(3))));
}

/// Goal: a sync that fails is no sync, and ends the replica.
#[test]
fn a_failed_sync_is_none() {
    for call in ["begin_sync", "sync"] {
        let World { mut appliers, disk, .. } = world();
        disk.lock().fault = Some((call, StoreFault::Failed("no disk".to_owned())));
        let (reply, syncs) = mpsc::channel();
        let (task, _caller) = entry(SHARD, 2, &put("a", "1"));
        let sync = ApplyTask::Sync { shard: SHARD, replica: REPLICA, reply };
        let state = Arc::clone(&appliers.by_shard[&SHARD].state);
        let mut done = run(&mut appliers, [task, sync]);
        let late = syncs.try_iter().filter_map(|sync| sync.run().err());
        let damaged: Vec<_> = done.damaged.drain(..).map(|(_, it)| it).chain(late).collect();
        assert!(damaged.len() == 1 && damaged[0].until_restart, "{damaged:?}");
        assert_eq!(state.own_synced(), Some(Index(0)), "{call}");
    }
}

/// Goal: RULE 13 for an own store. The machine goes to another thread with the snapshot; entries wait
/// until it is back, no view is taken meanwhile, and the other shard goes on. What the snapshot holds
/// is not applied to it.
#[test]
fn it_takes_in_a_snapshot_between_entries() {
    let World { mut appliers, disk, .. } = world();
    let space = SpaceId(9);
    let (before, _caller) = entry(SHARD, 2, &put("k", "old"));
    run(&mut appliers, [before, ApplyTask::Pause(arrived(5, space))]);
    let mut done = run(&mut appliers, [ApplyTask::Adopt(arrived(5, space))]);
    let Some(ReceiveTask::InstallOwn(mut install)) = done.received.pop() else {
        panic!("{:?}", done.received)
    };
    assert!(places(&done).is_empty(), "it is not in force yet");

    let (held, mut held_caller) = entry(SHARD, 5, &put("k", "held by the snapshot"));
    let (next, mut next_caller) = entry(SHARD, 6, &put("k", "new"));
    let (other, mut other_caller) = entry(OTHER, 2, &put("k", "other"));
    let view = ApplyTask::View { shard: SHARD, replica: REPLICA, to: ReplicaId(3) };
    let (reply, syncs) = mpsc::channel();
    let sync = ApplyTask::Sync { shard: SHARD, replica: REPLICA, reply };
    let done = run(&mut appliers, [held, next, other, view, sync]);
    assert!(matches!(outcome(&mut other_caller), Outcome::Applied(_)));
    assert!(matches!(done.viewed[..], [SendTask::Viewed { viewed: Err(_), .. }]));
    assert!(syncs.recv().is_err(), "it is not here");
    assert!(held_caller.try_recv().is_err() && next_caller.try_recv().is_err());

    let record = OwnRecord { identity: identity(), shard: SHARD, record: record(5) }.encode();
    install
        .machine
        .own_store()
        .expect("it has one")
        .install(&record, &mut Empty(1))
        .expect("sound");
    let done = run(&mut appliers, [ApplyTask::OwnInstalled { install, outcome: Ok(()) }]);
    assert_eq!(places(&done), [Index(5), Index(6)]);
    assert!(matches!(done.received[..], [ReceiveTask::Installed { former: SpaceId(1), .. }]));
    assert_eq!(outcome(&mut held_caller), Outcome::UnknownLeaderChanged);
    assert!(matches!(outcome(&mut next_caller), Outcome::Applied(_)));
    assert_eq!(committed(&disk).map(|id| id.index), Some(Index(6)));
    let values = disk.lock().committed.clone().expect("committed").values;
    assert_eq!((values.commands, values.by_key.len()), (1, 1), "one entry after an empty snapshot");
    let state = &appliers.by_shard[&SHARD].state;
    assert_eq!((state.space(), state.own_synced()), (space, Some(Index(5))));
}

/// A snapshot of a store that holds nothing, in so many chunks.
struct Empty(usize);

impl quorate_machine::SnapshotChunks for Empty {
    fn next_chunk(&mut self) -> Result<Option<bytes::Bytes>, StoreFault> {
        let more = self.0.checked_sub(1);
        self.0 = more.unwrap_or(0);
        Ok(more.map(|_| bytes::Bytes::from_static(&[0; 8])))
    }
}

/// Goal: a snapshot that can't be taken in ends the replica; those who wait are answered.
#[test]
fn a_failed_install_ends_its_replica() {
    let World { mut appliers, .. } = world();
    let space = SpaceId(9);
    run(&mut appliers, [ApplyTask::Pause(arrived(5, space))]);
    let mut done = run(&mut appliers, [ApplyTask::Adopt(arrived(5, space))]);
    let Some(ReceiveTask::InstallOwn(install)) = done.received.pop() else { panic!("to install") };
    let (next, mut caller) = entry(SHARD, 6, &put("k", "new"));
    let outcome_of = Err(StoreFault::Failed("no room".to_owned()));
    let done = run(&mut appliers, [next, ApplyTask::OwnInstalled { install, outcome: outcome_of }]);
    assert_eq!(outcome(&mut caller), Outcome::UnknownLeaderChanged);
    let [(0, damaged)] = &done.damaged[..] else { panic!("{:?}", done.damaged) };
    assert!(damaged.until_restart, "the next start installs it again");
    assert!(places(&done).is_empty() && done.received.is_empty());
}
