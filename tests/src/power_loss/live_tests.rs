//! Goal: the preload library records a real program faithfully. Method: this test program runs
//! itself under the library with several threads of file operations; the journal is compared with
//! the files that are there, and after a cut at a random record every promise must hold.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;

use super::{Entries, Journal, Loss, Model, Recording, Shim, copy_tree};
use quorate_types::SplitMix64;

const THREADS: u64 = 4;

/// A recorded child's directories. They are in memory if there is a file system for it: cuts are
/// counted in records, so waiting for a disk gains nothing.
pub(super) struct Scene {
    pub(super) directory: TempDir,
    pub(super) recording: Recording,
}

impl Scene {
    /// A new root, empty or a copy of `image`; with `lie`, syncs below that directory of the root are
    /// not recorded.
    pub(super) fn new(image: Option<&Path>, lie: Option<&str>) -> Scene {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let directory = TempDir::new_in(parent).unwrap();
        let root = directory.path().join("root");
        match image {
            Some(image) => copy_tree(image, &root).unwrap(),
            None => fs::create_dir(&root).unwrap(),
        }
        let journal = directory.path().join("journal");
        let lie = lie.map(|lie| root.join(lie));
        Scene { directory, recording: Recording { root, journal, lie } }
    }

    /// Starts this program again, under the library, as the ignored test `name`.
    pub(super) fn start(&self, name: &str, operations: u64) -> Child {
        self.start_round(name, operations, 0)
    }

    /// As [`Scene::start`], in a chain of rounds.
    pub(super) fn start_round(&self, name: &str, operations: u64, round: u64) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("QUORATE_POWER_OPERATIONS", operations.to_string());
        command.env("QUORATE_POWER_ROUND", round.to_string());
        Shim::build().unwrap().record(&mut command, &self.recording);
        command.spawn().unwrap()
    }

    /// A path for the next tree.
    pub(super) fn output(&self, name: impl std::fmt::Display) -> PathBuf {
        self.directory.path().join(format!("after-{name}"))
    }
}

/// What a child is to do.
pub(super) struct Task {
    pub(super) root: PathBuf,
    pub(super) operations: u64,
    pub(super) round: u64,
}

impl Task {
    /// The task of this process, unless it is an ordinary run of ignored tests.
    pub(super) fn find() -> Option<Task> {
        let root = std::env::var_os("QUORATE_POWER_ROOT")?.into();
        let number = |name| std::env::var(name).ok()?.parse().ok();
        let operations = number("QUORATE_POWER_OPERATIONS")?;
        Some(Task { root, operations, round: number("QUORATE_POWER_ROUND")? })
    }
}

/// Fails unless both trees have the same files and directories with the same bytes.
pub(super) fn assert_same_tree(expected: &Path, found: &Path) {
    let list = |directory: &Path| -> BTreeMap<_, _> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        let entries = entries.map(|entry| (entry.file_name(), entry.path()));
        entries.filter(|(name, _)| !name.to_string_lossy().starts_with("ANNOTATIONS-")).collect()
    };
    let (left, right) = (list(expected), list(found));
    assert!(left.keys().eq(right.keys()), "{:?} and {:?}", left.keys(), right.keys());
    for (left, right) in left.values().zip(right.values()) {
        if left.is_dir() {
            assert_same_tree(left, right);
        } else {
            assert!(fs::read(left).unwrap() == fs::read(right).unwrap(), "{}", left.display());
        }
    }
}

#[test]
#[ignore = "runs only as the child of the other tests"]
fn child() {
    let Some(Task { root, operations, .. }) = Task::find() else { return };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let root = &root;
            scope.spawn(move || write_and_promise(root, thread, operations));
        }
    });
}

/// Bytes that name their place.
fn pattern(thread: u64, operation: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(thread << 32 | operation);
    let length = 1 + random.below(6000);
    (0..length).map(|_| random.bits() as u8 | 1).collect()
}

