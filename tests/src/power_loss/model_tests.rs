//! Goal: the model loses what a disk may lose and nothing else. Method: journals written by hand,
//! cut at chosen records, over many seeds.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::format::{FLAG_CREATE, FLAG_TRUNCATE, Header, Kind};
use super::{Entries, Journal, Loss, Model, Report};

const SEEDS: u64 = 200;

/// A journal that a test writes.
struct Script {
    directory: TempDir,
    bytes: Vec<u8>,
    syncs: u64,
    /// Trees written so far: each has its own directory.
    trees: Cell<u64>,
}

impl Script {
    fn new() -> Script {
        Script {
            directory: TempDir::new().unwrap(),
            bytes: Vec::new(),
            syncs: 0,
            trees: Cell::new(0),
        }
    }

    fn add(&mut self, kind: Kind, flags: u16, handle: u64, offset: u64, payload: &[u8]) {
        self.bytes.extend(Header { kind, flags, handle, offset }.encode(payload));
        self.bytes.extend(payload);
    }

    fn open(&mut self, handle: u64, path: &str) {
        self.add(Kind::Open, FLAG_CREATE, handle, 0, path.as_bytes());
    }

    fn write(&mut self, handle: u64, offset: u64, bytes: &[u8]) {
        self.add(Kind::Write, 0, handle, offset, bytes);
    }

    fn begin_sync(&mut self, handle: u64) -> u64 {
        self.syncs += 1;
        self.add(Kind::SyncHandle, 0, handle, self.syncs, b"");
        self.syncs
    }

    fn end_sync(&mut self, number: u64) {
        self.add(Kind::SyncDone, 0, 0, number, b"");
    }

    fn sync(&mut self, handle: u64) {
        let number = self.begin_sync(handle);
        self.end_sync(number);
    }

    fn sync_directory(&mut self, path: &str) {
        self.syncs += 1;
        self.add(Kind::SyncPath, 0, 0, self.syncs, path.as_bytes());
        self.end_sync(self.syncs);
    }

    fn name(&mut self, kind: Kind, path: &str) {
        self.add(kind, 0, 0, 0, path.as_bytes());
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.add(Kind::Rename, 0, 0, from.len() as u64, format!("{from}{to}").as_bytes());
    }

    fn journal(&self) -> Journal {
        let path = self.directory.path().join("journal");
        fs::write(&path, &self.bytes).unwrap();
        Journal::open(&path).unwrap()
    }

    /// Returns the tree after all records, and what was lost.
    fn after(&self, seed: u64, loss: Loss, entries: Entries) -> (PathBuf, Report) {
        let journal = self.journal();
        let mut model = Model::new(&journal, None, entries).unwrap();
        model.cut_at(journal.records()).unwrap();
        let output = self.directory.path().join(format!("after-{}", self.trees.get()));
        self.trees.set(self.trees.get() + 1);
        let report = model.materialise(&output, seed, loss).unwrap();
        (output, report)
    }

    /// For every seed: the contents of `path`, `None` where it is not there.
    fn outcomes(&self, path: &str, loss: Loss) -> Vec<Option<Vec<u8>>> {
        let outcome = |seed| fs::read(self.after(seed, loss, Entries::Strict).0.join(path)).ok();
        (0..SEEDS).map(outcome).collect()
    }
}

/// A file `a` whose entry and whose first 1,000 bytes (all 1) are durable.
fn one_durable_file() -> Script {
    let mut script = Script::new();
    script.open(1, "a");
    script.write(1, 0, &[1; 1000]);
    script.sync(1);
    script.sync_directory("");
    script
}

#[test]
fn synced_data_stays() {
    let script = one_durable_file();
    for loss in [Loss::Nothing, Loss::All, Loss::Tail, Loss::Scattered, Loss::Mixed] {
        assert!(script.outcomes("a", loss).iter().all(|seen| *seen == Some(vec![1; 1000])));
    }
}

