//! Goal: a replica whose data is damaged applies nothing more, so that its record never passes the
//! hole, and the others go on; a snapshot waits for what comes before it and holds up what comes after
//! it. Method: a real store, in which a byte of a table file is flipped.

use std::path::Path;

use bytes::Bytes;
use quorate_log::Identity;
use quorate_machine::{AppliedRecord, Envelope, KvCommand, KvMachine};
use quorate_raft::{Committed, EntryKind, Membership, RunDraft};
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, ReplicaId, SpaceId, StoreId, Term,
    WallMillis,
};
use tokio::sync::oneshot;

use super::*;
use crate::calls::call::Completion;
use crate::state::shards::{LocalShard, descriptor_of};

pub(super) const SHARD: ShardId = ShardId(1);
pub(super) const OTHER: ShardId = ShardId(2);

/// Bytes that no codec can compress.
fn noise(len: usize, mut state: u64) -> Bytes {
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

pub(super) fn record(applied: u64) -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(applied)),
        epoch: Epoch { membership: 1, version: 1 },
        start: Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(0),
    }
}

/// A replica of each of two shards, in the space of the same number.
fn appliers(store: &Arc<DataStore>) -> Appliers {
    let applier = |shard: ShardId| {
        let space = SpaceId(shard.0);
        let record = match store.record(space).expect("readable") {
            None => record(1),
            Some(record) => record.expect("sound"),
        };
        let descriptor = descriptor_of(shard, &record);
        let state = LocalShard::new(descriptor, ReplicaId(1), space, 0, Index(1));
        (shard, Applier::new(Arc::new(state), Box::new(KvMachine), record))
    };
    let machines: MachineFactory = Arc::new(|_| Box::new(KvMachine));
    let appliers = [SHARD, OTHER].map(applier).into_iter().collect();
    Appliers::new(appliers, Arc::clone(store), identity(), machines)
}

pub(super) fn identity() -> StoreIdentity {
    let (cluster, node, store) = (ClusterId(1), NodeId(1), StoreId(1));
    StoreIdentity::of(&Identity { cluster, node, store, incarnation: Incarnation(1) })
}

pub(super) type Waiting = oneshot::Receiver<Outcome>;

/// One command at `index`, and its caller.
pub(super) fn entry(shard: ShardId, index: u64, command: &KvCommand) -> (ApplyTask, Waiting) {
    let envelope =
        Envelope { descriptor_version: 1, leader_time: WallMillis(1), session: None }.encode();
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Command, &[&envelope, &command.encode()]);
    let run = draft.seal(Term(1), Index(index));
    let (sender, receiver) = oneshot::channel();
    let committed = Committed { range: run.range(), runs: vec![run] };
    let callers = vec![(Index(index), Completion::Local(sender))];
    let job = ApplyJob { shard, replica: ReplicaId(1), committed, callers };
    (ApplyTask::Entries(job), receiver)
}

/// Does the tasks in one batch, and answers their callers.
pub(super) fn run(appliers: &mut Appliers, tasks: impl IntoIterator<Item = ApplyTask>) -> Done {
    let mut done = appliers.run(&mut tasks.into_iter().collect());
    for (completion, outcome) in done.ends.drain(..) {
        let Completion::Local(sender) = completion else { panic!("a local caller") };
        sender.send(outcome).expect("waiting");
    }
    done
}

/// Applies one command at `index`; returns its caller's outcome.
fn apply(appliers: &mut Appliers, shard: ShardId, index: u64, command: &KvCommand) -> Outcome {
    let (task, mut caller) = entry(shard, index, command);
    run(appliers, [task]);
    caller.try_recv().expect("answered")
}

pub(super) fn put(key: &'static str, value: &'static str) -> KvCommand {
    KvCommand::Put { key: key.into(), value: value.into() }
}

fn applied(store: &DataStore, space: SpaceId) -> Index {
    store.record(space).expect("readable").expect("written").expect("sound").applied.index
}

fn damage_the_middle_of_tables(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a data store") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("readable");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            std::fs::write(&path, bytes).expect("writable");
        }
    }
}

#[test]
fn damage_ends_its_own_replica_and_no_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let mut before = appliers(&store);
    // The padding keeps the applied record out of the victim's block.
    for number in 0..20u64 {
        let key = Bytes::from(format!("pad{number}"));
        let put = KvCommand::Put { key, value: noise(5_000, number + 9) };
        assert!(matches!(apply(&mut before, SHARD, 2 + number, &put), Outcome::Applied(_)));
    }
    let victim = Bytes::from_static(b"victim");
    let large = KvCommand::Put { key: victim.clone(), value: noise(200_000, 77) };
    assert!(matches!(apply(&mut before, SHARD, 22, &large), Outcome::Applied(_)));
    store.flush().expect("healthy");
    drop(before);
    drop(store);
    damage_the_middle_of_tables(directory.path());

    let store = Arc::new(DataStore::open(directory.path(), true).expect("the index is sound"));
    let mut after = appliers(&store);
    let increment = KvCommand::Increment { key: victim, by: 1 };
    // In one batch: what is sound before it, the damage, what comes after it, and another shard.
    let (tasks, mut callers): (Vec<_>, Vec<_>) = [
        entry(SHARD, 23, &put("before", "x")),
        entry(SHARD, 24, &increment),
        entry(SHARD, 25, &put("after", "x")),
        entry(OTHER, 2, &put("other", "x")),
    ]
    .into_iter()
    .unzip();
    let done = run(&mut after, tasks);
    let outcomes: Vec<Outcome> =
        callers.iter_mut().map(|caller| caller.try_recv().expect("answered")).collect();
    assert!(matches!(outcomes[0], Outcome::Applied(_)), "{outcomes:?}");
    assert_eq!(outcomes[1..3], [Outcome::UnknownStopped, Outcome::UnknownLeaderChanged]);
    assert!(matches!(outcomes[3], Outcome::Applied(_)), "{outcomes:?}");
    let [(0, damaged)] = &done.damaged[..] else { panic!("{:?}", done.damaged) };
    assert_eq!((damaged.shard, damaged.replica), (SHARD, ReplicaId(1)));
    assert_eq!(applied(&store, SpaceId(1)), Index(23), "the record must not pass what was lost");
    assert_eq!(store.get(SpaceId(1), b"after").expect("readable"), None);
    assert_eq!(applied(&store, SpaceId(2)), Index(2));
    let late = apply(&mut after, SHARD, 26, &put("late", "x"));
    assert_eq!(late, Outcome::UnknownLeaderChanged, "a hole lies before it");
    assert!(matches!(apply(&mut after, OTHER, 3, &put("other", "y")), Outcome::Applied(_)));
}