/// Appends to a log in every possible way, and replaces a small file by renaming; after each sync
/// it promises what has been synced.
fn write_and_promise(root: &Path, thread: u64, operations: u64) {
    let directory = root.join(format!("thread-{thread}"));
    fs::create_dir(&directory).unwrap();
    let mut log = OpenOptions::new();
    log.create(true).write(true);
    let mut log = log.open(directory.join("log")).unwrap();
    for path in [&directory, root] {
        File::open(path).unwrap().sync_all().unwrap();
    }
    let mut marks = File::create(root.join(format!("ANNOTATIONS-{thread}"))).unwrap();
    let mut length = 0;
    for operation in 0..operations {
        let bytes = pattern(thread, operation);
        append(&mut log, &directory, operation, length, &bytes);
        length += bytes.len() as u64;
        if operation % 3 == 0 {
            log.sync_data().unwrap();
            marks.write_all(format!("{thread} log {operation}\n").as_bytes()).unwrap();
        }
        if operation % 5 == 0 {
            replace(&directory, operation);
            marks.write_all(format!("{thread} current {operation}\n").as_bytes()).unwrap();
        }
        if operation % 7 == 0 {
            // Never synced, so any content may survive; it must not disturb the rest.
            fs::write(directory.join("scratch"), &bytes).unwrap();
            fs::rename(directory.join("scratch"), directory.join("junk")).unwrap();
            fs::remove_file(directory.join("junk")).unwrap();
        }
    }
}

fn append(log: &mut File, directory: &Path, operation: u64, length: u64, bytes: &[u8]) {
    let (head, tail) = bytes.split_at(bytes.len() / 3);
    log.seek(SeekFrom::Start(length)).unwrap();
    match operation % 5 {
        0 => log.write_all(bytes).unwrap(),
        1 => log.write_all_at(bytes, length).unwrap(),
        2 => {
            let parts = [IoSlice::new(head), IoSlice::new(tail)];
            let written = log.write_vectored(&parts).unwrap();
            log.write_all(&bytes[written..]).unwrap();
        }
        3 => {
            let mut second = log.try_clone().unwrap();
            second.write_all(head).unwrap();
            drop(second);
            log.write_all(tail).unwrap();
        }
        _ => {
            log.set_len(length + 100_000).unwrap();
            log.set_len(length).unwrap();
            let mut end = OpenOptions::new().append(true).open(directory.join("log")).unwrap();
            end.write_all(bytes).unwrap();
        }
    }
}

fn replace(directory: &Path, operation: u64) {
    let path = directory.join("next");
    let mut file = File::create(&path).unwrap();
    file.write_all(&pattern(9, operation)).unwrap();
    file.sync_all().unwrap();
    fs::rename(path, directory.join("current")).unwrap();
    File::open(directory).unwrap().sync_all().unwrap();
}

/// The promises that `tree` breaks.
fn broken_promises(tree: &Path, marks: &[u8]) -> Vec<String> {
    let mut logs = BTreeMap::new();
    let mut currents = BTreeMap::new();
    for mark in std::str::from_utf8(marks).unwrap().lines() {
        let [thread, what, operation] = mark.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{mark:?}");
        };
        let latest = if what == "log" { &mut logs } else { &mut currents };
        latest.insert(thread.parse::<u64>().unwrap(), operation.parse::<u64>().unwrap());
    }
    let mut broken = Vec::new();
    for (thread, operation) in logs {
        let log = fs::read(tree.join(format!("thread-{thread}/log"))).unwrap_or_default();
        let promised: Vec<u8> = (0..=operation).flat_map(|k| pattern(thread, k)).collect();
        if !log.starts_with(&promised) {
            broken.push(format!("log of {thread} to {operation}"));
        }
    }
    for (thread, operation) in currents {
        // Replaced at most once more, by a file that was synced before it got the name.
        let current = fs::read(tree.join(format!("thread-{thread}/current"))).unwrap_or_default();
        if current != pattern(9, operation) && current != pattern(9, operation + 5) {
            broken.push(format!("current of {thread} at {operation}"));
        }
    }
    broken
}

