//! Goal: whatever a crash has left between a snapshot's arrival and its place in an own store, a start
//! ends with the whole snapshot there, or gives the replica up. Method: a real data store, and an own
//! store in memory, in each state that they can have.

use std::sync::Arc;

use parking_lot::Mutex;
use quorate_log::Identity;
use quorate_machine::{AppliedRecord, StateMachine, StoreFault, StoreSnapshot};
use quorate_raft::Membership;
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, ShardId, SpaceId, StoreId, Term,
    WallMillis,
};
use tempfile::TempDir;

use super::*;
use crate::store::own_chunks::{put_chunk, put_end};
use crate::store::space_view::{Pairs, next_pair};
use crate::store::space_writer::SpaceWriter;
use crate::test_memory_store::{Commit, MemoryDisk, MemoryMachine, Values, ValuesSnapshot};

const SHARD: ShardId = ShardId(4);
const SPACE: SpaceId = SpaceId(7);

fn identity(store: u128) -> StoreIdentity {
    let (cluster, node, store) = (ClusterId(1), NodeId(1), StoreId(store));
    StoreIdentity::of(&Identity { cluster, node, store, incarnation: Incarnation(1) })
}

fn record(applied: u64) -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(applied)),
        epoch: Epoch { membership: 1, version: 1 },
        start: bytes::Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(0),
    }
}

fn values(commands: u64) -> Values {
    let by_key = (0..commands).map(|key| (key.to_be_bytes().to_vec(), vec![7; 30])).collect();
    Values { commands, by_key }
}

struct World {
    data: DataStore,
    disk: Arc<Mutex<MemoryDisk>>,
    _directory: TempDir,
}

/// What is in the own store: through which entry, of which store and shard.
type Held = Option<(u64, u128, u64)>;

impl World {
    fn new(held: Held) -> World {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = DataStore::open(directory.path(), true).expect("a new directory");
        let disk = MemoryDisk {
            committed: held.map(|(applied, store, shard)| {
                let (identity, shard) = (identity(store), ShardId(shard));
                let own = OwnRecord { identity, shard, record: record(applied) };
                Commit { record: own.encode(), values: values(applied) }
            }),
            ..MemoryDisk::default()
        };
        World { data, disk: Arc::new(Mutex::new(disk)), _directory: directory }
    }

    /// Writes the snapshot of `values` into the space, in chunks of at most `bytes_max`.
    fn put_snapshot(&self, values: Values, bytes_max: usize) -> u64 {
        self.put_snapshot_without(values, bytes_max, None)
    }

    /// As [`World::put_snapshot`], without one of its chunks.
    fn put_snapshot_without(&self, values: Values, bytes_max: usize, left_out: Option<u64>) -> u64 {
        let base = record(values.commands);
        let (mut snapshot, mut pairs) = (ValuesSnapshot::of(values), Pairs::default());
        let mut count = 0;
        while let Some(chunk) = snapshot.next_chunk(bytes_max).expect("in memory") {
            put_chunk(&mut pairs, count, &chunk);
            count += 1;
        }
        put_end(&mut pairs, count);
        let mut reader = quorate_types::ByteReader::new(&pairs.bytes[..]);
        let mut writer = SpaceWriter::begin(&self.data, SPACE, &base).expect("healthy");
        while let Some((key, value)) = next_pair(&mut reader).expect("written just now") {
            if left_out.is_none_or(|number| key != number.to_be_bytes()) {
                writer.put(key, value).expect("in their order");
            }
        }
        writer.ingest().expect("healthy");
        count
    }

    fn join(&self, of_space: u64) -> Result<AppliedRecord, OwnFault> {
        let (data, identity) = (&self.data, identity(1));
        let own = OwnReplica { data, identity, shard: SHARD, space: SPACE };
        let mut machine = MemoryMachine::new(&self.disk);
        own.join(machine.own_store().expect("it has one"), record(of_space), of_space == 1)
    }

    fn chunks(&self) -> ChunkState {
        self.data.chunk_state(SPACE).expect("readable")
    }

    fn held(&self) -> Values {
        self.disk.lock().committed.clone().expect("committed").values
    }

    fn calls(&self) -> Vec<&'static str> {
        self.disk.lock().calls.clone()
    }
}

fn refusal(joined: Result<AppliedRecord, OwnFault>) -> String {
    match joined {
        Err(OwnFault::Refused(fault)) => fault.to_string(),
        other => panic!("{other:?}"),
    }
}

