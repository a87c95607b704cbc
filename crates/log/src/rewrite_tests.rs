//! Goal: a damaged table of the log costs the replicas of which it holds something, by name and for
//! good, and no other; and it is gone after the next start. Method: three shards, two of them in one
//! family; a byte of a table is flipped on disk.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate_raft::{EntryKind, HardState, Member, Membership, Run, RunDraft, Write};
use quorate_types::{
    ClusterId, Index, LogId, NodeId, ReplicaId, SpaceId, StoreId, Term, WriteNumber,
};
use rocksdb::{BottommostLevelCompaction, CompactOptions};
use tempfile::TempDir;

use super::*;
use crate::damage_mark::DamageMark;
use crate::error::{LogFault, LogReadError};
use crate::recovery::Recovery;
use crate::replicas::NewReplica;
use crate::settings::Merging;
use crate::start::{Owner, Start};
use crate::store::LogStore;
use crate::turn::{EndReason, ReplicaEnd, ShardWrite, TurnWrite};
use crate::{SyncMode, settings::Db};

const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(1), fresh_store: StoreId(9) };
const MEMBER: Member = Member { replica: ReplicaId(1), node: NodeId(1) };
/// In a family of its own; the other two share one.
const ALONE: ShardId = ShardId(1);
const FIRST: ShardId = ShardId(2);
const SECOND: ShardId = ShardId(3);
const SHARDS: [ShardId; 3] = [ALONE, FIRST, SECOND];
/// Runs of each log, of one entry; a few blocks of a table.
const RUNS: u64 = 40;
const RUN_BYTES: usize = 8 << 10;
/// A log begins behind this index.
const BASE: u64 = 10;

/// The tests crash processes, not machines.
fn options() -> LogOptions {
    LogOptions {
        sync: SyncMode::UnsafeNoSync,
        families_dedicated_max: 1,
        families_pooled: 1,
        ..LogOptions::default()
    }
}

fn open(dir: &Path) -> (LogStore, Recovery) {
    try_open(dir).expect("the directory opens")
}

fn try_open(dir: &Path) -> Result<(LogStore, Recovery), LogOpenError> {
    let Owner { cluster, node, fresh_store } = OWNER;
    LogStore::open(dir, cluster, node, fresh_store, options())
}

/// An entry that no codec can compress, so that the middle of a table is the middle of an entry.
fn entry(shard: ShardId, index: u64) -> Vec<u8> {
    let mut state = shard.0 << 32 | index;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..RUN_BYTES).map(step).collect()
}

fn append(log: &LogStore, shard: ShardId, indexes: std::ops::Range<u64>) {
    let run = |index| {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Command, &[&entry(shard, index)]);
        draft.seal(Term(1), Index(index))
    };
    let write = Write {
        number: WriteNumber(1),
        install: None,
        hard_state: None,
        truncate_from: None,
        runs: indexes.map(run).collect(),
    };
    let write = ShardWrite { shard, replica: MEMBER.replica, write, space: None };
    log.write(&[TurnWrite { writes: vec![write], ..TurnWrite::default() }]).expect("written");
}

/// Three shards whose logs are in tables, closed.
fn three_shards() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let dir = root.path().join("log");
    let (log, _) = open(&dir);
    let new = |shard: ShardId| NewReplica {
        shard,
        replica: MEMBER.replica,
        space: SpaceId(shard.0),
        base: LogId::new(Term(1), Index(BASE)),
        base_membership: Membership::of_voters([MEMBER]),
        hard_state: HardState { term: Term(1), vote: None, committed: Index(BASE) },
    };
    log.create_replicas(&SHARDS.map(new)).expect("new");
    SHARDS.iter().for_each(|shard| append(&log, *shard, BASE + 1..BASE + 1 + RUNS));
    drop(log);
    // A start writes what it replays into tables.
    drop(open(&dir));
    (root, dir)
}

/// A copy of a directory without directories in it.
fn copy_of(dir: &Path) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let copy = root.path().join("log");
    fs::create_dir(&copy).expect("made");
    for file in fs::read_dir(dir).expect("listed") {
        let from = file.expect("a file").path();
        fs::copy(&from, copy.join(from.file_name().expect("a name"))).expect("copied");
    }
    (root, copy)
}

/// Opens the closed directory behind the store's back.
fn look<T>(dir: &Path, at: impl FnOnce(&Db) -> T) -> T {
    let names = Db::list_cf(&rocksdb::Options::default(), dir).expect("families");
    at(&Db::open_cf(&rocksdb::Options::default(), dir, names).expect("opens"))
}

fn families(dir: &Path) -> Vec<String> {
    let mut names = Db::list_cf(&rocksdb::Options::default(), dir).expect("families");
    names.sort();
    names
}