/// Cuts at `rounds` random records and counts the rounds that break a promise.
fn broken_rounds(scene: &Scene, rounds: u64) -> u64 {
    broken_rounds_from(scene, rounds, |_| 0)
}

/// As [`broken_rounds`], at records from the one that `first` names.
fn broken_rounds_from(scene: &Scene, rounds: u64, first: impl FnOnce(&Journal) -> usize) -> u64 {
    let journal = Journal::open(&scene.recording.journal).unwrap();
    let mut random = SplitMix64::new(1);
    let first = first(&journal);
    let range = (journal.records() - first) as u64 + 1;
    let mut cuts: Vec<usize> = (0..rounds).map(|_| first + random.below(range) as usize).collect();
    cuts.sort_unstable();
    let mut model = Model::new(&journal, None, Entries::Strict).unwrap();
    let mut broken_rounds = 0;
    for (seed, cut) in cuts.into_iter().enumerate() {
        model.cut_at(cut).unwrap();
        let output = scene.output(seed);
        model.materialise(&output, seed as u64, Loss::Mixed).unwrap();
        let broken = broken_promises(&output, &journal.marks_until(cut).unwrap());
        broken_rounds += u64::from(!broken.is_empty());
        fs::remove_dir_all(output).unwrap();
    }
    broken_rounds
}

#[test]
fn the_journal_says_what_the_program_did() {
    let scene = Scene::new(None, None);
    let name = "power_loss::live_tests::child";
    assert!(scene.start(name, 200).wait().unwrap().success());
    let journal = Journal::open(&scene.recording.journal).unwrap();
    assert_eq!(journal.torn_bytes(), 0);
    let mut model = Model::new(&journal, None, Entries::Strict).unwrap();
    model.cut_at(journal.records()).unwrap();
    let output = scene.output("whole");
    model.materialise(&output, 0, Loss::Nothing).unwrap();
    assert_same_tree(&scene.recording.root, &output);
    assert_eq!(broken_rounds(&scene, 100), 0);
}

#[test]
fn a_killed_program_leaves_a_valid_journal() {
    let scene = Scene::new(None, None);
    let mut child = scene.start("power_loss::live_tests::child", 1_000_000);
    let mark = scene.recording.root.join("ANNOTATIONS-0");
    while fs::metadata(&mark).map_or(0, |status| status.len()) < 500 {
        assert!(child.try_wait().unwrap().is_none(), "the child ended early");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(broken_rounds(&scene, 50), 0);
}

#[test]
fn a_lying_disk_is_found_out() {
    let scene = Scene::new(None, Some("thread-1"));
    assert!(scene.start("power_loss::live_tests::child", 100).wait().unwrap().success());
    // Cuts begin after the first promise of the thread on that disk: when it gets to run is chance.
    let first = |journal: &Journal| {
        let marks = journal.marks(0..journal.records()).unwrap();
        let mark = marks.into_iter().find(|mark| mark.bytes.starts_with(b"1 "));
        mark.expect("each thread promises").record + 1
    };
    assert!(broken_rounds_from(&scene, 50, first) > 10);
}

#[test]
#[ignore = "runs only as the child of the other tests"]
fn child_that_cannot_be_recorded() {
    let Some(Task { root, .. }) = Task::find() else { return };
    std::os::unix::fs::symlink("/", root.join("link")).unwrap();
}

#[test]
fn what_cannot_be_recorded_aborts() {
    let scene = Scene::new(None, None);
    let name = "power_loss::live_tests::child_that_cannot_be_recorded";
    let status = scene.start(name, 0).wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(!scene.recording.root.join("link").exists());
}
