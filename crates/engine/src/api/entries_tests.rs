//! Goal: a subscription returns exactly the committed entries for any batches, reports what a purge
//! removed, and ends with the engine. Method: a real log store; the test publishes positions.

use std::path::Path;

use quorate_log::{LogOptions, NewReplica, ShardPurge, ShardWrite, TurnWrite};
use quorate_raft::{HardState, Membership, RunDraft, Write};
use quorate_router::ShardDescriptor;
use quorate_types::{
    ClusterId, Epoch, NodeId, ReplicaId, SpaceId, StoreId, Term, WriteNumber, limits,
};

use super::*;
use crate::state::fatal::Fatal;
use crate::state::shards::LocalShard;
use crate::state::shutdown::Shutdown;

const SHARD: ShardId = ShardId(1);
const BASE: LogId = LogId::new(Term(1), Index(1));

struct Fixture {
    log: Arc<LogStore>,
    state: Arc<LocalShard>,
    shutdown: Arc<Shutdown>,
    writes: u64,
}

fn open(directory: &Path) -> Fixture {
    let options = LogOptions::default();
    let (log, _) = LogStore::open(directory, ClusterId(1), NodeId(1), StoreId(1), options)
        .expect("a new directory");
    let replica = NewReplica {
        shard: SHARD,
        replica: ReplicaId(1),
        space: SpaceId(1),
        base: BASE,
        base_membership: Membership::default(),
        hard_state: HardState::default(),
    };
    log.create_replicas(&[replica]).expect("an empty log");
    let descriptor = ShardDescriptor {
        shard: SHARD,
        start: Bytes::new(),
        end: None,
        epoch: Epoch { membership: 1, version: 1 },
        members: Vec::new(),
    };
    let state = LocalShard::new(descriptor, ReplicaId(1), SpaceId(1), 0, BASE.index);
    let shutdown = Arc::new(Shutdown::new(Arc::new(Fatal::default())));
    Fixture { log: Arc::new(log), state: Arc::new(state), shutdown, writes: 0 }
}

fn entry(id: LogId) -> CommittedEntry {
    let kind = match id.index.0 % 5 {
        0 => CommittedKind::Blank,
        1 => CommittedKind::Membership,
        _ => CommittedKind::Command {
            command: id.to_string().into(),
            time: WallMillis(id.index.0 * 10),
            descriptor_version: id.term.0,
        },
    };
    CommittedEntry { id, kind }
}

impl Fixture {
    /// Appends one run of `count` entries, each padded to `padding` bytes more.
    fn append(&mut self, term: u64, first: u64, count: u64, padding: usize) {
        let mut draft = RunDraft::new();
        for index in first..first + count {
            match entry(LogId::new(Term(term), Index(index))).kind {
                CommittedKind::Blank => draft.push(EntryKind::Blank, &[&vec![0; padding]]),
                CommittedKind::Membership => {
                    draft.push(EntryKind::Membership, &[&Membership::default().encode()]);
                }
                CommittedKind::Command { command, time, descriptor_version } => {
                    let envelope =
                        Envelope { descriptor_version, leader_time: time, session: None };
                    draft.push(EntryKind::Command, &[&envelope.encode(), &command]);
                }
            }
        }
        self.append_run(draft.seal(Term(term), Index(first)));
    }

    fn append_run(&mut self, run: Run) {
        self.writes += 1;
        let write = Write {
            number: WriteNumber(self.writes),
            install: None,
            hard_state: None,
            truncate_from: None,
            runs: vec![run],
        };
        let write = ShardWrite { shard: SHARD, replica: ReplicaId(1), write, space: None };
        let turn = TurnWrite { writes: vec![write], ..TurnWrite::default() };
        self.log.write(&[turn]).expect("a healthy disk");
    }

    fn from(&self, index: u64) -> CommittedEntries {
        let position = PositionWatch::new(Arc::clone(&self.state), Arc::clone(&self.shutdown));
        CommittedEntries::new(SHARD, Index(index), position, Arc::downgrade(&self.log))
    }
}

/// True if nothing is held and the next entry waits to be committed.
async fn waits(entries: &CommittedEntries) -> bool {
    let empty = entries.entries.is_empty() && entries.runs.is_empty();
    tokio::select! {
        biased;
        // It reads only memory, so one poll tells.
        _ = entries.position.wait_committed(entries.next) => false,
        () = std::future::ready(()) => empty,
    }
}

