//! Keeps the log of a node within its bound: flushes the data that would have to be applied again,
//! and has entries purged that are not needed any more.
//!
//! Below its bound, the log keeps everything, so that a follower that comes back after a while finds
//! there what it lacks. Above it, each shard gives up the same part of its log, but nothing that is
//! not yet in a table of the data store (RULE 10), and nothing that a follower that keeps up is
//! about to read. Far above it, slow followers are not waited for either: they get a snapshot. What a
//! state machine's own store has synced counts as what is in tables.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use quorate_log::{HeldLog, LogStore};
use quorate_types::{Index, Monotonic, ShardId, limits};

use crate::error::FatalError;
use crate::state::clock;
use crate::state::engine_state::EngineState;
use crate::state::shards::LocalShard;
use crate::store::data_store::{DataError, DataStore};
use crate::worker::apply::ApplyTask;
use crate::worker::inbox::{Inbox, Input, PurgeBound};
use crate::worker::queue::Queue;

/// Pause between two looks: one atomic is read as long as the log is within its bound.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// Pause between two looks at a log that is over its bound, if nothing was flushed meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Bytes of a log that are not worth a purge, which writes a record.
const PURGED_BYTES_MIN: u64 = 64 << 10;

/// Watches the log of one node.
pub(crate) struct LogBound {
    log: Arc<LogStore>,
    data: Arc<DataStore>,
    state: Arc<EngineState>,
    applies: Arc<Queue<ApplyTask>>,
    inboxes: Vec<Arc<Inbox>>,
    kept_bytes_max: u64,
    /// The flushes of the data store that were seen.
    flushes: u64,
    /// Bytes appended to the log when the data store was last flushed from here.
    flushed_at: u64,
    /// Bytes appended to the log when the own stores of state machines were last synced.
    own_synced_at: u64,
    looked_at: Monotonic,
}

impl LogBound {
    /// Purges a log that holds more than `kept_bytes_max`.
    pub(crate) fn new(
        log: Arc<LogStore>,
        data: Arc<DataStore>,
        state: Arc<EngineState>,
        applies: Arc<Queue<ApplyTask>>,
        inboxes: Vec<Arc<Inbox>>,
        kept_bytes_max: u64,
    ) -> LogBound {
        let appended = log.statistics().run_bytes;
        LogBound {
            log,
            data,
            state,
            applies,
            inboxes,
            kept_bytes_max,
            flushes: 0,
            flushed_at: appended,
            own_synced_at: appended,
            looked_at: clock::now(),
        }
    }

    /// One look. Blocks for the disk if data has to be flushed.
    pub(crate) fn look(&mut self) {
        let held_bytes = self.log.held_bytes();
        if held_bytes <= self.kept_bytes_max || self.state.fatal.is_set() {
            return;
        }
        let appended = self.log.statistics().run_bytes;
        let since = appended.saturating_sub(self.flushed_at);
        let flushes = self.data.flushes();
        let is_flushed = flushes != self.flushes;
        let flush_bytes = limits::LOG_FLUSH_BYTES.min(self.kept_bytes_max);
        let must_flush = since >= flush_bytes;
        // A follower may not need any more what it needed at the last look.
        let is_late = clock::now().since(self.looked_at) >= LOOK_AGAIN;
        if !is_flushed && !must_flush && !is_late {
            return;
        }
        // Usually RocksDB has flushed a full memtable meanwhile. If commands leave little data, it
        // has not, and their entries would stay for ever.
        let outcome = if !is_flushed && must_flush { self.flush(appended) } else { Ok(()) };
        self.sync_own_stores(appended, flush_bytes);
        self.flushes = self.data.flushes();
        self.looked_at = clock::now();
        match outcome.and_then(|()| self.bounds()) {
            Ok(bounds) => self.purge(bounds),
            Err(error) => self.state.fatal.latch(FatalError::Data(error.to_string())),
        }
    }

    fn flush(&mut self, appended: u64) -> Result<(), DataError> {
        self.flushed_at = appended;
        self.data.flush()
    }

