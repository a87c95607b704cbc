//! The log reader: a thread beside the workers that reads runs back that left memory.

use std::sync::Arc;

use quorate_host::ShardFetch;
use quorate_log::{LogReadError, LogStore};
use quorate_raft::Reader;

use crate::error::FatalError;
use crate::state::engine_state::EngineState;
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
                match self.log.read(fetch.shard, fetch.range, fetch.bytes_max) {
                    Ok(runs) => self.inboxes[worker].push(Input::Fetched {
                        shard: fetch.shard,
                        replica: fetch.replica,
                        reader: fetch.reader,
                        runs,
                    }),
                    // A leader that became a follower may have truncated the range meanwhile: the
                    // kernel asks again if it still leads.
                    Err(error @ LogReadError::Absent { .. }) if fetch.reader != Reader::Apply => {
                        tracing::warn!(shard = %fetch.shard, %error, "entries for a follower");
                        self.inboxes[worker].push(Input::Fetched {
                            shard: fetch.shard,
                            replica: fetch.replica,
                            reader: fetch.reader,
                            runs: Vec::new(),
                        });
                    }
                    // A log that can't return what is committed must not continue to vote.
                    Err(error) => self.state.fatal.latch(FatalError::Log(error.to_string())),
                }
            }
        }
    }
}