#[tokio::test]
async fn exactly_the_committed_entries_come() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut shard = open(directory.path());
    let (mut early, mut late) = (shard.from(2), shard.from(15));
    assert!(waits(&early).await, "nothing is committed");
    // Several batches: the blank entries fill each of them.
    let padding = BATCH_BYTES_MAX / 2;
    shard.append(1, 2, 9, padding);
    shard.append(3, 11, 20, padding);
    assert!(waits(&early).await, "durable is not committed");
    shard.state.position.publish_commit(Index(17));
    let id = |index: u64| LogId::new(Term(if index < 11 { 1 } else { 3 }), Index(index));
    for index in 2..=17 {
        assert_eq!(early.next().await, Ok(entry(id(index))));
        let (runs, found) = (&early.runs, early.entries.len());
        let held: usize = runs.iter().map(Run::len_bytes).sum();
        assert!(held <= BATCH_BYTES_MAX + limits::RUN_BYTES_MAX, "{held} bytes, {found} entries");
    }
    assert!(waits(&early).await, "the rest of the run is not committed");
    assert_eq!(late.next().await, Ok(entry(id(15))));
    // The waiting reader is woken by the publication.
    let reader = tokio::spawn(async move { (early.next().await, early) });
    shard.state.position.publish_commit(Index(30));
    let (found, mut early) = reader.await.expect("no panic");
    assert_eq!(found, Ok(entry(id(18))));
    for index in 19..=30 {
        assert_eq!(early.next().await, Ok(entry(id(index))));
    }
}

#[tokio::test]
async fn what_a_purge_took_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut shard = open(directory.path());
    let purged = |wanted, first_available| {
        let (wanted, first_available) = (Index(wanted), Index(first_available));
        Err(EntriesError::Purged { shard: SHARD, wanted, first_available })
    };
    assert_eq!(shard.from(0).next().await, purged(0, 2), "an empty log, all of its base");
    for first in (2..62).step_by(3) {
        shard.append(1, first, 3, 0);
    }
    shard.state.position.publish_commit(Index(61));
    assert_eq!(shard.from(1).next().await, purged(1, 2));
    let purge = ShardPurge {
        shard: SHARD,
        replica: ReplicaId(1),
        base: LogId::new(Term(1), Index(31)),
        base_membership: Membership::default(),
    };
    let turn = TurnWrite { purges: vec![purge], ..TurnWrite::default() };
    shard.log.write(&[turn]).expect("a healthy disk");
    for wanted in [0, 1, 2, 17, 31] {
        assert_eq!(shard.from(wanted).next().await, purged(wanted, 32));
    }
    let first = entry(LogId::new(Term(1), Index(32)));
    assert_eq!(shard.from(32).next().await, Ok(first));
}

#[tokio::test]
async fn the_end_of_the_engine_ends_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut shard = open(directory.path());
    shard.append(1, 2, 3, 0);
    shard.state.position.publish_commit(Index(3));
    let mut entries = shard.from(2);
    let mut ahead = shard.from(99);
    assert!(waits(&ahead).await);
    let waiting = tokio::spawn(async move { ahead.next().await });
    assert!(entries.next().await.is_ok());
    let shutdown = Arc::clone(&shard.shutdown);
    drop(shard);
    shutdown.begin();
    let stopped = Err(EntriesError::Refused(shutdown.refusal()));
    assert_eq!(waiting.await.expect("no panic"), stopped);
    assert!(entries.next().await.is_ok(), "what is held is still given");
    assert_eq!(entries.next().await, stopped);
    assert_eq!(entries.next().await, stopped);
}

/// Goal: an error skips nothing: a further call returns it again, and never a later entry. Method:
/// a run whose last command has no envelope, between sound runs of one batch; reads begin before
/// it, in its middle, and after it.
#[tokio::test]
async fn a_damaged_run_is_told_again_and_not_skipped() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut shard = open(directory.path());
    shard.append(1, 2, 3, 0);
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Blank, &[]);
    draft.push(EntryKind::Command, &[b"no envelope"]);
    shard.append_run(draft.seal(Term(1), Index(5)));
    shard.append(1, 7, 3, 0);
    shard.state.position.publish_commit(Index(9));
    for from in [2, 5, 6] {
        let mut entries = shard.from(from);
        for index in from..5 {
            assert_eq!(entries.next().await, Ok(entry(LogId::new(Term(1), Index(index)))));
        }
        for _ in 0..3 {
            let error = entries.next().await.expect_err("damaged");
            let EntriesError::Damaged { shard: SHARD, detail } = &error else { panic!("{error}") };
            assert!(detail.contains("entry 6"), "{detail}");
        }
    }
    let mut behind = shard.from(7);
    assert_eq!(behind.next().await, Ok(entry(LogId::new(Term(1), Index(7)))));
}