#[test]
fn a_new_name_needs_a_sync_of_its_directory() {
    let mut script = Script::new();
    script.open(1, "a");
    script.write(1, 0, b"data");
    script.sync(1);
    let outcomes = script.outcomes("a", Loss::Mixed);
    assert!(outcomes.contains(&None), "the entry was never synced");
    assert!(outcomes.contains(&Some(b"data".to_vec())), "the entry may have survived");
    let (output, report) = script.after(0, Loss::All, Entries::Journaled);
    assert_eq!(fs::read(output.join("a")).unwrap(), b"data");
    assert_eq!((report.entries_unsynced, report.files_lost), (0, 0));
}

#[test]
fn a_name_in_a_directory_whose_own_name_is_unsynced_is_lost_with_it() {
    let mut script = Script::new();
    script.name(Kind::MakeDirectory, "d");
    script.open(1, "d/a");
    script.sync(1);
    script.sync_directory("d");
    let (output, report) = script.after(0, Loss::All, Entries::Strict);
    assert!(!output.join("d").exists());
    assert_eq!((report.files, report.files_lost, report.entries_lost), (0, 1, 1));
    script.sync_directory("");
    let (output, _) = script.after(1, Loss::All, Entries::Strict);
    assert!(output.join("d/a").exists());
}

#[test]
fn an_unsynced_tail_is_cut_torn_or_whole() {
    let mut script = one_durable_file();
    script.write(1, 1000, &[2; 3000]);
    script.write(1, 4000, &[3; 3000]);
    let (mut cut, mut torn, mut whole) = (0, 0, 0);
    for contents in script.outcomes("a", Loss::Tail) {
        let contents = contents.unwrap();
        assert!(contents[..1000].iter().all(|byte| *byte == 1), "durable data changed");
        let data = contents.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let mut expected = [vec![1; 1000], vec![2; 3000], vec![3; 3000]].concat();
        expected.truncate(data);
        assert_eq!(contents[..data], expected, "a tail keeps the order of writes");
        assert!(matches!(data, 1000 | 4000 | 7000) || data.is_multiple_of(512), "{data}");
        match data {
            1000 => cut += 1,
            4000 | 7000 => whole += 1,
            _ => torn += 1,
        }
    }
    assert!(cut > 0 && torn > 0 && whole > 0, "{cut} {torn} {whole}");
}

#[test]
fn scattered_sectors_survive_in_any_set() {
    let mut script = one_durable_file();
    script.write(1, 1000, &[2; 6168]);
    let mut holes = 0;
    let mut zero_tails = 0;
    for contents in script.outcomes("a", Loss::Scattered) {
        let contents = contents.unwrap();
        assert!((1000..=7168).contains(&contents.len()));
        assert!(contents[..1000].iter().all(|byte| *byte == 1), "durable data changed");
        let sectors: Vec<bool> = contents
            .get(1024..)
            .unwrap_or_default()
            .chunks(512)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
                sector[0] == 2
            })
            .collect();
        holes += usize::from(sectors.windows(2).any(|pair| pair == [false, true]));
        zero_tails += usize::from(sectors.last() == Some(&false));
    }
    assert!(holes > 0 && zero_tails > 0, "{holes} {zero_tails}");
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let mut script = one_durable_file();
    let number = script.begin_sync(1);
    script.write(1, 1000, &[2; 512]);
    script.end_sync(number);
    let (output, report) = script.after(0, Loss::All, Entries::Strict);
    assert_eq!(fs::read(output.join("a")).unwrap(), [1; 1000]);
    assert_eq!((report.bytes_unsynced, report.bytes_dropped), (512, 512));
    // A sync that has not returned promises nothing, and a file that it covers may lose all.
    script.begin_sync(1);
    let (output, _) = script.after(1, Loss::All, Entries::Strict);
    assert_eq!(fs::read(output.join("a")).unwrap(), [1; 1000]);
}

