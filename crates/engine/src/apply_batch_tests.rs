//! Goal: what reaches the store is always whole entries with their record, and a machine reads its
//! own writes. Method: real RocksDB in a temporary directory.

use quorate_raft::Membership;
use quorate_types::{Epoch, Index, LogId, Term, WallMillis};

use super::*;

const SHARD: ShardId = ShardId(3);
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
    let record = store.record(SHARD).expect("readable")?;
    Some(record.expect("sound").applied.index.0)
}

#[test]
fn reads_see_the_entry_under_way_and_those_before_it() {
    let (_directory, store) = store();
    let mut batch = ApplyBatch::new(&store);
    batch.begin_shard(SHARD, SPACE);
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
    batch.begin_shard(SHARD, SPACE);
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
    batch.begin_shard(SHARD, SPACE);
    batch.put(b"k", b"1");
    batch.finish_entry(&record(2));
    batch.begin_shard(ShardId(4), SpaceId(10));
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
        batch.begin_shard(SHARD, SPACE);
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
