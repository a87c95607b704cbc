//! The log alone: one synced turn of 64 shards with 4 or 64 entries of 128 bytes each, as runs,
//! compared with the same entries as single records in a bare RocksDB with a family per shard, in
//! the same run.

use std::cell::Cell;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_benches::sample_run;
use quorate_log::{LogOptions, LogStore, NewReplica, ShardWrite, TurnWrite};
use quorate_raft::{HardState, Member, Membership, Write};
use quorate_types::{
    ClusterId, Index, LogId, NodeId, ReplicaId, ShardId, SpaceId, StoreId, Term, WriteNumber,
};
use rocksdb::{ColumnFamilyDescriptor, DB, Options, WriteBatch, WriteOptions};

const SHARDS: u64 = 64;
const PAYLOAD: usize = 128;

fn store(directory: &std::path::Path) -> LogStore {
    let options = LogOptions::default();
    let (store, _) = LogStore::open(directory, ClusterId(1), NodeId(1), StoreId(1), options)
        .expect("a new directory opens");
    let base = LogId::new(Term(1), Index(1));
    let member = Member { replica: ReplicaId(1), node: NodeId(1) };
    let replicas: Vec<NewReplica> = (1..=SHARDS)
        .map(|shard| NewReplica {
            shard: ShardId(shard),
            replica: ReplicaId(1),
            space: SpaceId(shard),
            base,
            base_membership: Membership::of_voters([member]),
            hard_state: HardState { term: Term(1), vote: None, committed: Index(1) },
        })
        .collect();
    store.create_replicas(&replicas).expect("families are made");
    store
}

fn quorate_turn(store: &LogStore, next: &Cell<u64>, entries: u64) {
    let first = Index(next.get());
    next.set(first.0 + entries);
    let writes: Vec<ShardWrite> = (1..=SHARDS)
        .map(|shard| ShardWrite {
            shard: ShardId(shard),
            replica: ReplicaId(1),
            space: None,
            write: Write {
                number: WriteNumber(first.0),
                install: None,
                hard_state: None,
                truncate_from: None,
                runs: vec![sample_run(Term(1), first, entries as usize, PAYLOAD)],
            },
        })
        .collect();
    store.write(&[TurnWrite { writes, ..TurnWrite::default() }]).expect("a healthy disk");
}

fn raw_turn(db: &DB, next: &Cell<u64>, entries: u64) {
    let first = next.get();
    next.set(first + entries);
    let payload = [0x5a; PAYLOAD];
    let mut batch = WriteBatch::default();
    for shard in 0..SHARDS {
        let family = db.cf_handle(&format!("s{shard}")).expect("made at open");
        for index in first..first + entries {
            batch.put_cf(&family, index.to_be_bytes(), payload);
        }
    }
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(&batch, &options).expect("a healthy disk");
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.sample_size(20);
    for entries in [4, 64] {
        group.throughput(Throughput::Elements(SHARDS * entries));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let quorate = store(&directory.path().join("quorate"));
        let next = Cell::new(2);
        group.bench_function(BenchmarkId::new("quorate_runs", entries), |bencher| {
            bencher.iter(|| quorate_turn(&quorate, &next, entries));
        });
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let family = |shard| ColumnFamilyDescriptor::new(format!("s{shard}"), Options::default());
        let path = directory.path().join("raw");
        let raw = DB::open_cf_descriptors(&options, path, (0..SHARDS).map(family));
        let raw = raw.expect("a new directory opens");
        let next = Cell::new(1);
        group.bench_function(BenchmarkId::new("raw_rocksdb_singles", entries), |bencher| {
            bencher.iter(|| raw_turn(&raw, &next, entries));
        });
    }
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);
