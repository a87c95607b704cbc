//! Goal: what reaches the store is always whole entries with their record, and a machine reads its
//! own writes. Method: real RocksDB in a temporary directory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_machine::{ApplyContext, KvCommand, KvMachine, KvReply, StateMachine};
use quorate_raft::{Member, Membership};
use quorate_types::{Epoch, Index, LogId, NodeId, ReplicaId, ShardId, Term, WallMillis};

use super::*;

const SPACE: SpaceId = SpaceId(9);

fn record(index: u64) -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(index)),
        epoch: Epoch { membership: 1, version: 1 },
        start: Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(index),
    }
}

fn store() -> (tempfile::TempDir, DataStore) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = DataStore::open(directory.path(), true).expect("a new directory opens");
    (directory, store)
}

fn applied(store: &DataStore) -> Option<u64> {
    applied_in(store, SPACE)
}

fn applied_in(store: &DataStore, space: SpaceId) -> Option<u64> {
    let record = store.record(space).expect("readable")?;
    Some(record.expect("sound").applied.index.0)
}

#[test]
fn reads_see_the_entry_under_way_and_those_before_it() {
    let (_directory, store) = store();
    let mut batch = ApplyBatch::new(&store);
    batch.begin(SPACE);
    batch.put(b"a", b"1");
    batch.put(b"b", b"1");
    assert_eq!(batch.get(b"a").as_deref(), Some(&b"1"[..]), "its own entry");
    assert_eq!(applied(&store), None, "half an entry must not reach the store");
    batch.finish_entry(&record(2));
    batch.delete(b"b");
    assert_eq!(batch.get(b"b"), None);
    assert_eq!(batch.get(b"a").as_deref(), Some(&b"1"[..]), "an earlier entry of the batch");
    assert_eq!(applied(&store), Some(2), "the read wrote out the complete entry alone");
    assert_eq!(store.get(SPACE, b"b").unwrap().as_deref(), Some(&b"1"[..]));
    batch.finish_entry(&record(3));
    batch.finish().expect("a healthy disk");
    assert_eq!(applied(&store), Some(3));
    assert_eq!(store.get(SPACE, b"b").unwrap(), None);
}

#[test]
fn range_deletes_and_scans_see_the_batch() {
    let (_directory, store) = store();
    let mut batch = ApplyBatch::new(&store);
    batch.begin(SPACE);
    for key in [b"a", b"b", b"c", b"d"] {
        batch.put(key, b"x");
    }
    batch.finish_entry(&record(2));
    batch.delete_range(b"b", b"d");
    batch.put(b"c", b"y");
    let mut seen = Vec::new();
    batch.scan(b"a", None, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        true
    });
    let expected = [(b"a", b"x"), (b"c", b"y"), (b"d", b"x")];
    assert_eq!(seen, expected.map(|(k, v)| (k.to_vec(), v.to_vec())));
    assert_eq!(batch.get(b"b"), None);
    batch.finish_entry(&record(3));
    assert_eq!(batch.get(b"c").as_deref(), Some(&b"y"[..]));
    batch.finish().expect("a healthy disk");
}

#[test]
fn spaces_do_not_see_each_other() {
    let (_directory, store) = store();
    let mut batch = ApplyBatch::new(&store);
    batch.begin(SPACE);
    batch.put(b"k", b"1");
    batch.finish_entry(&record(2));
    batch.begin(SpaceId(10));
    assert_eq!(batch.get(b"k"), None);
    batch.finish().expect("a healthy disk");
    let mut keys = 0;
    store
        .scan(SpaceId(10), b"", None, &mut |_, _| {
            keys += 1;
            true
        })
        .expect("readable");
    assert_eq!(keys, 0, "a scan without end stays in its space");
}

#[test]
fn a_flushed_record_and_its_data_survive_a_lost_memtable() {
    let (directory, store) = store();
    for index in [2, 3] {
        let mut batch = ApplyBatch::new(&store);
        batch.begin(SPACE);
        batch.put(b"k", index.to_string().as_bytes());
        batch.finish_entry(&record(index));
        batch.finish().expect("a healthy disk");
        if index == 2 {
            store.flush().expect("a healthy disk");
        }
    }
    // Without a WAL what was not flushed is lost, as by a crash: both parts go back together.
    drop(store);
    let store = DataStore::open(directory.path(), true).expect("opens again");
    let index = applied(&store).expect("flushed once");
    let value = store.get(SPACE, b"k").unwrap().expect("flushed once");
    assert_eq!(value, index.to_string().as_bytes());
}

