//! The log reader: a thread beside the workers that reads runs back that left memory.

use std::sync::Arc;

use quorate_host::ShardFetch;
use quorate_log::{LogReadError, LogStore};
use quorate_raft::Reader;
use quorate_types::{Index, ShardId};

use crate::error::FatalError;
use crate::state::engine_state::EngineState;
use crate::state::shards::DamagedReplica;
use crate::worker::inbox::{Inbox, Input};
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;

/// A fetch and the worker that asked for it.
pub(crate) struct FetchJob {
    pub(crate) worker: usize,
    pub(crate) fetch: ShardFetch,
}

/// The thread that reads the log for the workers.
pub(crate) struct FetchThread {
    queue: Arc<Queue<FetchJob>>,
    log: Arc<LogStore>,
    inboxes: Vec<Arc<Inbox>>,
    state: Arc<EngineState>,
}

impl FetchThread {
    pub(crate) fn new(shared: &WorkerShared) -> FetchThread {
        FetchThread {
            queue: Arc::clone(&shared.queues.fetches),
            log: Arc::clone(&shared.log),
            inboxes: shared.inboxes.clone(),
            state: Arc::clone(&shared.state),
        }
    }

    /// Reads until the queue is closed and empty.
    pub(crate) fn run(self) {
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs) {
            for FetchJob { worker, fetch } in jobs.drain(..) {
                let ShardFetch { shard, replica, reader, range, bytes_max } = fetch;
                let from = range.start;
                let runs = match self.log.read(shard, range, bytes_max) {
                    Ok(runs) => runs,
                    // The replica was given up meanwhile, and no kernel waits.
                    Err(LogReadError::Unknown { .. }) => continue,
                    // A leader that became a follower may have truncated the range meanwhile, or a
                    // snapshot have replaced it: the kernel knows.
                    Err(error @ LogReadError::Absent { .. })
                        if self.may_lack(&reader, shard, from) =>
                    {
                        tracing::debug!(%shard, %error, ?reader, "entries that are gone");
                        Vec::new()
                    }
                    Err(error @ LogReadError::Failed { .. }) => {
                        self.state.fatal.latch(FatalError::Log(error.to_string()));
                        continue;
                    }
                    // A log that can't return what is committed must not continue to vote.
                    Err(error) => {
                        let what = error.to_string();
                        let damaged = DamagedReplica::for_good(shard, replica, what);
                        self.inboxes[worker].push(Input::Damaged(damaged));
                        continue;
                    }
                };
                self.inboxes[worker].push(Input::Fetched { shard, replica, reader, runs });
            }
        }
    }

    /// Whether the log may lack the entry at `from` without having lost it.
    fn may_lack(&self, reader: &Reader, shard: ShardId, from: Index) -> bool {
        let is_below_base = || self.log.held(shard).is_none_or(|held| from <= held.base);
        *reader != Reader::Apply || is_below_base()
    }
}
