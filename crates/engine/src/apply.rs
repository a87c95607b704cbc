//! The apply thread: committed entries of all shards into the data store, then the callers' ends.

use std::sync::Arc;

use quorate_host::{
    AppliedRecord, ApplyOutcome, Refusal as HostRefusal, StateMachine, apply_committed,
};
use quorate_raft::Committed;
use quorate_types::{Index, ShardId};
use rustc_hash::FxHashMap;

use crate::apply_batch::ApplyBatch;
use crate::call::{Completion, Outcome};
use crate::counters::Counters;
use crate::data::DataStore;
use crate::error::FatalError;
use crate::fatal::Fatal;
use crate::inbox::{Inbox, Input};
use crate::queue::Queue;
use crate::replies::Replies;
use crate::shards::ShardState;

/// Committed entries of one shard and who waits for them.
pub(crate) struct ApplyJob {
    pub(crate) shard: ShardId,
    pub(crate) committed: Committed,
    /// Ascending by index.
    pub(crate) callers: Vec<(Index, Completion)>,
}

/// One shard's interpreter and how far it has come.
pub(crate) struct Applier {
    pub(crate) state: Arc<ShardState>,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) record: AppliedRecord,
}

/// Everything an apply thread works with.
pub(crate) struct ApplyThread {
    pub(crate) queue: Arc<Queue<ApplyJob>>,
    pub(crate) appliers: FxHashMap<ShardId, Applier>,
    pub(crate) store: Arc<DataStore>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) replies: Replies,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) counters: Arc<Counters>,
    /// A batch was lost: the records in memory are ahead of the store, so nothing more may be
    /// applied, or a later batch would write them past the hole.
    pub(crate) failed: bool,
}

impl ApplyThread {
    /// Applies until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs) {
            if self.failed {
                self.refuse(&mut jobs);
            } else {
                self.apply(&mut jobs);
            }
        }
    }

    /// What was committed stays committed and will be applied by the next start.
    fn refuse(&mut self, jobs: &mut Vec<ApplyJob>) {
        for (_, caller) in jobs.drain(..).flat_map(|job| job.callers) {
            self.replies.complete(caller, Outcome::UnknownStopped);
        }
        self.replies.flush();
    }

    fn apply(&mut self, jobs: &mut Vec<ApplyJob>) {
        let mut ends = Vec::new();
        let mut applied: Vec<Vec<(ShardId, Index)>> = vec![Vec::new(); self.inboxes.len()];
        let mut batch = ApplyBatch::new(&self.store);
        for job in jobs.drain(..) {
            let applier =
                self.appliers.get_mut(&job.shard).expect("only hosted shards are applied");
            batch.begin_shard(job.shard, applier.state.space);
            let mut callers = job.callers.into_iter().peekable();
            apply_committed(
                job.shard,
                applier.machine.as_mut(),
                &mut applier.record,
                &job.committed,
                &mut batch,
                &mut |index, outcome| {
                    if let Some((_, caller)) = callers.next_if(|(wanted, _)| *wanted == index) {
                        ends.push((caller, end_of(outcome)));
                    }
                },
            );
            assert!(callers.next().is_none(), "shard {}: a caller's entry is missing", job.shard);
            applied[applier.state.worker].push((job.shard, applier.record.applied.index));
        }
        if let Err(error) = batch.finish() {
            self.failed = true;
            self.fatal.latch(FatalError::Data(error.to_string()));
            self.inboxes.iter().for_each(|inbox| inbox.push(Input::Stop));
            ends.iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
            applied.iter_mut().for_each(Vec::clear);
        }
        self.report(applied, ends);
    }

    fn report(&mut self, applied: Vec<Vec<(ShardId, Index)>>, ends: Vec<(Completion, Outcome)>) {
        for (inbox, applied) in self.inboxes.iter().zip(applied) {
            if !applied.is_empty() {
                inbox.push(Input::Applied(applied));
            }
        }
        self.counters.writes_applied.add(ends.len() as u64);
        for (completion, outcome) in ends {
            self.replies.complete(completion, outcome);
        }
        self.replies.flush();
    }
}

impl Drop for ApplyThread {
    /// Also when unwinding: nobody who waits for an entry is left without an answer.
    fn drop(&mut self) {
        let mut jobs = self.queue.close_and_take();
        self.refuse(&mut jobs);
    }
}

fn end_of(outcome: ApplyOutcome) -> Outcome {
    match outcome {
        ApplyOutcome::Reply(reply) => Outcome::Reply(reply),
        ApplyOutcome::StaleVersion { current, .. } => {
            Outcome::Refused(HostRefusal::StaleVersion { current })
        }
        ApplyOutcome::Malformed => Outcome::Malformed,
    }
}
