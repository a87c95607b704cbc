//! Goal: after the store lost a batch, nothing more is applied, so that no later batch writes its
//! record past the hole. Method: a real store with a flipped byte in a table file.

use std::path::Path;

use bytes::Bytes;
use quorate_machine::{Envelope, KvCommand, KvMachine};
use quorate_raft::{EntryKind, Membership, RunDraft};
use quorate_router::ShardDescriptor;
use quorate_types::{Epoch, ReplicaId, SpaceId, Term, WallMillis};
use tokio::sync::oneshot;

use super::*;

const SHARD: ShardId = ShardId(1);

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

fn record(applied: u64) -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(applied)),
        epoch: Epoch { membership: 1, version: 1 },
        start: Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(0),
    }
}

fn appliers(store: &Arc<DataStore>) -> Appliers {
    let descriptor = ShardDescriptor {
        shard: SHARD,
        start: Bytes::new(),
        end: None,
        epoch: record(1).epoch,
        members: Vec::new(),
    };
    let state = LocalShard::new(descriptor, ReplicaId(1), SpaceId(1), 0, Index(1));
    let record = match store.record(SHARD).expect("readable") {
        None => record(1),
        Some(record) => record.expect("sound"),
    };
    let applier = Applier { state: Arc::new(state), machine: Box::new(KvMachine), record };
    Appliers::new([(SHARD, applier)].into_iter().collect(), Arc::clone(store))
}

/// Applies one command at `index`; returns its caller's outcome.
fn apply(appliers: &mut Appliers, index: u64, command: &KvCommand) -> Outcome {
    let envelope =
        Envelope { descriptor_version: 1, leader_time: WallMillis(1), session: None }.encode();
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Command, &[&envelope, &command.encode()]);
    let run = draft.seal(Term(1), Index(index));
    let (sender, mut receiver) = oneshot::channel();
    let committed = Committed { range: run.range(), runs: vec![run] };
    let callers = vec![(Index(index), Completion::Local(sender))];
    let done = appliers.apply(&mut vec![ApplyJob {
        shard: SHARD,
        replica: ReplicaId(1),
        committed,
        callers,
    }]);
    for (completion, outcome) in done.ends {
        let Completion::Local(sender) = completion else { panic!("a local caller") };
        sender.send(outcome).expect("waiting");
    }
    receiver.try_recv().expect("answered")
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
fn nothing_is_applied_after_a_lost_batch() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(DataStore::open(directory.path(), true).expect("a new directory"));
    let mut before = appliers(&store);
    // The padding keeps the applied record out of the victim's block.
    for number in 0..20u64 {
        let key = Bytes::from(format!("pad{number}"));
        let put = KvCommand::Put { key, value: noise(5_000, number + 9) };
        assert!(matches!(apply(&mut before, 2 + number, &put), Outcome::Applied(_)));
    }
    let victim = Bytes::from_static(b"victim");
    let put = KvCommand::Put { key: victim.clone(), value: noise(200_000, 77) };
    assert!(matches!(apply(&mut before, 22, &put), Outcome::Applied(_)));
    store.flush().expect("healthy");
    drop(before);
    drop(store);
    damage_the_middle_of_tables(directory.path());

    let store = Arc::new(DataStore::open(directory.path(), true).expect("the index is sound"));
    let mut after = appliers(&store);
    let increment = KvCommand::Increment { key: victim, by: 1 };
    assert_eq!(apply(&mut after, 23, &increment), Outcome::UnknownStopped);
    let put = KvCommand::Put { key: "next".into(), value: "x".into() };
    assert_eq!(apply(&mut after, 24, &put), Outcome::UnknownStopped, "a hole lies before it");
    let applied = store.record(SHARD).expect("readable").expect("flushed").expect("sound").applied;
    assert_eq!(applied.index, Index(22), "the record must not pass what was lost");
    assert_eq!(store.get(SpaceId(1), b"next").expect("readable"), None);
}
