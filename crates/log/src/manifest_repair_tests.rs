use tempfile::TempDir;

use super::*;
use crate::journal::tests::{file, record};

const NAME: &str = "MANIFEST-000005";

/// A record of a change, with the number that the next new file gets, in about `length` bytes.
fn change(next_file: u8, length: usize) -> Vec<u8> {
    assert!(next_file < 0x80, "one byte is enough");
    // Log number 300, then what is looked for.
    [vec![2, 0xac, 2, 3, next_file], record(length, next_file)].concat()
}

/// A directory whose manifest has these records, changed by `change`, and where each record begins.
fn manifest(
    records: &[Vec<u8>],
    change: impl FnOnce(&mut Vec<u8>, &[usize]),
) -> (TempDir, Vec<u8>) {
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (mut bytes, starts) = file(&records);
    change(&mut bytes, &starts);
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("CURRENT"), format!("{NAME}\n")).expect("written");
    fs::write(dir.path().join(NAME), &bytes).expect("written");
    (dir, bytes)
}

fn length_of(dir: &TempDir) -> usize {
    fs::read(dir.path().join(NAME)).expect("read").len()
}

/// Goal: what a power cut can leave of the last group is cut off where it begins. Method: groups of two
/// changes; zeroes from the first one's beginning, or from a sector within it, up to a sector's end, or
/// over the whole of it.
#[test]
fn a_hole_in_the_last_group_is_cut_off() {
    let records = [change(7, 900), change(8, 1_900), change(8, 20)];
    for (from, is_whole) in [(0, false), (200, false), (700, false), (0, true)] {
        let mut expected = 0;
        let (dir, bytes) = manifest(&records, |bytes, starts| {
            expected = starts[1];
            let hole = if from == 0 { starts[1] } else { (starts[1] + from).next_multiple_of(512) };
            let end = if is_whole { starts[2] } else { (hole + 1).next_multiple_of(512) };
            assert!(end <= starts[2], "the group's second change is whole");
            bytes[hole..end].fill(0);
        });
        mend_manifest(dir.path()).expect("a power cut leaves this");
        assert_eq!(
            length_of(&dir),
            expected,
            "a hole {from} behind the beginning of {}",
            bytes.len()
        );
        mend_manifest(dir.path()).expect("it is whole now");
        assert_eq!(length_of(&dir), expected);
    }
}

/// Goal: an early end of the last record, and a record that is damaged at the end, are cut off.
#[test]
fn a_torn_end_is_cut_off() {
    for cut in [1, 100, 899] {
        let mut expected = 0;
        let (dir, _) = manifest(&[change(7, 900), change(8, 900)], |bytes, starts| {
            expected = starts[1];
            bytes.truncate(bytes.len() - cut);
        });
        mend_manifest(dir.path()).expect("a power cut leaves this");
        assert_eq!(length_of(&dir), expected, "{cut} bytes are missing");
    }
}

/// Goal: damage in a change that was synced is named, and nothing is changed: a bit that flipped, and a
/// hole with changes of two groups behind it.
#[test]
fn what_was_synced_is_never_cut_off() {
    let records = [change(7, 1_500), change(8, 900), change(9, 900), change(10, 900)];
    let flip: fn(&mut Vec<u8>, &[usize]) = |bytes, starts| bytes[starts[1] + 300] ^= 1;
    let hole: fn(&mut Vec<u8>, &[usize]) = |bytes, starts| {
        bytes[starts[1]..(starts[1] + 1).next_multiple_of(512)].fill(0);
    };
    for (change, words) in [(flip, "no power cut leaves that"), (hole, "later changes follow")] {
        let (dir, bytes) = manifest(&records, change);
        let error = mend_manifest(dir.path()).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(NAME), "{error}");
        assert_eq!(fs::read(dir.path().join(NAME)).expect("read"), bytes, "{words}");
    }
}

/// Goal: the group that a manifest begins with was synced before CURRENT named it, so damage there is never
/// taken for a change under way, even if nothing follows.
#[test]
fn the_beginning_is_never_cut_off() {
    // As a start writes it: the state of before has no number, or an older one.
    let beginning = [change(5, 300), change(5, 900), change(6, 900)];
    for damaged in 0..3 {
        let (dir, bytes) = manifest(&beginning, |bytes, starts| {
            bytes.truncate(starts[damaged] + 250);
        });
        let error = mend_manifest(dir.path()).expect_err("it was synced");
        assert!(error.to_string().contains("its beginning"), "{error}");
        assert_eq!(fs::read(dir.path().join(NAME)).expect("read"), bytes);
    }
}

/// Goal: the manifest of a database that is open is left alone, however it looks.
#[test]
fn an_open_database_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, dir.path()).expect("opened");
    let path = manifest_in(dir.path()).expect("readable").expect("there is one");
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend([9; 30]);
    fs::write(&path, &bytes).expect("written");
    let error = mend_manifest(dir.path()).expect_err("it is open");
    assert!(matches!(error, ManifestError::InUse(Holder::ThisProcess)), "{error}");
    assert_eq!(fs::read(&path).expect("read"), bytes);
    drop(db);
    mend_manifest(dir.path()).expect("nobody has it open");
    assert_eq!(fs::read(&path).expect("read"), bytes[..bytes.len() - 30]);
}

/// Goal: a directory without a database, and rubbish, are left to RocksDB.
#[test]
fn what_is_no_manifest_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    for current in [None, Some(&b"nonsense"[..]), Some(&[0xff, 0xfe]), Some(b"MANIFEST-000009\n")] {
        if let Some(bytes) = current {
            fs::write(dir.path().join("CURRENT"), bytes).expect("written");
        }
        mend_manifest(dir.path()).expect("not its business");
    }
    assert_eq!(next_file(&[2, 0x80]), None);
    assert_eq!(next_file(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
}