    /// Makes the own stores of state machines durable, once in `flush_bytes` of log; those first that
    /// this process does not know to be durable at all. Blocks for the apply thread and for the disk.
    fn sync_own_stores(&mut self, appended: u64, flush_bytes: u64) {
        let is_due = appended.saturating_sub(self.own_synced_at) >= flush_bytes;
        let (reply, syncs) = mpsc::channel();
        let must_sync = |state: &&&Arc<LocalShard>| {
            let applied = state.position.get().applied;
            state
                .own_synced()
                .is_some_and(|synced| synced < applied && (is_due || synced == Index(0)))
        };
        let shards = self.state.shards.all();
        let tasks = shards.iter().filter(must_sync).map(|state| {
            let (shard, replica, reply) = (state.shard, state.replica, reply.clone());
            ApplyTask::Sync { shard, replica, reply }
        });
        self.applies.push_all(tasks);
        drop(reply);
        if is_due {
            self.own_synced_at = appended;
        }
        for sync in syncs {
            let worker = sync.state.worker;
            if let Err(damaged) = sync.run() {
                self.inboxes[worker].push(Input::Damaged(damaged));
            }
        }
    }

    /// Through where each replica's log may be purged.
    fn bounds(&self) -> Result<Vec<(usize, PurgeBound)>, DataError> {
        let logs = self.log.held_all();
        let total: u64 = logs.iter().map(|(_, held)| held.bytes).sum();
        let worth = PURGED_BYTES_MIN.min(total / (2 * logs.len().max(1) as u64));
        let mut bounds = Vec::new();
        for (shard, held) in logs {
            let Some(state) = self.state.shards.get(shard) else { continue };
            let share = share_of(held.bytes, total, self.kept_bytes_max);
            if held.bytes - share < worth {
                continue;
            }
            let persisted = match self.persisted(state) {
                Ok(persisted) => persisted,
                // Whoever needs the record finds the damage, too.
                Err(error) if self.data.note_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            let bound = self.bound(state, shard, &held, (share, total), persisted);
            bounds.extend(bound.map(|bound| (state.worker, bound)));
        }
        Ok(bounds)
    }

    /// Through where a power cut takes nothing of a replica's data any more.
    fn persisted(&self, state: &LocalShard) -> Result<Index, DataError> {
        if let Some(synced) = state.own_synced() {
            return Ok(synced);
        }
        let persisted = self.data.persisted(state.space())?;
        Ok(persisted.map_or(Index(0), |id| id.index))
    }

    fn bound(
        &self,
        state: &LocalShard,
        shard: ShardId,
        held: &HeldLog,
        (share, total): (u64, u64),
        persisted: Index,
    ) -> Option<PurgeBound> {
        let kept = self.log.index_within(shard, share)?.previous();
        // What is appended while a snapshot is under way is what its receiver needs next.
        let bound = match self.state.transfers.is_sent(shard) {
            true => limits::LOG_TRANSFER_BYTES_MAX,
            false => limits::LOG_HELD_BYTES_MAX,
        };
        let held_max = share_of(held.bytes, total, bound);
        let kept_from = match held_max < held.bytes {
            true => self.log.index_within(shard, held_max)?,
            false => Index(0),
        };
        let to = kept.min(persisted);
        (to > held.base).then_some(PurgeBound { shard, replica: state.replica, to, kept_from })
    }

    fn purge(&self, bounds: Vec<(usize, PurgeBound)>) {
        let mut by_worker = vec![Vec::new(); self.inboxes.len()];
        for (worker, bound) in bounds {
            by_worker[worker].push(bound);
        }
        for (inbox, bounds) in self.inboxes.iter().zip(by_worker) {
            if !bounds.is_empty() {
                inbox.push(Input::Purge(bounds));
            }
        }
    }
}

/// What a log of `bytes` may keep of `bound`, if all logs have `total` together.
fn share_of(bytes: u64, total: u64, bound: u64) -> u64 {
    if total <= bound {
        return bytes;
    }
    let share = u128::from(bytes) * u128::from(bound) / u128::from(total);
    u64::try_from(share).expect("at most `bytes`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: shares add up to no more than the bound, and a log within it keeps everything.
    #[test]
    fn shares_add_up_to_the_bound() {
        for logs in [&[1, 2, 3][..], &[0, 1_000_000, 7], &[u64::MAX / 2, 5]] {
            let total = logs.iter().sum();
            for bound in [1, 5, 1_000, 900_000, u64::MAX] {
                let shares = logs.iter().map(|bytes| share_of(*bytes, total, bound));
                let sum: u64 = shares.sum();
                assert!(sum <= bound && (total > bound || sum == total), "{logs:?} of {bound}");
            }
        }
    }
}