#[test]
fn an_unsynced_rename_vanishes() {
    let mut script = one_durable_file();
    script.open(2, "b");
    script.write(2, 0, b"new");
    script.sync(2);
    script.sync_directory("");
    script.rename("b", "a");
    for seed in 0..SEEDS {
        let (output, report) = script.after(seed, Loss::Mixed, Entries::Strict);
        match report.renames_lost {
            0 => assert!(!output.join("b").exists()),
            _ => assert_eq!(fs::read(output.join("b")).unwrap(), b"new"),
        }
        let expected = if report.renames_lost == 0 { b"new".to_vec() } else { vec![1; 1000] };
        assert_eq!(fs::read(output.join("a")).unwrap(), expected, "old or new, never a mixture");
    }
    let outcomes = script.outcomes("b", Loss::Mixed);
    assert!(outcomes.contains(&None) && outcomes.iter().any(Option::is_some));
    script.sync_directory("");
    assert!(script.outcomes("a", Loss::Mixed).iter().all(|seen| *seen == Some(b"new".to_vec())));
}

#[test]
fn a_rename_between_directories_is_kept_or_lost_as_a_whole() {
    let mut script = Script::new();
    script.name(Kind::MakeDirectory, "x");
    script.name(Kind::MakeDirectory, "y");
    script.open(1, "x/a");
    script.sync_directory("x");
    script.sync_directory("");
    script.rename("x/a", "y/a");
    script.open(2, "y/later");
    for seed in 0..SEEDS {
        let (output, report) = script.after(seed, Loss::Mixed, Entries::Strict);
        let (old, new) = (output.join("x/a").exists(), output.join("y/a").exists());
        assert!(old != new, "in exactly one place");
        assert!(new || !output.join("y/later").exists(), "an order of one directory was broken");
        assert_eq!(report.renames_lost, usize::from(old));
    }
    script.sync_directory("y");
    let (output, _) = script.after(SEEDS, Loss::All, Entries::Strict);
    assert!(output.join("y/later").exists() && !output.join("x/a").exists());
}

#[test]
fn an_unsynced_unlink_may_come_back() {
    let mut script = one_durable_file();
    script.name(Kind::Unlink, "a");
    let outcomes = script.outcomes("a", Loss::Mixed);
    assert!(outcomes.contains(&None));
    assert!(outcomes.contains(&Some(vec![1; 1000])));
    script.sync_directory("");
    assert!(script.outcomes("a", Loss::Mixed).iter().all(Option::is_none));
    // The handle is still open: writing to a file without a name is no error.
    script.write(1, 0, b"unseen");
    script.sync(1);
    assert_eq!(script.after(SEEDS, Loss::All, Entries::Strict).1.files, 0);
}

#[test]
fn an_unsynced_truncation_may_be_lost() {
    let mut script = one_durable_file();
    script.add(Kind::Truncate, 0, 1, 100, b"");
    let outcomes = script.outcomes("a", Loss::Mixed);
    assert!(outcomes.contains(&Some(vec![1; 1000])) && outcomes.contains(&Some(vec![1; 100])));
    script.sync(1);
    assert!(script.outcomes("a", Loss::Mixed).iter().all(|seen| *seen == Some(vec![1; 100])));
    script.add(Kind::Open, FLAG_TRUNCATE, 2, 0, b"a");
    script.write(2, 0, b"two");
    let (output, report) = script.after(SEEDS, Loss::All, Entries::Strict);
    assert_eq!(fs::read(output.join("a")).unwrap(), [1; 100]);
    assert_eq!(report.resizes_lost, 1);
    script.sync(2);
    assert!(script.outcomes("a", Loss::Mixed).iter().all(|seen| *seen == Some(b"two".to_vec())));
}

