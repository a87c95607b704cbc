//! Goal: when the power fails at any step of the arrival and the install of a snapshot, of a purge
//! or of a flush of data, of all nodes at once, of the receiver's or of a sender's alone, every node
//! opens again, nothing that was acknowledged is lost, and the replicas come to hold the same.
//!
//! Method: this program runs itself under the preload library as three nodes in one process that
//! keep hardly any log ([`load`]): one of them is away until it needs a snapshot, again and again,
//! while clients write. The journal is cut behind records that touch a disk in one of the ways that
//! [`Kind`] lists, and at each cut the nodes are started and compared with what was acknowledged
//! ([`check`]).
//!
//! `QUORATE_SNAPSHOT_CUTS` sets the number of cuts.

mod check;
mod load;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use quorate_tests::power_loss::{Entries, Journal, Loss, Model, Recording, Shim};
use quorate_types::SplitMix64;
use tempfile::TempDir;

use crate::check::Acknowledged;
use crate::load::{LANES, RECEIVER, ROUNDS};

/// Number of cuts unless the environment sets it; chosen for a CI of two cores.
const CUTS: usize = 160;
/// Clusters that are started at once: a start waits for an election most of the time.
const CHECKS_AT_ONCE: usize = 6;
/// Records of the receiver's log after an arrival that belong to the install.
const INSTALL_RECORDS: usize = 24;
const LOSSES: [Loss; 4] = [Loss::All, Loss::Tail, Loss::Scattered, Loss::Mixed];
/// RocksDB refuses a manifest with a hole, which is not what this is about.
const MANIFEST: &str = "MANIFEST";

/// What a record touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The receiver's tables of a snapshot, before they are in the store.
    Arriving,
    /// The manifest of a data store: an ingest, a flush, a compaction.
    DataManifest,
    /// Anything else of a data store: tables that are written, moved in, deleted.
    Data,
    /// The receiver's log just after a snapshot has arrived, which becomes its base.
    Install,
    /// The log at any other time: turns, with purges.
    Log,
}

impl Kind {
    const ALL: [Kind; 5] =
        [Kind::Arriving, Kind::DataManifest, Kind::Data, Kind::Install, Kind::Log];

    /// Of a path below a node's directory; none for what RocksDB tells people.
    fn of(path: &str) -> Option<Kind> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let (is_data, is_log) = (path.starts_with("data"), path.starts_with("log"));
        match name {
            _ if name.starts_with("LOG") => None,
            _ if path.starts_with("data/incoming") => Some(Kind::Arriving),
            _ if is_data && name.starts_with(MANIFEST) => Some(Kind::DataManifest),
            _ if is_data => Some(Kind::Data),
            _ if is_log => Some(Kind::Log),
            _ => None,
        }
    }
}

/// Whose disks lose power. The other nodes' processes end, and keep what they have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    All,
    Only(u64),
}

/// One power loss.
#[derive(Clone, Debug)]
struct Cut {
    /// The number of records before it.
    record: usize,
    kind: Kind,
    /// The node whose disk the last of them touches.
    node: u64,
    victims: Victims,
    loss: Loss,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { record, kind, node, victims, loss } = self;
        write!(f, "cut at record {record}, {kind:?} of node {node}, {victims:?} lose {loss:?}")
    }
}

#[test]
#[ignore = "runs only as the child of the other test"]
fn nodes_with_snapshots() {
    if let Some(root) = std::env::var_os("QUORATE_POWER_ROOT") {
        load::run(&PathBuf::from(root));
    }
}

/// A recorded run. It is in memory if there is a file system for it: cuts are counted in records,
/// so waiting for a disk gains nothing.
struct Scene {
    directory: TempDir,
    journal: PathBuf,
}

impl Scene {
    fn record() -> Scene {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let directory = TempDir::new_in(parent).expect("a temporary directory");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("a directory");
        let journal = directory.path().join("journal");
        let recording = Recording { root, journal: journal.clone(), lie: None };
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "nodes_with_snapshots", "--ignored", "--nocapture"]);
        Shim::build().expect("the preload library").record(&mut command, &recording);
        assert!(command.status().expect("it starts").success(), "the nodes have failed");
        Scene { directory, journal }
    }

    /// What the nodes find after `cut`, in a new directory.
    fn materialise(&self, model: &mut Model<'_>, cut: &Cut, number: usize) -> PathBuf {
        let after = self.directory.path().join(format!("after-{number}"));
        let seed = number as u64;
        model.cut_at(cut.record).expect("the journal can be replayed");
        model.materialise(&after, seed, cut.loss).expect("a tree");
        if let Victims::Only(victim) = cut.victims {
            let whole = self.directory.path().join("whole");
            model.materialise(&whole, seed, Loss::Nothing).expect("a tree");
            for node in (1..=3).filter(|node| *node != victim) {
                let name = format!("node-{node}");
                fs::remove_dir_all(after.join(&name)).expect("removed");
                fs::rename(whole.join(&name), after.join(&name)).expect("moved");
            }
            fs::remove_dir_all(&whole).expect("removed");
        }
        after
    }
}

/// The records of each round, from when the receiver is back until it follows again.
fn rounds(journal: &Journal) -> Vec<Range<usize>> {
    let marks = journal.marks(0..journal.records()).expect("marks");
    let at = |wanted: String| {
        let mark = marks.iter().find(|mark| mark.bytes == wanted.as_bytes());
        mark.unwrap_or_else(|| panic!("no mark {wanted:?}")).record
    };
    (0..ROUNDS).map(|round| at(format!("back {round}\n"))..at(format!("done {round}\n"))).collect()
}