/// The largest table of a family.
fn table_of(db: &Db, dir: &Path, family: &str) -> PathBuf {
    let files = db.live_files().expect("listed").into_iter();
    let tables = files.filter(|file| file.column_family_name == family);
    let largest = tables.max_by_key(|file| file.size).expect("its logs are in tables");
    dir.join(largest.name.trim_start_matches('/'))
}

/// Flips a byte at `part` of 256 of a file that may be open.
fn flip(path: &Path, part: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("there");
    let at = file.metadata().expect("there").len() * part / 256;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x20], at).expect("written");
}

/// The shared family begins with the log of [`FIRST`].
const OF_FIRST: u64 = 64;

fn assert_whole(log: &LogStore, shard: ShardId, runs: u64) {
    let first = BASE + 1;
    let read = log.read(shard, Index(first)..Index(first + runs), usize::MAX).expect("readable");
    let entries: Vec<_> = read.iter().flat_map(Run::entries).collect();
    assert_eq!(entries.len() as u64, runs);
    for found in entries {
        assert_eq!(found.payload, entry(shard, found.id.index.0), "{shard:?} {:?}", found.id);
    }
}

fn damage_of(recovery: &Recovery, shard: ShardId) -> Option<&str> {
    let replica = recovery.replicas.iter().find(|replica| replica.shard == shard);
    replica.expect("it is known").damaged.as_deref()
}

fn noted(dir: &Path) -> Option<String> {
    DamageMark::of(dir).read().expect("readable")
}

/// Asserts that `FIRST` is given up with `words`, that the others are whole and take more, and that
/// nothing in the directory is damaged any more, however often it is opened and merged.
fn assert_costs_first_only(dir: &Path, words: &str) {
    for round in 0..2 {
        let (log, recovery) = open(dir);
        let what = damage_of(&recovery, FIRST).expect("damaged");
        assert!(what.contains(words), "{what}");
        let refused = log.read(FIRST, Index(BASE + 1)..Index(BASE + 2), 1);
        assert_eq!(refused, Err(LogReadError::Unknown { shard: FIRST }));
        for shard in [ALONE, SECOND] {
            assert_eq!(damage_of(&recovery, shard), None);
            assert_whole(&log, shard, RUNS + round);
            append(&log, shard, BASE + 1 + RUNS + round..BASE + 2 + RUNS + round);
        }
        assert_eq!(noted(dir), None, "nothing is left to do");
        merge_everything(&log, dir);
        assert_eq!(log.fault(), None);
    }
    look(dir, |db| db.verify_checksum().expect("no damaged table is left"));
}

/// Reads and writes every table, also those that RocksDB would move as they are.
fn merge_everything(log: &LogStore, dir: &Path) {
    let mut every = CompactOptions::default();
    every.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    for name in families(dir) {
        let family = log.family(&name);
        log.db().compact_range_cf_opt(&family, None::<&[u8]>, None::<&[u8]>, &every);
    }
}

#[test]
fn a_damaged_table_goes_with_its_replica_only() {
    let (_root, dir) = three_shards();
    assert_eq!(families(&dir), ["default", "p0", "s1"]);
    flip(&look(&dir, |db| table_of(db, &dir, "p0")), OF_FIRST);
    assert_costs_first_only(&dir, "block checksum mismatch");
    assert_eq!(families(&dir), ["default", "p1", "s1"], "the other family is left alone");
}

/// Goal: the same if a merge meets the damage first: that ends the store once, and says what to do.
#[test]
fn a_merge_that_meets_a_damaged_table_ends_the_store_once() {
    let (_root, dir) = three_shards();
    let (log, _) = open(&dir);
    flip(&table_of(log.db(), &dir, "p0"), OF_FIRST);
    merge_everything(&log, &dir);
    let fault = log.fault().expect("the merge fails");
    assert!(matches!(fault, LogFault::DamagedTable { .. }), "{fault}");
    assert!(fault.to_string().contains("start the node again"), "{fault}");
    let found = noted(&dir).expect("the next start is told");
    assert!(found.contains(".sst"), "{found}");
    drop(log);
    assert_costs_first_only(&dir, "block checksum mismatch");
}

/// Goal: a replica that a read has ended leaves no damaged table to be merged by later starts.
#[test]
fn a_read_that_meets_a_damaged_table_tells_the_next_start() {
    let (_root, dir) = three_shards();
    let (log, _) = open(&dir);
    flip(&table_of(log.db(), &dir, "p0"), OF_FIRST);
    let read = log.read(FIRST, Index(BASE + 1)..Index(BASE + RUNS), usize::MAX);
    let Err(LogReadError::Damaged { detail, .. }) = read else { panic!("{read:?}") };
    let why = EndReason::Damaged(format!("a read says: {detail}"));
    let end = ReplicaEnd { shard: FIRST, replica: MEMBER.replica, why };
    log.write(&[TurnWrite { ends: vec![end], ..TurnWrite::default() }]).expect("ended");
    assert_eq!(noted(&dir), Some(format!("{detail}\n")));
    drop(log);
    assert_costs_first_only(&dir, "a read says");
}