fn damage(joined: Result<AppliedRecord, OwnFault>) -> String {
    match joined {
        Err(OwnFault::Unfit(StoreFault::Damaged(what))) => what,
        other => panic!("{other:?}"),
    }
}

fn failure(joined: Result<AppliedRecord, OwnFault>) -> String {
    match joined {
        Err(OwnFault::Unfit(StoreFault::Failed(what))) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_store_begins_with_the_shard() {
    let world = World::new(None);
    assert_eq!(world.join(1).expect("new"), record(1));
    assert_eq!(world.calls(), ["committed"]);
}

/// Method: a snapshot of many chunks; the start is repeated after it.
#[test]
fn a_snapshot_that_is_not_in_the_store_yet_is_installed_once() {
    let world = World::new(Some((5, 1, 4)));
    let chunks = world.put_snapshot(values(100), 100);
    assert!(chunks > 30, "{chunks}");
    assert_eq!(world.join(100).expect("installed"), record(100));
    assert_eq!((world.held(), world.chunks()), (values(100), ChunkState::Installed));
    assert_eq!(world.calls(), ["committed", "install"]);
    assert_eq!(world.join(100).expect("there"), record(100));
    assert_eq!(world.calls(), ["committed", "install", "committed"]);
}

/// Method: the store's install fails as if the process had ended in it; then as if it had ended after it,
/// before the chunks were deleted.
#[test]
fn a_crash_in_an_install_repeats_it() {
    let world = World::new(Some((5, 1, 4)));
    world.put_snapshot(values(100), 1 << 20);
    world.disk.lock().fault = Some(("install", StoreFault::Failed("it ended".to_owned())));
    assert_eq!(failure(world.join(100)), "it ended");
    assert_eq!((world.held(), world.chunks()), (values(5), ChunkState::Complete));
    assert_eq!(world.join(100).expect("installed"), record(100));

    world.put_snapshot(values(100), 1 << 20);
    world.disk.lock().calls.clear();
    assert_eq!(world.join(100).expect("there"), record(100));
    assert_eq!((world.calls(), world.chunks()), (vec!["committed"], ChunkState::Installed));
}

/// Goal: what was applied after a snapshot is not lost to that snapshot.
#[test]
fn a_store_that_has_gone_on_is_left_alone() {
    let world = World::new(Some((120, 1, 4)));
    world.put_snapshot(values(100), 1 << 20);
    assert_eq!(world.join(100).expect("ahead"), record(120));
    assert_eq!((world.held(), world.chunks()), (values(120), ChunkState::Installed));
}

/// Goal: a store that has lost what its log relies on is given up; not one that was given the wrong
/// machine or directory.
#[test]
fn a_store_that_lost_data_is_given_up() {
    let world = World::new(Some((5, 1, 4)));
    world.put_snapshot(values(100), 1 << 20);
    world.data.delete_chunks(SPACE).expect("healthy");
    let what = damage(world.join(100));
    assert!(what.contains("relies on a snapshot through 1/100"), "{what}");
    let damaged = World::new(Some((5, 1, 4)));
    damaged.disk.lock().committed.as_mut().expect("committed").record[9] ^= 1;
    assert!(damage(damaged.join(1)).contains("checksum"));
    let broken = World::new(Some((5, 1, 4)));
    broken.disk.lock().fault = Some(("committed", StoreFault::Damaged("a block".to_owned())));
    assert!(damage(broken.join(1)).contains("a block"));
    let torn = World::new(Some((5, 1, 4)));
    torn.put_snapshot_without(values(100), 100, Some(3));
    assert!(damage(torn.join(100)).contains("chunk 3 of"));
}

/// Goal: a store that holds nothing may be elsewhere: its replica waits for it, and is not given up for
/// good.
#[test]
fn a_store_that_is_empty_is_waited_for() {
    let world = World::new(None);
    world.put_snapshot(values(100), 1 << 20);
    world.data.delete_chunks(SPACE).expect("healthy");
    let what = failure(world.join(100));
    assert!(what.contains("through 1/100: is a volume not mounted"), "{what}");
}

#[test]
fn what_an_operator_can_put_right_refuses_the_start() {
    for held in [(5, 2, 4), (5, 1, 3)] {
        let what = refusal(World::new(Some(held)).join(1));
        assert!(what.contains("put the right ones together"), "{what}");
    }
    // Its data is in the engine's store: the machine was another one.
    let what = refusal(World::new(None).join(100));
    assert!(what.contains("give it the machine that has written it"), "{what}");
}