/// So many cuts: of each kind and of receiver and others equally many, if there are so many records.
fn choose(journal: &Journal, count: usize) -> Vec<Cut> {
    let mut places: BTreeMap<(bool, Kind), Vec<(usize, u64)>> = BTreeMap::new();
    let paths = journal.paths().expect("the journal can be read");
    let mut since_arrival = INSTALL_RECORDS;
    for record in rounds(journal).into_iter().flatten() {
        let Some(path) = &paths[record] else { continue };
        let path = std::str::from_utf8(path).expect("RocksDB's names are text");
        let Some((node, path)) = path.strip_prefix("node-").and_then(|it| it.split_once('/'))
        else {
            continue;
        };
        let node = node.parse().expect("a number");
        let Some(mut kind) = Kind::of(path) else { continue };
        let is_receiver = node == RECEIVER.0;
        match kind {
            Kind::Arriving => since_arrival = 0,
            Kind::Log if is_receiver && since_arrival < INSTALL_RECORDS => {
                since_arrival += 1;
                kind = Kind::Install;
            }
            _ => {}
        }
        places.entry((is_receiver, kind)).or_default().push((record + 1, node));
    }
    let mut random = SplitMix64::new(count as u64);
    let mut cuts = Vec::new();
    let mut left = count;
    // The rarest kinds first: what they lack is given to the others.
    let mut kinds: Vec<_> = places.into_iter().collect();
    kinds.sort_by_key(|(_, places)| places.len());
    let kinds_count = kinds.len();
    for (done, ((is_receiver, kind), mut places)) in kinds.into_iter().enumerate() {
        let share = left / (kinds_count - done);
        println!("{kind:?}, receiver {is_receiver}: {} records", places.len());
        while places.len() > share {
            places.swap_remove(random.below(places.len() as u64) as usize);
        }
        left -= places.len();
        for (record, node) in places {
            let victims = if random.below(2) == 0 { Victims::All } else { Victims::Only(node) };
            let loss = LOSSES[random.below(LOSSES.len() as u64) as usize];
            cuts.push(Cut { record, kind, node, victims, loss });
        }
    }
    cuts.sort_by_key(|cut| cut.record);
    cuts
}

/// How many writes of each lane were acknowledged before a cut.
fn acknowledged(journal: &Journal, cut: usize) -> Acknowledged {
    let mut acknowledged = [0; LANES as usize];
    let marks = journal.marks_until(cut).expect("marks");
    for line in std::str::from_utf8(&marks).expect("marks are text").lines() {
        let Some(put) = line.strip_prefix("put ") else { continue };
        let (lane, number) = put.split_once(' ').expect("two numbers");
        let (lane, number): (usize, u64) =
            (lane.parse().expect("a number"), number.parse().expect("a number"));
        assert_eq!(acknowledged[lane], number, "a lane writes in turn");
        acknowledged[lane] = number + 1;
    }
    acknowledged
}

/// Checks trees until there are no more.
fn check_all(trees: &Mutex<Receiver<(Cut, PathBuf, Acknowledged)>>, faults: &Mutex<Vec<String>>) {
    loop {
        let next = trees.lock().expect("no check panics").recv();
        let Ok((cut, tree, acknowledged)) = next else { return };
        if let Err(what) = check::check(&tree, &acknowledged) {
            println!("{cut}: {what}");
            faults.lock().expect("no check panics").push(format!("{cut}: {what}"));
        }
        fs::remove_dir_all(&tree).expect("removed");
    }
}

#[test]
fn a_power_loss_at_any_step_of_a_snapshot_or_purge_loses_nothing() {
    let count = std::env::var("QUORATE_SNAPSHOT_CUTS");
    let count = count.map_or(CUTS, |count| count.parse().expect("a number of cuts"));
    let scene = Scene::record();
    let journal = Journal::open(&scene.journal).expect("a journal");
    let cuts = choose(&journal, count);
    let model = Model::new(&journal, None, Entries::Strict).expect("a model");
    let mut model = model.with_whole_writes_in(MANIFEST);
    let faults = Mutex::new(Vec::new());
    let (sender, receiver) = sync_channel(CHECKS_AT_ONCE);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..CHECKS_AT_ONCE {
            scope.spawn(|| check_all(&receiver, &faults));
        }
        for (number, cut) in cuts.iter().enumerate() {
            let tree = scene.materialise(&mut model, cut, number);
            let acknowledged = acknowledged(&journal, cut.record);
            sender.send((cut.clone(), tree, acknowledged)).expect("somebody checks");
        }
        drop(sender);
    });
    let faults = faults.into_inner().expect("no check panics");
    for kind in Kind::ALL {
        let of = |is_receiver: bool| {
            let is_of = |cut: &&Cut| cut.kind == kind && (cut.node == RECEIVER.0) == is_receiver;
            cuts.iter().filter(is_of).count()
        };
        println!("{kind:?}: {} cuts of the receiver, {} of the others", of(true), of(false));
        assert!(of(true) > 0, "{kind:?}: none of the receiver");
    }
    println!("{} cuts over {} records, {} faults", cuts.len(), journal.records(), faults.len());
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(cuts.len() >= count * 9 / 10, "{} cuts", cuts.len());
}
