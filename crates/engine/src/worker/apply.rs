//! The apply thread: writes committed entries of all shards to the store, then answers callers.

use std::sync::Arc;

use quorate_machine::{AppliedRecord, ApplyOutcome, StateMachine, apply_committed};
use quorate_raft::Committed;
use quorate_types::{Index, LogId, ReplicaId, ShardId};
use rustc_hash::FxHashMap;

use crate::calls::call::{Applied, Completion, Outcome};
use crate::error::FatalError;
use crate::peer::replies::Replies;
use crate::state::engine_state::EngineState;
use crate::state::shards::LocalShard;
use crate::store::apply_batch::ApplyBatch;
use crate::store::data_store::{DataError, DataStore};
use crate::worker::inbox::{AppliedReplica, Inbox, Input};
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;

/// Committed entries of one shard and the callers that wait for them.
pub(crate) struct ApplyJob {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) committed: Committed,
    /// Ascending by index.
    pub(crate) callers: Vec<(Index, Completion)>,
}

/// One shard's interpreter and how far it has applied.
pub(crate) struct Applier {
    pub(crate) state: Arc<LocalShard>,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) record: AppliedRecord,
}

/// The shards' interpreters over one store.
pub(crate) struct Appliers {
    by_shard: FxHashMap<ShardId, Applier>,
    store: Arc<DataStore>,
    /// A batch was lost: the records in memory are ahead of the store, so nothing more may be
    /// applied, or a later batch would write them past the hole.
    failed: bool,
}

/// The result of a batch of jobs.
#[derive(Default)]
pub(crate) struct AppliedJobs {
    /// Per job: the shard's worker, and how far it has come. Empty if the batch was lost.
    applied: Vec<(usize, AppliedReplica)>,
    /// The callers' outcomes.
    ends: Vec<(Completion, Outcome)>,
    /// Why the batch was lost.
    lost: Option<DataError>,
}

impl Appliers {
    pub(crate) fn new(by_shard: FxHashMap<ShardId, Applier>, store: Arc<DataStore>) -> Appliers {
        Appliers { by_shard, store, failed: false }
    }

    fn apply(&mut self, jobs: &mut Vec<ApplyJob>) -> AppliedJobs {
        if self.failed {
            return AppliedJobs { ends: refuse(jobs), ..AppliedJobs::default() };
        }
        let mut done = AppliedJobs::default();
        let mut batch = ApplyBatch::new(&self.store);
        for job in jobs.drain(..) {
            let applier =
                self.by_shard.get_mut(&job.shard).expect("only hosted shards are applied");
            batch.begin_shard(job.shard, applier.state.space);
            let mut callers = job.callers.into_iter().peekable();
            apply_committed(
                job.shard,
                applier.machine.as_mut(),
                &mut applier.record,
                &job.committed,
                &mut batch,
                &mut |id, outcome| {
                    if let Some((_, caller)) = callers.next_if(|(wanted, _)| *wanted == id.index) {
                        done.ends.push((caller, end_of(id, outcome, &applier.state)));
                    }
                },
            );
            assert!(callers.next().is_none(), "shard {}: a caller's entry is missing", job.shard);
            let index = applier.record.applied.index;
            let applied = AppliedReplica { shard: job.shard, replica: job.replica, index };
            done.applied.push((applier.state.worker, applied));
        }
        if let Err(error) = batch.finish() {
            // What was committed stays committed, and the next start will apply it.
            self.failed = true;
            done.applied.clear();
            done.ends.iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
            done.lost = Some(error);
        }
        for (_, applied) in &done.applied {
            self.by_shard[&applied.shard].state.position.publish_applied(applied.index);
        }
        done
    }
}

fn refuse(jobs: &mut Vec<ApplyJob>) -> Vec<(Completion, Outcome)> {
    let callers = jobs.drain(..).flat_map(|job| job.callers);
    callers.map(|(_, caller)| (caller, Outcome::UnknownStopped)).collect()
}

/// Everything an apply thread works with.
pub(crate) struct ApplyThread {
    queue: Arc<Queue<ApplyJob>>,
    appliers: Appliers,
    inboxes: Vec<Arc<Inbox>>,
    replies: Replies,
    state: Arc<EngineState>,
}

impl ApplyThread {
    pub(crate) fn new(shared: &WorkerShared, appliers: Appliers) -> ApplyThread {
        ApplyThread {
            queue: Arc::clone(&shared.queues.applies),
            appliers,
            inboxes: shared.inboxes.clone(),
            replies: Replies::new(Arc::clone(&shared.transport)),
            state: Arc::clone(&shared.state),
        }
    }

    /// Applies until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs) {
            let done = self.appliers.apply(&mut jobs);
            self.report(done);
        }
    }

    /// The workers first, because their followers and readers wait; then the callers.
    fn report(&mut self, done: AppliedJobs) {
        if let Some(error) = done.lost {
            self.state.fatal.latch(FatalError::Data(error.to_string()));
        }
        let mut by_worker = vec![Vec::new(); self.inboxes.len()];
        for (worker, applied) in done.applied {
            by_worker[worker].push(applied);
        }
        for (inbox, applied) in self.inboxes.iter().zip(by_worker) {
            if !applied.is_empty() {
                inbox.push(Input::Applied(applied));
            }
        }
        self.state.counters.writes_applied.add(done.ends.len() as u64);
        for (completion, outcome) in done.ends {
            self.replies.complete(completion, outcome);
        }
        self.replies.flush();
    }
}

impl Drop for ApplyThread {
    /// Also when unwinding: every caller that waits for an entry gets an answer.
    fn drop(&mut self) {
        let ends = refuse(&mut self.queue.close_and_take());
        self.report(AppliedJobs { ends, ..AppliedJobs::default() });
    }
}

fn end_of(id: LogId, outcome: ApplyOutcome, state: &LocalShard) -> Outcome {
    match outcome {
        ApplyOutcome::Reply(reply) => Outcome::Applied(Applied { id, reply }),
        ApplyOutcome::StaleVersion { .. } => Outcome::Stale(Box::new(state.descriptor())),
        ApplyOutcome::Malformed => Outcome::Malformed,
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
