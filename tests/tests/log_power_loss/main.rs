//! Goal: a power loss at any step of a purge, an install of either kind, or the end of a replica
//! leaves a log that opens, and holds exactly what it held before the step under way or after it,
//! and nothing less than what was acknowledged.
//!
//! Method: this program runs itself under the preload library as one log store with a script of
//! changes ([`script`]), and marks each change once it is acknowledged. The journal is then cut at
//! every record between the first and the last change of a round, with each kind of loss, and what a
//! start finds is compared with the script's own account.

mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_log::{LogOptions, LogStore, Recovery, SyncMode};
use quorate_tests::power_loss::{Entries, Journal, Loss, Model, Recording, Shim};
use quorate_types::{ClusterId, NodeId, StoreId};
use tempfile::TempDir;

use crate::script::{ROUNDS, STEPS, Seen};

const LOSSES: [Loss; 4] = [Loss::All, Loss::Tail, Loss::Scattered, Loss::Mixed];
/// Fewer cuts would mean that the recording has failed.
const CUTS_MIN: usize = 400;
/// Set for a child whose log does not wait for the disk.
const UNSYNCED: &str = "QUORATE_POWER_UNSYNCED";

/// One family for all shards but the first. Memtables are small, so that tables are written and merged
/// on the way.
pub(crate) fn open(log: &Path) -> anyhow::Result<(LogStore, Recovery)> {
    let is_unsynced = std::env::var_os(UNSYNCED).is_some();
    let options = LogOptions {
        sync: if is_unsynced { SyncMode::UnsafeNoSync } else { SyncMode::Sync },
        families_dedicated_max: 1,
        families_pooled: 1,
        memtable_bytes: 64 << 10,
        ..LogOptions::default()
    };
    Ok(LogStore::open(log, ClusterId(1), NodeId(1), StoreId(1), options)?)
}

fn log_in(root: &Path) -> PathBuf {
    root.join("node").join("log")
}

#[test]
#[ignore = "runs only as the child of the other tests"]
fn log_under_changes() {
    if let Some(root) = std::env::var_os("QUORATE_POWER_ROOT") {
        let root = PathBuf::from(root);
        script::run_all(&log_in(&root), &root.join("ANNOTATIONS-log"));
    }
}

/// A recorded run. It is in memory if there is a file system for it: cuts are counted in records,
/// so waiting for a disk gains nothing.
struct Scene {
    directory: TempDir,
    journal: PathBuf,
}

impl Scene {
    fn record(is_unsynced: bool) -> Scene {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let directory = TempDir::new_in(parent).expect("a temporary directory");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let journal = directory.path().join("journal");
        let recording = Recording { root, journal: journal.clone(), lie: None };
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "log_under_changes", "--ignored", "--nocapture"]);
        if is_unsynced {
            command.env(UNSYNCED, "1");
        }
        Shim::build().expect("the preload library").record(&mut command, &recording);
        assert!(command.status().expect("it starts").success(), "the script has failed");
        Scene { directory, journal }
    }

    /// Cuts at every record of every round. Returns the cuts, and what is wrong after some.
    fn cut(&self) -> (usize, Vec<String>) {
        let journal = Journal::open(&self.journal).expect("a journal");
        let marks = journal.marks(0..journal.records()).expect("marks");
        assert_eq!(marks.len(), ROUNDS * STEPS, "each change is marked");
        let mut model = Model::new(&journal, None, Entries::Strict).expect("a model");
        let (mut cuts, mut faults) = (0, Vec::new());
        for round in 0..ROUNDS {
            // The first change of a round makes its replicas, which is not what this is about.
            let first = marks[round * STEPS].record + 1;
            let last = marks[(round + 1) * STEPS - 1].record + 1;
            for cut in first..=last {
                let acknowledged = marks.partition_point(|mark| mark.record < cut);
                model.cut_at(cut).expect("the journal can be replayed");
                for loss in LOSSES {
                    let after = self.directory.path().join("after");
                    model.materialise(&after, cut as u64, loss).expect("a tree");
                    if let Err(what) = check(&log_in(&after), acknowledged) {
                        faults.push(format!("cut {cut}, {loss:?}: {what}"));
                    }
                    fs::remove_dir_all(&after).expect("removed");
                    cuts += 1;
                }
            }
        }
        println!("{cuts} cuts, {} faults, over {} records", faults.len(), journal.records());
        (cuts, faults)
    }
}

/// Opens the log and compares it with the script after `acknowledged` changes, and after the one
/// that was under way then.
fn check(log: &Path, acknowledged: usize) -> Result<(), String> {
    let (log, recovery) = open(log).map_err(|error| format!("it does not open: {error}"))?;
    let found = Seen::all(&log, &recovery);
    let before = script::expected(acknowledged);
    let after = script::expected(acknowledged + 1);
    if found == before || found == after {
        return Ok(());
    }
    let differing = found.iter().filter(|(shard, seen)| before.get(shard) != Some(seen));
    Err(format!("after {acknowledged} changes: {:?}", differing.collect::<Vec<_>>()))
}

#[test]
fn every_cut_of_a_change_leaves_it_whole_or_undone() {
    let (cuts, faults) = Scene::record(false).cut();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(cuts >= CUTS_MIN, "{cuts} cuts");
}

/// Goal: the test above can fail. Method: the same with a log that acknowledges before it syncs.
#[test]
fn a_log_that_does_not_sync_is_found_out() {
    let (cuts, faults) = Scene::record(true).cut();
    println!("the first: {:?}", faults.first());
    assert!(faults.len() > cuts / 8, "{} of {cuts}", faults.len());
}