/// Goal: RULE 10. The record that is written beside a shard's data is its own, and all of it: place,
/// clock, epoch, range and membership. Method: entries of two shards in turns in one batch, one of
/// which changes everything that a record holds.
#[test]
fn each_shard_has_its_own_whole_record() {
    let (_directory, store) = store();
    let other = SpaceId(10);
    let changed = AppliedRecord {
        epoch: Epoch { membership: 2, version: 3 },
        start: Bytes::from_static(b"a"),
        end: Some(Bytes::from_static(b"k")),
        membership: Membership::of_voters([Member { replica: ReplicaId(5), node: NodeId(6) }]),
        ..record(3)
    };
    let later = |index| AppliedRecord {
        applied: record(index).applied,
        clock: WallMillis(100 + index),
        ..changed.clone()
    };
    let mut batch = ApplyBatch::new(&store);
    let mut at = None;
    for (space, record) in [
        (other, record(8)),
        (SPACE, record(2)),
        (SPACE, changed.clone()),
        (SPACE, later(4)),
        (SPACE, later(5)),
        (other, record(9)),
    ] {
        if at.replace(space) != Some(space) {
            batch.begin(space);
        }
        batch.put(b"k", b"v");
        batch.finish_entry(&record);
    }
    batch.finish().expect("a healthy disk");
    let found = |space| store.record(space).expect("readable").expect("written").expect("sound");
    assert_eq!((found(SPACE), found(other)), (later(5), record(9)));
}

/// What a machine may do to the map within an entry, and where entries and batches end. There are
/// few keys and bounds, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
    /// Start, end, and the number of pairs after which the visitor stops.
    Scan(u8, Option<u8>, usize),
    EndEntry,
    /// Another shard's entry in between, in the same batch.
    OtherShard(u8, u8),
    EndBatch,
}

const KEYS: u8 = 12;

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    let end = prop_oneof![1 => Just(None), 3 => key.clone().prop_map(Some)];
    prop_oneof![
        6 => key.clone().prop_map(Step::Get),
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key.clone().prop_map(Step::Delete),
        2 => (key.clone(), key.clone()).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        2 => (key.clone(), end, 1..8usize).prop_map(|(from, to, most)| Step::Scan(from, to, most)),
        5 => Just(Step::EndEntry),
        1 => (key, any::<u8>()).prop_map(|(key, value)| Step::OtherShard(key, value)),
        1 => Just(Step::EndBatch),
    ]
}

