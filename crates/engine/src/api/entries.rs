//! A subscription to a shard's committed entries, in order: read from the log of this node at the
//! pace of the consumer.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use quorate_log::{LogReadError, LogStore};
use quorate_machine::Envelope;
use quorate_raft::{EntryKind, Run};
use quorate_types::{Index, LogId, ShardId, WallMillis};

use crate::api::engine::Engine;
use crate::api::watches::PositionWatch;
use crate::error::Refusal;
use crate::state::tasks::run_blocking;

/// Bytes after which one read of the log ends; the run that passes this bound is still included.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// One committed entry of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its term and index.
    pub id: LogId,
    /// What it is.
    pub kind: CommittedKind,
}

/// What a committed entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommittedKind {
    /// Opens a leader's term; changes nothing.
    Blank,
    /// Changes the shard's members.
    Membership,
    /// A command of the state machine. It took effect only if `descriptor_version` was current when
    /// it was applied; otherwise it did nothing on any replica, and its caller was told so.
    #[non_exhaustive]
    Command {
        /// The command's bytes. They share the memory of the run that holds the entry, up to about
        /// 1 MiB or one command: copy them to keep them for long.
        command: Bytes,
        /// The leader's wall time when the command was proposed. The state machine's clock is the
        /// greatest of these times so far.
        time: WallMillis,
        /// Version of the shard's descriptor by which the command was routed.
        descriptor_version: u64,
    },
}

/// Why a subscription gives no more entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntriesError {
    /// The log on this node no longer holds the entry: take the state from elsewhere, and subscribe
    /// from `first_available` or later.
    #[error(
        "the log of shard {shard} begins at {first_available} on this node, {wanted} was asked for"
    )]
    Purged {
        /// The shard.
        shard: ShardId,
        /// The index of the next entry.
        wanted: Index,
        /// The first index that the log holds, or will hold if it is empty.
        first_available: Index,
    },
    /// The engine has stopped.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log does not hold what was written; ask another replica.
    #[error("the log of shard {shard} is damaged on this node: {detail}; ask another replica")]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// What was found.
        detail: String,
    },
}

impl Engine {
    /// Follows the committed entries of `shard`, which must have a replica here, from index `from`
    /// on: each once and in order, first those in the log, then new ones. Does not block.
    ///
    /// `from` may lie ahead of the log. If it is below the first entry of the log, as 0 is, the
    /// answer is [`EntriesError::Purged`], which names the first index. A shard's first entry is
    /// not at index 1.
    ///
    /// # Errors
    /// As [`Engine::watch_leader`].
    pub fn committed_entries(
        &self,
        shard: ShardId,
        from: Index,
    ) -> Result<CommittedEntries, Refusal> {
        let log = Arc::downgrade(self.running.log());
        Ok(CommittedEntries::new(shard, from, self.watch_position(shard)?, log))
    }
}

/// Follows a shard's committed entries. Made by [`Engine::committed_entries`].
///
/// The consumer pulls: at most one batch of about 256 KiB, or one run if that is larger, is held in
/// memory, however slow the consumer is, and the engine never waits for it. Does not keep the
/// engine alive, and does not keep the log from being purged.
pub struct CommittedEntries {
    shard: ShardId,
    /// Index of the next entry to return.
    next: Index,
    /// The entries of the current run, from `next` on.
    entries: VecDeque<CommittedEntry>,
    /// The runs of the batch after the current one.
    runs: VecDeque<Run>,
    position: PositionWatch,
    /// Weak, so that a subscription does not hold the directory of an engine that has ended.
    log: Weak<LogStore>,
}

impl CommittedEntries {
    pub(crate) fn new(
        shard: ShardId,
        from: Index,
        position: PositionWatch,
        log: Weak<LogStore>,
    ) -> CommittedEntries {
        let (entries, runs) = (VecDeque::new(), VecDeque::new());
        CommittedEntries { shard, next: from, entries, runs, position, log }
    }

    /// Returns the next entry; waits until there is one. It is committed and durable on this node,
    /// but perhaps not yet applied here. Needs a tokio runtime, whose blocking threads read the
    /// log. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`EntriesError`]; a further call returns the same error as long as its cause lasts.
    pub async fn next(&mut self) -> Result<CommittedEntry, EntriesError> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                self.next = entry.id.index.next();
                return Ok(entry);
            }
            let Some(run) = self.runs.front() else {
                self.runs = self.read().await?;
                continue;
            };
            // Removed only after it is decoded, so that an error does not skip it.
            self.entries = decode_run(self.shard, run)?;
            self.runs.pop_front();
        }
    }

    /// The next batch: never empty, and never beyond what is committed.
    async fn read(&self) -> Result<VecDeque<Run>, EntriesError> {
        let position = self.position.wait_committed(self.next).await?;
        let (shard, range) = (self.shard, self.next..position.commit.next());
        let log = self.log.upgrade().ok_or_else(|| self.position.ended())?;
        let fatal = self.position.fatal();
        let read = run_blocking(fatal, "entries", move || read_batch(&log, shard, range));
        read.await.unwrap_or_else(|| Err(self.position.ended().into()))
    }
}

fn read_batch(
    log: &LogStore,
    shard: ShardId,
    range: Range<Index>,
) -> Result<VecDeque<Run>, EntriesError> {
    let damaged = |error: LogReadError| EntriesError::Damaged { shard, detail: error.to_string() };
    let wanted = range.start;
    match log.read(shard, range.clone(), BATCH_BYTES_MAX) {
        Ok(runs) => Ok(runs.into()),
        Err(LogReadError::Absent { .. }) => {
            let first_available = first_held(log, shard, range).map_err(damaged)?;
            if first_available == wanted {
                return Err(EntriesError::Damaged { shard, detail: format!("no entry {wanted}") });
            }
            Err(EntriesError::Purged { shard, wanted, first_available })
        }
        Err(error) => Err(damaged(error)),
    }
}

/// The first index of `range` that the log holds, or the end of `range`. A binary search finds it,
/// because logs have no holes (RULE 7).
fn first_held(log: &LogStore, shard: ShardId, range: Range<Index>) -> Result<Index, LogReadError> {
    let Range { start: mut low, end: mut high } = range;
    while low < high {
        let middle = low.plus(high.since(low) / 2);
        match log.read(shard, middle..middle.next(), 1) {
            Ok(_) => high = middle,
            Err(LogReadError::Absent { .. }) => low = middle.next(),
            Err(error) => return Err(error),
        }
    }
    Ok(low)
}

fn decode_run(shard: ShardId, run: &Run) -> Result<VecDeque<CommittedEntry>, EntriesError> {
    let decode = |entry: quorate_raft::Entry<'_>| {
        let kind = match entry.kind {
            EntryKind::Blank => CommittedKind::Blank,
            EntryKind::Membership => CommittedKind::Membership,
            EntryKind::Command => {
                let (envelope, command) =
                    Envelope::decode(entry.payload).map_err(|error| EntriesError::Damaged {
                        shard,
                        detail: format!("entry {}: {error}", entry.id.index),
                    })?;
                CommittedKind::Command {
                    command: run.bytes().slice_ref(command),
                    time: envelope.leader_time,
                    descriptor_version: envelope.descriptor_version,
                }
            }
        };
        Ok(CommittedEntry { id: entry.id, kind })
    };
    run.entries().map(decode).collect()
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