/// Goal: a crash at any step of a rewrite, and at every step of the ones after it, changes nothing of
/// what comes of it. Method: a rewrite that ends at each of its steps; the same copy is then cut
/// short again at the same step, and at last left alone.
#[test]
fn a_rewrite_can_be_cut_short_at_every_step() {
    let (_root, sound) = three_shards();
    let table = look(&sound, |db| table_of(db, &sound, "p0"));
    flip(&table, OF_FIRST);
    let name = table.file_name().expect("a name").to_string_lossy().into_owned();
    let mut seen = Vec::new();
    for cut_at in 0.. {
        let (_root, dir) = copy_of(&sound);
        let mut steps = 0;
        for _ in 0..2 {
            DamageMark::of(&dir).note(&name);
            let start = Start::open(&dir, &OWNER, &options(), Merging::Off).expect("opens");
            steps = 0;
            let Start { opened, recovered, .. } = &start;
            let rewriting = Rewriting { dir: &dir, opened, recovered, options: &options() };
            let cut = rewrite(&rewriting, &name, &mut |step| {
                steps += 1;
                if steps > cut_at {
                    if !seen.contains(&step) {
                        seen.push(step);
                    }
                    let detail = format!("cut before {step:?}");
                    return Err(LogOpenError::Storage { dir: dir.clone(), detail });
                }
                Ok(())
            });
            assert_eq!(cut.is_ok(), steps <= cut_at, "{cut:?}");
        }
        assert_costs_first_only(&dir, "block checksum mismatch");
        if steps <= cut_at {
            break;
        }
    }
    let all = [Step::DropUnused, Step::Create, Step::Copy, Step::Place, Step::Drop];
    assert!(all.iter().all(|step| seen.contains(step)), "{seen:?}");
}

/// Goal: a damaged table that holds nothing of a living log is gone, too, and costs no replica. Method:
/// notes about a family whose logs can be read, about a table that is not there, and without a text.
#[test]
fn sound_logs_leave_a_damaged_table_whole() {
    let (_root, sound) = three_shards();
    let table = look(&sound, |db| table_of(db, &sound, "s1"));
    let name = table.file_name().expect("a name").to_string_lossy().into_owned();
    for (note, left) in [
        (&*name, ["default", "p0", "p1"]),
        ("999999.sst", ["default", "p1", "p2"]),
        ("words alone", ["default", "p1", "p2"]),
        ("", ["default", "p1", "p2"]),
    ] {
        let (_root, dir) = copy_of(&sound);
        match note {
            "" => fs::write(dir.join("DAMAGED"), "").expect("a note that has lost its text"),
            note => DamageMark::of(&dir).note(note),
        }
        for _ in 0..2 {
            let (log, recovery) = open(&dir);
            for shard in SHARDS {
                assert_eq!(damage_of(&recovery, shard), None);
                assert_whole(&log, shard, RUNS);
            }
            assert_eq!(noted(&dir), None);
        }
        assert_eq!(families(&dir), left, "{note:?}");
    }
}

/// Goal: nobody can tell what a damaged table of records has lost, so the directory is refused, by
/// every start.
#[test]
fn a_damaged_table_of_records_refuses_the_directory() {
    let (_root, dir) = three_shards();
    let (_copy_root, noted_only) = copy_of(&dir);
    let table = look(&noted_only, |db| table_of(db, &noted_only, "default"));
    DamageMark::of(&noted_only).note(&table.display().to_string());
    flip(&look(&dir, |db| table_of(db, &dir, "default")), 64);
    for dir in [dir, noted_only] {
        for _ in 0..2 {
            let refused = try_open(&dir).map(|_| ()).expect_err("refused");
            assert!(matches!(refused, LogOpenError::Damaged { .. }), "{refused}");
        }
    }
}

#[test]
fn the_tables_that_a_text_names() {
    for (text, numbers) in [
        ("Corruption: block checksum mismatch in /a/b/000012.sst offset 3 size 4", &[12][..]),
        ("/000007.sst", &[7]),
        ("1.sst 2.sst,/x/000003.sst", &[1, 2, 3]),
        (".sst a.sst 12 sst", &[]),
        ("99999999999999999999999.sst", &[]),
    ] {
        assert_eq!(tables_in(text), numbers.iter().copied().collect(), "{text}");
    }
}

/// Goal: nothing is begun that would fill the disk, and the refusal has both figures.
#[test]
fn a_rewrite_without_room_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    check_room(dir.path(), 1).expect("a byte is free");
    let refused = check_room(dir.path(), 1 << 60).expect_err("an exbibyte").to_string();
    assert!(refused.contains("takes 1099511627776 MiB"), "{refused}");
}