pub(super) fn arrived(base: u64, space: SpaceId) -> Box<ArrivedSnapshot> {
    let (from, term, record) = (ReplicaId(2), Term(1), record(base));
    Box::new(ArrivedSnapshot { shard: SHARD, to: ReplicaId(1), from, term, record, space })
}

pub(super) fn places(done: &Done) -> Vec<Index> {
    done.applied.iter().map(|(_, applied)| applied.index).collect()
}

/// Goal: RULE 13. Entries before a snapshot are applied before its worker is told; entries after it
/// wait until it is in force, and are applied to it; those that it holds are never applied to it.
#[test]
fn a_snapshot_is_adopted_between_entries() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let mut appliers = appliers(&store);
    let fresh = SpaceId(9);
    let (first, mut first_caller) = entry(SHARD, 2, &put("k", "old"));
    let done = run(&mut appliers, [first, ApplyTask::Pause(arrived(5, fresh))]);
    assert_eq!((places(&done), done.paused.len()), (vec![Index(2)], 1));
    assert!(matches!(first_caller.try_recv(), Ok(Outcome::Applied(_))));

    let (held, mut held_caller) = entry(SHARD, 3, &put("k", "held by the snapshot"));
    let (next, mut next_caller) = entry(SHARD, 6, &put("k", "new"));
    let done = run(&mut appliers, [held, next, ApplyTask::Pause(arrived(5, SpaceId(10)))]);
    assert_eq!((places(&done), done.paused.len()), (vec![], 0), "it waits");
    assert!(matches!(done.received[..], [ReceiveTask::Refused { .. }]), "one at a time");
    assert_eq!(applied(&store, SpaceId(1)), Index(2));

    let done = run(&mut appliers, [ApplyTask::Adopt(arrived(5, fresh))]);
    assert_eq!(places(&done), [Index(5), Index(6)]);
    let [ReceiveTask::Installed { former, .. }] = done.received[..] else { panic!("installed") };
    assert_eq!(former, SpaceId(1));
    assert_eq!(held_caller.try_recv(), Ok(Outcome::UnknownLeaderChanged));
    assert!(matches!(next_caller.try_recv(), Ok(Outcome::Applied(_))));
    assert_eq!(applied(&store, fresh), Index(6));
    assert_eq!(store.get(fresh, b"k").expect("readable").as_deref(), Some(&b"new"[..]));
    let state = &appliers.by_shard[&SHARD].state;
    assert_eq!((state.space(), state.position.get().applied), (fresh, Index(6)));
}

/// Goal: a snapshot that is not taken leaves no gap. Method: entries that waited are applied in order.
#[test]
fn entries_go_on_after_a_snapshot_that_was_not_taken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let mut appliers = appliers(&store);
    let (next, mut caller) = entry(SHARD, 2, &put("k", "v"));
    let done = run(&mut appliers, [ApplyTask::Pause(arrived(5, SpaceId(9))), next]);
    assert_eq!((places(&done), done.paused.len()), (vec![], 1));
    let foreign = ApplyTask::Resume { shard: SHARD, replica: ReplicaId(7) };
    assert!(places(&run(&mut appliers, [foreign])).is_empty(), "another replica's snapshot");
    let (last, _caller) = entry(SHARD, 3, &put("k", "w"));
    let resume = ApplyTask::Resume { shard: SHARD, replica: ReplicaId(1) };
    assert_eq!(places(&run(&mut appliers, [resume, last])), [Index(2), Index(3)]);
    assert!(matches!(caller.try_recv(), Ok(Outcome::Applied(_))));
    assert_eq!(appliers.by_shard[&SHARD].state.space(), SpaceId(1));
}

/// Goal: nobody waits for a replica that was given up, nor for an engine that stops.
#[test]
fn what_waits_is_answered_at_the_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let mut appliers = appliers(&store);
    let (waits, mut caller) = entry(SHARD, 6, &put("k", "v"));
    run(&mut appliers, [ApplyTask::Pause(arrived(5, SpaceId(9))), waits]);
    run(&mut appliers, [ApplyTask::End { shard: SHARD, replica: ReplicaId(1) }]);
    assert_eq!(caller.try_recv(), Ok(Outcome::UnknownLeaderChanged));
    let done = run(&mut appliers, [ApplyTask::Adopt(arrived(5, SpaceId(9)))]);
    assert!(done.applied.is_empty() && done.received.is_empty(), "it is gone");
}
