//! Goal: a store that is written anew has everything that could be read and nothing that is damaged,
//! whenever a crash cuts the writing short. Method: a store with three spaces in one table, of which a
//! byte is flipped within the second one.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use quorate_log::Identity;
use quorate_raft::Membership;
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, StoreId, Term, WallMillis,
};
use tempfile::TempDir;

use super::*;

const FIRST: SpaceId = SpaceId(1);
const DAMAGED: SpaceId = SpaceId(2);
const SMALL: SpaceId = SpaceId(3);
const VALUE_BYTES: usize = 16 << 10;

fn identity() -> StoreIdentity {
    StoreIdentity::of(&Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        store: StoreId(9),
        incarnation: Incarnation(1),
    })
}

fn record(space: SpaceId) -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(space.0 * 100)),
        epoch: Epoch::default(),
        start: bytes::Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(0),
    }
}

/// More than is read at once, so that a table is written for it; or less.
fn values_of(space: SpaceId) -> u64 {
    if space == SMALL { 3 } else { 200 }
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Bytes that no codec can compress.
fn value(space: SpaceId, number: u64) -> Vec<u8> {
    let mut state = space.0 << 32 | number | 1 << 63;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..VALUE_BYTES).map(step).collect()
}

fn open(directory: &Path) -> DataStore {
    DataStore::open(directory, false).expect("a store")
}

fn put(store: &DataStore, spaces: &[SpaceId]) {
    for space in spaces {
        let mut batch = WriteBatch::default();
        batch.put(record_key(*space), record(*space).encode());
        for number in 0..values_of(*space) {
            batch.put(user_key(*space, &key(number)), value(*space, number));
        }
        store.write(&batch).expect("written");
    }
    store.flush().expect("flushed");
}

fn new_store() -> (TempDir, PathBuf, DataStore) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let directory = root.path().join("data");
    let store = DataStore::open(&directory, true).expect("a new store");
    store.take_identity(identity()).expect("written");
    (root, directory, store)
}

/// The largest table of a store.
fn table_of(store: &DataStore) -> PathBuf {
    let tables = store.db().live_files().expect("listed");
    let largest = tables.iter().max_by_key(|table| table.size).expect("flushed");
    store.directory().join(largest.name.trim_start_matches('/'))
}

/// Flips a byte of a file at what `at` makes of its length.
fn flip(path: &Path, at: impl FnOnce(u64) -> u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("there");
    let at = at(file.metadata().expect("there").len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 4], at).expect("written");
}

/// A closed store with a damaged table, which is noted.
fn damaged_store() -> (TempDir, PathBuf) {
    let (root, directory, store) = new_store();
    put(&store, &[FIRST, DAMAGED, SMALL]);
    let table = table_of(&store);
    drop(store);
    // The first space takes the first half.
    flip(&table, |bytes| bytes * 3 / 4);
    DamageMark::of(&directory).note("a table is damaged");
    (root, directory)
}

/// Writes the copy. It is not put in its place yet.
fn write_copy(directory: &Path) {
    let old = open(directory);
    let copy = Rewrite::begin(&old, identity(), 64).expect("begun");
    for space in [FIRST, DAMAGED, SMALL] {
        let copied = copy.copy(space, &record(space)).expect("the disk works");
        match copied {
            Ok(()) => assert_ne!(space, DAMAGED),
            Err(error) => {
                assert_eq!(space, DAMAGED, "{error}");
                assert!(error.to_string().contains("checksum mismatch"), "{error}");
            }
        }
    }
    let bytes = copy.complete().expect("complete");
    assert!(bytes > values_of(FIRST) * VALUE_BYTES as u64);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_tree(&path, &target),
            false => drop(fs::copy(&path, &target).expect("copied")),
        }
    }
}

fn assert_whole(store: &DataStore, space: SpaceId) {
    let found = store.record(space).expect("readable").expect("there").expect("sound");
    assert_eq!(found, record(space));
    let mut next = 0;
    let mut visit = |found: &[u8], bytes: &[u8]| {
        assert_eq!((found, bytes), (&key(next)[..], &value(space, next)[..]));
        next += 1;
        true
    };
    store.scan(space, &[], None, &mut visit).expect("readable");
    assert_eq!(next, values_of(space));
}

