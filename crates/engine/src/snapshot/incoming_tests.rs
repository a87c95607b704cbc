//! Goal: a snapshot that the disk has changed after it was written is never installed, and leaves
//! nothing damaged behind. Method: the last part is taken while the store has something else than what
//! was sent, or gets it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use quorate_raft::Membership;
use quorate_types::{Epoch, Index, LogId, WallMillis};
use tempfile::TempDir;

use super::*;
use crate::store::space_view::put_pair;

const SPACE: SpaceId = SpaceId(5);
const VALUES: u32 = 256;
const VALUE_BYTES: usize = 16 << 10;

fn record() -> AppliedRecord {
    AppliedRecord {
        applied: LogId::new(Term(1), Index(70)),
        epoch: Epoch::default(),
        start: Bytes::new(),
        end: None,
        membership: Membership::default(),
        clock: WallMillis(0),
    }
}

/// Bytes that no codec can compress, so that every byte of a table matters.
fn value(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) | 1 << 63;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..VALUE_BYTES).map(step).collect()
}

/// A snapshot in two parts, as a sender makes them.
fn parts() -> [Part; 2] {
    let mut digest = Digest::default();
    let mut pairs_of = |numbers: std::ops::Range<u32>| {
        let count = numbers.len() as u64;
        let mut pairs = Vec::new();
        numbers.for_each(|number| put_pair(&mut pairs, &number.to_be_bytes(), &value(number)));
        digest.add(count, &pairs);
        Bytes::from(pairs)
    };
    let (first, second) = (pairs_of(0..VALUES / 2), pairs_of(VALUES / 2..VALUES));
    let part = |number, record, digest, pairs| Part {
        transfer: TransferId(1),
        shard: ShardId(1),
        from: ReplicaId(1),
        term: Term(1),
        to: ReplicaId(2),
        number,
        bytes_total: 0,
        record,
        digest,
        pairs,
    };
    [part(0, Some(record()), None, first), part(1, None, Some(digest), second)]
}

fn store() -> (TempDir, DataStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DataStore::open(&directory.path().join("data"), true).expect("a new store");
    (directory, store)
}

/// Takes all parts. The last one is read back from the store, and `meanwhile` is called on the way.
fn receive(store: &DataStore, meanwhile: &mut dyn FnMut()) -> Result<bool, IncomingError> {
    let [first, last] = parts();
    let (sender, now) = (NodeId(2), Monotonic(0));
    let mut incoming = Incoming::begin(store, SPACE, sender, &first, now).expect("begun");
    let mut goes_on = || {
        meanwhile();
        true
    };
    assert!(!incoming.take(store, &first, &mut goes_on).expect("the disk works"));
    incoming.take(store, &last, &mut goes_on)
}

/// Flips a byte behind what was read so far.
fn flip_late(directory: &Path) {
    let files = std::fs::read_dir(directory).expect("listed").map(|file| file.expect("one").path());
    let tables = files.filter(|path| path.extension().is_some_and(|ending| ending == "sst"));
    let bytes_of = |path: &std::path::PathBuf| std::fs::metadata(path).expect("there").len();
    let largest = tables.max_by_key(bytes_of).expect("ingested");
    let at = bytes_of(&largest) / 8 * 7;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(largest).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 1], at).expect("writable");
}

#[test]
fn a_sound_snapshot_is_taken() {
    let (_directory, store) = store();
    let mut calls = 0;
    assert!(receive(&store, &mut || calls += 1).expect("sound"), "it is complete");
    assert!(calls > 0, "it is read back in steps");
}

#[test]
fn a_byte_that_is_flipped_after_it_was_written_is_found() {
    let (_directory, store) = store();
    let mut flips = 0;
    let taken = receive(&store, &mut || {
        if flips == 0 {
            flip_late(store.directory());
        }
        flips += 1;
    });
    let Err(IncomingError::Space(SpaceError::Data(error))) = taken else { panic!("{taken:?}") };
    assert!(error.to_string().contains("checksum mismatch"), "{error}");

    // What the receiver does with it: the damaged table goes as a whole, unread.
    store.delete_unread_space(SPACE).expect("deleted");
    assert_eq!(store.spaces().expect("nothing unreadable is left"), []);
    store.verify_tables().expect("no damaged table is left");
}

/// Goal: the same for a change that no checksum of a table shows. Method: the store has a pair in this
/// space that was never sent.
#[test]
fn other_pairs_than_those_sent_are_found() {
    let (_directory, store) = store();
    let mut other = SpaceWriter::begin(&store, SPACE, &record()).expect("begun");
    other.put(&[0xff; 5], b"never sent").expect("written");
    other.ingest().expect("in the store");
    let taken = receive(&store, &mut || {});
    let Err(IncomingError::Stored { expected, found }) = taken else { panic!("{taken:?}") };
    assert_eq!((expected.pairs, found.pairs), (u64::from(VALUES), u64::from(VALUES) + 1));
}