/// Keys of one and of two bytes, so that some are prefixes of others.
fn key(number: u8) -> Vec<u8> {
    match number % 3 {
        0 => vec![number / 3],
        low => vec![number / 3, low],
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn pairs(store: &DataStore, space: SpaceId) -> Model {
    let mut found = Model::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.insert(key.to_vec(), value.to_vec());
        true
    };
    store.scan(space, b"", None, &mut visit).expect("readable");
    found
}

/// One step of an entry, on the batch and on the model: what is read must be equal.
fn take_step(batch: &mut ApplyBatch<'_>, model: &mut Model, step: &Step) {
    match step {
        Step::Get(at) => {
            let expected = model.get(&key(*at)).cloned();
            assert_eq!(batch.get(&key(*at)).map(|value| value.to_vec()), expected, "{step:?}");
        }
        Step::Put(at, value) => {
            batch.put(&key(*at), &[*value]);
            model.insert(key(*at), vec![*value]);
        }
        Step::Delete(at) => {
            batch.delete(&key(*at));
            model.remove(&key(*at));
        }
        Step::DeleteRange(start, end) => {
            let (start, end) = (key(*start.min(end)), key(*start.max(end)));
            batch.delete_range(&start, &end);
            model.retain(|key, _| !(start <= *key && *key < end));
        }
        Step::Scan(from, to, most) => {
            let to = to.map(|to| key(to.max(*from)));
            let in_range = |at: &[u8]| to.as_deref().is_none_or(|to| at < to);
            let expected: Vec<_> = model
                .range(key(*from)..)
                .take_while(|(at, _)| in_range(at))
                .take(*most)
                .map(|(at, value)| (at.clone(), value.clone()))
                .collect();
            let mut found = Vec::new();
            batch.scan(&key(*from), to.as_deref(), &mut |at, value| {
                found.push((at.to_vec(), value.to_vec()));
                found.len() < *most
            });
            assert_eq!(found, expected, "{step:?}");
        }
        Step::EndEntry | Step::OtherShard(..) | Step::EndBatch => unreachable!("cuts"),
    }
}

/// Applies `steps` in the space `SpaceId(2 * case)`, and another shard's in the next space.
fn check_against_the_model(store: &DataStore, case: u64, steps: &[Step]) {
    let (own, other) = (SpaceId(2 * case), SpaceId(2 * case + 1));
    let (mut model, mut others) = (Model::new(), Model::new());
    let mut batch = ApplyBatch::new(store);
    batch.begin(own);
    let mut index = 1;
    for step in steps {
        match step {
            Step::EndEntry | Step::OtherShard(..) | Step::EndBatch => {
                index += 1;
                batch.finish_entry(&record(index));
            }
            _ => take_step(&mut batch, &mut model, step),
        }
        if let Step::OtherShard(at, value) = step {
            batch.begin(other);
            let known = batch.get(&key(*at)).map(|value| value.to_vec());
            assert_eq!(known, others.get(&key(*at)).cloned());
            batch.put(&key(*at), &[*value]);
            batch.finish_entry(&record(index));
            others.insert(key(*at), vec![*value]);
            batch.begin(own);
        }
        if let Step::EndBatch = step {
            batch.finish().expect("a healthy disk");
            assert_eq!(applied_in(store, own), Some(index));
            assert_eq!(pairs(store, own), model);
            batch = ApplyBatch::new(store);
            batch.begin(own);
        }
    }
    batch.finish_entry(&record(index + 1));
    batch.finish().expect("a healthy disk");
    assert_eq!((pairs(store, own), pairs(store, other)), (model, others));
}

/// Goal: whatever entries do, and wherever batches are cut, a machine reads what a plain map would
/// give it, and the store holds the same: replicas whose batches are cut elsewhere stay alike.
/// Method: random steps on both; reads are compared at once, the store after each batch.
#[test]
fn a_batch_is_a_plain_map() {
    let (_directory, store) = store();
    let case = std::cell::Cell::new(10);
    let steps = proptest::collection::vec(step(), 1..60);
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let checked = runner.run(&steps, |steps| {
        case.set(case.get() + 1);
        check_against_the_model(&store, case.get(), &steps);
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}

/// How long it takes to apply `commands`, each as an entry of its own.
fn time_to_apply(store: &DataStore, space: SpaceId, commands: &[KvCommand]) -> Duration {
    let commands: Vec<Vec<u8>> = commands.iter().map(KvCommand::encode).collect();
    let began = Instant::now();
    let mut batch = ApplyBatch::new(store);
    batch.begin(space);
    for (index, command) in (2..).zip(&commands) {
        let record = record(index);
        let context = ApplyContext { shard: ShardId(3), id: record.applied, time: record.clock };
        let reply = KvMachine.apply(context, command, &mut batch);
        assert!(!matches!(KvReply::decode(&reply), Ok(KvReply::Unknown) | Err(_)));
        batch.finish_entry(&record);
    }
    batch.finish().expect("a healthy disk");
    began.elapsed()
}

/// Goal: the cost of the largest batch grows with its commands, not with their square. Method: many
/// commands that read what others of their entry may have written, as one entry and as one entry
/// each; the second is known to be linear, and the first must not take much longer. A quadratic one
/// takes some sixty times as long; the best of a few tries excludes other work of the machine.
#[test]
fn a_batch_costs_as_much_as_its_commands() {
    const COMMANDS: u64 = 65_536;
    let key = |number: u64| Bytes::from(number.to_be_bytes().to_vec());
    let increments = |number| KvCommand::Increment { key: key(number), by: 1 };
    let mixed = |number: u64| match number % 3 {
        0 => KvCommand::DeleteRange { start: key(number * 2), end: key(number * 2 + 1) },
        1 => KvCommand::Delete { key: key(number) },
        _ => increments(number),
    };
    let (_directory, store) = store();
    let kinds: [&dyn Fn(u64) -> KvCommand; 2] = [&increments, &mixed];
    let reads: Vec<KvCommand> = (0..COMMANDS).map(increments).collect();
    let mut spaces = (100..).map(SpaceId);
    let mut best = |commands: &[KvCommand]| {
        let mut retry = spaces.by_ref().take(3);
        let time = retry.by_ref().map(|space| time_to_apply(&store, space, commands)).min();
        time.expect("three retry")
    };
    let single = best(&reads);
    for make in kinds {
        let batched = best(&[KvCommand::Batch((0..COMMANDS).map(make).collect())]);
        assert!(batched < single * 10, "{batched:?} as one entry, {single:?} as many");
    }
}