/// The store in `directory` is the new one, in its place, with nothing left to do.
fn assert_rewritten(directory: &Path) {
    let store = open(directory);
    assert_eq!(store.spaces().expect("readable"), [FIRST, SMALL]);
    [FIRST, SMALL].iter().for_each(|space| assert_whole(&store, *space));
    assert_eq!(store.identity().expect("readable"), Some(Ok(identity())));
    store.verify_tables().expect("nothing is damaged");
    assert_eq!(store.noted_damage().expect("readable"), None);
    drop(store);
    assert!(!is_pending(directory));
    let folders = fs::read_dir(directory).expect("listed").map(|entry| entry.expect("one").path());
    assert_eq!(folders.filter(|path| path.is_dir()).count(), 0, "no folder is left");
}

#[test]
fn what_can_be_read_is_written_anew() {
    let (_root, directory) = damaged_store();
    write_copy(&directory);
    assert!(is_pending(&directory));
    finish(&directory).expect("the disk works");
    assert_rewritten(&directory);
    finish(&directory).expect("nothing to do");
    assert_rewritten(&directory);
}

/// Goal: a crash while the copy is put in its place changes nothing of what comes of it, even if each
/// start crashes at the same step. Method: an end at each step, twice; then an undisturbed one.
#[test]
fn putting_it_in_its_place_can_be_cut_short_at_every_step() {
    let (root, directory) = damaged_store();
    write_copy(&directory);
    let mut cuts = 0;
    loop {
        let copy = root.path().join(format!("cut at {cuts}"));
        copy_tree(&directory, &copy);
        let mut was_cut = false;
        for _ in 0..2 {
            let mut steps = 0;
            let outcome = finish_stepwise(&copy, &mut || {
                steps += 1;
                was_cut |= steps > cuts;
                if steps > cuts { Err(io::Error::other("cut")) } else { Ok(()) }
            });
            assert_eq!(outcome.is_ok(), steps <= cuts);
        }
        finish(&copy).expect("undisturbed");
        // After the last step but one only the note is left, and makes another copy.
        DamageMark::of(&copy).clear().expect("cleared");
        assert_rewritten(&copy);
        if !was_cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 12, "{cuts} steps: files of both stores are moved one by one");
}

/// Goal: before it is complete, a copy changes nothing. Method: one that ends after some spaces.
#[test]
fn an_incomplete_copy_is_deleted() {
    let (_root, directory) = damaged_store();
    let old = open(&directory);
    let copy = Rewrite::begin(&old, identity(), 64).expect("begun");
    copy.copy(FIRST, &record(FIRST)).expect("the disk works").expect("sound");
    drop(copy);
    drop(old);
    assert!(directory.join(UNFINISHED).is_dir() && !is_pending(&directory));
    finish(&directory).expect("the disk works");
    assert!(!directory.join(UNFINISHED).exists());
    let store = open(&directory);
    assert_eq!(store.spaces().expect("readable"), [FIRST, DAMAGED, SMALL]);
    assert_eq!(store.noted_damage().expect("readable").as_deref(), Some("a table is damaged\n"));
    drop(store);
    write_copy(&directory);
    finish(&directory).expect("the disk works");
    assert_rewritten(&directory);
}

/// Goal: files that are not the store's stay.
#[test]
fn only_the_files_of_the_store_are_replaced() {
    for name in [
        "000012.sst",
        "000012.log",
        "000012.dbtmp",
        "CURRENT",
        "IDENTITY",
        "LOCK",
        "LOG",
        "LOG.old.17",
        "MANIFEST-000005",
        "OPTIONS-000007",
    ] {
        assert!(is_of_store(name), "{name}");
    }
    for name in ["DAMAGED", "README", "x.sst", ".sst", "000012.sst.bak", "my.log", "CURRENT.copy"] {
        assert!(!is_of_store(name), "{name}");
    }
}