#[test]
fn an_extension_reads_as_zeroes() {
    let mut script = one_durable_file();
    script.add(Kind::Extend, 0, 1, 1500, b"");
    script.add(Kind::Extend, 0, 1, 200, b"");
    script.sync(1);
    let expected = [vec![1; 1000], vec![0; 500]].concat();
    assert_eq!(script.outcomes("a", Loss::All)[0], Some(expected));
}

#[test]
fn links_share_their_contents() {
    let mut script = one_durable_file();
    script.add(Kind::Link, 0, 0, 1, b"ab");
    script.sync_directory("");
    script.write(1, 0, &[9; 1000]);
    script.sync(1);
    let (output, report) = script.after(0, Loss::Mixed, Entries::Strict);
    assert_eq!(fs::read(output.join("a")).unwrap(), fs::read(output.join("b")).unwrap());
    assert_eq!(report.files, 1);
}

#[test]
fn marks_are_durable_at_once_and_in_order() {
    let mut script = one_durable_file();
    script.open(7, "ANNOTATIONS-0");
    script.write(7, 0, b"one\n");
    script.write(1, 0, b"x");
    script.write(7, 4, b"two\n");
    let journal = script.journal();
    let end = journal.records();
    assert_eq!(journal.marks_until(end).unwrap(), b"one\ntwo\n");
    assert_eq!(journal.marks_until(end - 1).unwrap(), b"one\n");
    assert_eq!(journal.marks(end - 1..end).unwrap()[0].record, end - 1);
    let (output, _) = script.after(0, Loss::Nothing, Entries::Strict);
    assert!(!output.join("ANNOTATIONS-0").exists());
}

#[test]
fn a_torn_record_ends_the_journal() {
    let mut script = one_durable_file();
    let whole = script.journal().records();
    script.write(1, 1000, &[2; 100]);
    for missing in [1, 99, 100, 120] {
        let path = script.directory.path().join("torn");
        fs::write(&path, &script.bytes[..script.bytes.len() - missing]).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.records(), whole);
        assert_eq!(journal.torn_bytes(), 132 - missing as u64);
    }
    let last = script.bytes.len() - 1;
    script.bytes[last] ^= 1;
    assert_eq!(script.journal().records(), whole, "a damaged record was taken");
}

#[test]
fn a_round_starts_from_what_the_last_one_left() {
    let first = one_durable_file();
    let (image, _) = first.after(0, Loss::Mixed, Entries::Strict);
    let mut second = Script::new();
    second.add(Kind::Open, 0, 1, 0, b"a");
    second.write(1, 10, b"second");
    second.sync(1);
    let journal = second.journal();
    let mut model = Model::new(&journal, Some(&image), Entries::Strict).unwrap();
    let mut expected = vec![1; 1000];
    for (cut, name) in [(4, "late"), (1, "early")] {
        model.cut_at(cut).unwrap();
        let output = second.directory.path().join(name);
        model.materialise(&output, 0, Loss::All).unwrap();
        let seen = fs::read(output.join("a")).unwrap();
        assert_eq!(seen[10..16] == *b"second", cut == 4);
        expected[10..16].copy_from_slice(&seen[10..16]);
        assert_eq!(seen, expected);
    }
}

#[test]
fn equal_seeds_give_equal_trees() {
    let mut script = one_durable_file();
    script.write(1, 1000, &[2; 50_000]);
    script.open(2, "b");
    let reports: Vec<Report> =
        (0..SEEDS).map(|seed| script.after(seed, Loss::Mixed, Entries::Strict).1).collect();
    for (seed, report) in reports.iter().enumerate() {
        let journal = script.journal();
        let mut model = Model::new(&journal, None, Entries::Strict).unwrap();
        model.cut_at(journal.records()).unwrap();
        let output = script.directory.path().join(format!("again-{seed}"));
        assert_eq!(model.materialise(&output, seed as u64, Loss::Mixed).unwrap(), *report);
    }
    assert!(reports.iter().any(|report| *report != reports[0]), "the seed has no effect");
}
