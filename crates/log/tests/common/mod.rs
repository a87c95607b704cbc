//! Code that the tests of the store share: a directory, and short functions for writes.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::path::PathBuf;

use quorate_log::{
    EndReason, LogFault, LogOpenError, LogOptions, LogStore, NewReplica, RecoveredReplica,
    Recovery, ReplicaEnd, ShardPurge, ShardWrite, SyncMode, TurnWrite,
};
use quorate_raft::{EntryKind, HardState, Install, Member, Membership, Run, RunDraft, Write};
use quorate_types::{
    ClusterId, Index, LogId, NodeId, ReplicaId, ShardId, SpaceId, StoreId, Term, WriteNumber,
};
use tempfile::TempDir;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const NODE: NodeId = NodeId(3);
pub(crate) const STORE: StoreId = StoreId(0x51);
/// The first replica of every shard.
pub(crate) const REPLICA: ReplicaId = ReplicaId(100);

/// A directory that outlives the stores opened in it.
pub(crate) struct Disk {
    root: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk { root: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("node").join("log")
    }

    pub(crate) fn try_open(
        &self,
        options: LogOptions,
    ) -> Result<(LogStore, Recovery), LogOpenError> {
        LogStore::open(&self.dir(), CLUSTER, NODE, STORE, options)
    }

    pub(crate) fn open(&self) -> (LogStore, Recovery) {
        self.try_open(options()).expect("the directory opens")
    }

    /// Files of the directory with this ending, oldest first.
    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir()).expect("a directory");
        let paths = files.map(|file| file.expect("a file").path());
        let mut paths: Vec<PathBuf> =
            paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
        paths.sort();
        paths
    }
}

/// The tests crash processes, not machines, so they need no sync to be exact.
pub(crate) fn options() -> LogOptions {
    LogOptions { sync: SyncMode::UnsafeNoSync, ..LogOptions::default() }
}

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

pub(crate) fn membership(nodes: u64) -> Membership {
    Membership::of_voters((1..=nodes).map(|n| Member { replica: ReplicaId(n), node: NodeId(n) }))
}

/// A replica whose log begins behind 1/10.
pub(crate) fn replica(shard: u64) -> NewReplica {
    NewReplica {
        shard: ShardId(shard),
        replica: REPLICA,
        space: SpaceId(shard + 1),
        base: id(1, 10),
        base_membership: membership(3),
        hard_state: HardState { term: Term(5), vote: Some(ReplicaId(2)), committed: Index(10) },
    }
}

/// A run of `count` commands that name their term and index.
pub(crate) fn run(term: u64, first: u64, count: u64) -> Run {
    let mut draft = RunDraft::new();
    for index in first..first + count {
        draft.push(EntryKind::Command, &[format!("{term}/{index}").as_bytes()]);
    }
    draft.seal(Term(term), Index(first))
}

pub(crate) fn write(shard: u64, truncate_from: Option<u64>, runs: Vec<Run>) -> ShardWrite {
    let truncate_from = truncate_from.map(Index);
    let write =
        Write { number: WriteNumber(1), install: None, hard_state: None, truncate_from, runs };
    ShardWrite { shard: ShardId(shard), replica: REPLICA, write, space: None }
}

pub(crate) fn append(shard: u64, run: Run) -> ShardWrite {
    write(shard, None, vec![run])
}

/// The same, restarted by a snapshot at `base` whose state is in `space`.
pub(crate) fn installing(
    write: ShardWrite,
    base: LogId,
    space: SpaceId,
    keeps_log: bool,
) -> ShardWrite {
    let install = Some(Install { base, membership: membership(5), keeps_log });
    ShardWrite { write: Write { install, ..write.write }, space: Some(space), ..write }
}

pub(crate) fn purging(shard: u64, base: LogId) -> ShardPurge {
    let base_membership = membership(3);
    ShardPurge { shard: ShardId(shard), replica: REPLICA, base, base_membership }
}

pub(crate) fn ending(shard: u64, why: EndReason) -> ReplicaEnd {
    ReplicaEnd { shard: ShardId(shard), replica: REPLICA, why }
}

/// Writes these as one turn.
pub(crate) fn put(log: &LogStore, writes: &[ShardWrite]) -> Result<(), LogFault> {
    log.write(&[TurnWrite { writes: writes.to_vec(), ..TurnWrite::default() }])
}

pub(crate) fn purge(log: &LogStore, shard: u64, base: LogId) -> Result<(), LogFault> {
    log.write(&[TurnWrite { purges: vec![purging(shard, base)], ..TurnWrite::default() }])
}

pub(crate) fn end(log: &LogStore, shard: u64, why: EndReason) -> Result<(), LogFault> {
    log.write(&[TurnWrite { ends: vec![ending(shard, why)], ..TurnWrite::default() }])
}

/// Every entry of `[first, end)` as term and index, read back and compared with its payload.
pub(crate) fn entries(log: &LogStore, shard: u64, first: u64, end: u64) -> Vec<(u64, u64)> {
    let runs = log.read(ShardId(shard), Index(first)..Index(end), usize::MAX).expect("readable");
    let mut found = Vec::new();
    for entry in runs.iter().flat_map(Run::entries) {
        let (term, index) = (entry.id.term.0, entry.id.index.0);
        assert_eq!(entry.payload, format!("{term}/{index}").as_bytes());
        found.push((term, index));
    }
    found
}

pub(crate) fn recovered(recovery: &Recovery, shard: u64) -> &RecoveredReplica {
    let mut replicas = recovery.replicas.iter();
    replicas.find(|replica| replica.shard == ShardId(shard)).expect("a replica of the shard")
}
