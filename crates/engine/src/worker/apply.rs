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
use crate::state::shards::{DamagedReplica, LocalShard};
use crate::store::apply_batch::ApplyBatch;
use crate::store::data_store::{DataError, DataStore};
use crate::worker::inbox::{AppliedReplica, Inbox, Input};
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;
use crate::worker::snapshots::{ArrivedSnapshot, ReceiveTask};

/// What an apply thread is asked to do, in order.
pub(crate) enum ApplyTask {
    /// Apply entries.
    Entries(ApplyJob),
    /// A snapshot has arrived. Entries that come after this wait; once everything before it is
    /// applied, the worker is told to install it (RULE 13).
    Pause(Box<ArrivedSnapshot>),
    /// The wait ends: the snapshot's data is in force from now on.
    Adopt(Box<ArrivedSnapshot>),
    /// The wait ends: the snapshot was not taken.
    Resume { shard: ShardId, replica: ReplicaId },
    /// The replica was given up.
    End { shard: ShardId, replica: ReplicaId },
}

/// Committed entries of one shard and the callers that wait for them.
pub(crate) struct ApplyJob {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) committed: Committed,
    /// Ascending by index.
    pub(crate) callers: Vec<(Index, Completion)>,
}

/// Makes the interpreter of one shard's commands.
pub(crate) type MachineFactory = Arc<dyn Fn(ShardId) -> Box<dyn StateMachine> + Send + Sync>;

/// One replica's interpreter and how far it has applied.
pub(crate) struct Applier {
    pub(crate) state: Arc<LocalShard>,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) record: AppliedRecord,
    /// Entries that wait until it is known whether a snapshot is taken.
    parked: Option<Vec<ApplyJob>>,
}

impl Applier {
    pub(crate) fn new(
        state: Arc<LocalShard>,
        machine: Box<dyn StateMachine>,
        record: AppliedRecord,
    ) -> Applier {
        Applier { state, machine, record, parked: None }
    }

    /// Applies a job's entries to `batch`, and adds its callers' outcomes to `done`.
    fn apply(&mut self, job: ApplyJob, batch: &mut ApplyBatch<'_>, done: &mut Done) {
        let ApplyJob { shard, replica, committed, callers } = job;
        batch.begin(self.state.space());
        let epoch = self.record.epoch;
        let mut callers = callers.into_iter().peekable();
        let first_end = done.ends.len();
        apply_committed(
            shard,
            self.machine.as_mut(),
            &mut self.record,
            &committed,
            batch,
            &mut |id, outcome| {
                if let Some((_, caller)) = callers.next_if(|(wanted, _)| *wanted == id.index) {
                    done.ends.push((caller, end_of(id, outcome, &self.state)));
                }
            },
        );
        assert!(callers.next().is_none(), "shard {shard}: a caller's entry is missing");
        let worker = self.state.worker;
        if let Some(error) = batch.take_damage() {
            // What the machine has answered since may come from damaged data.
            done.ends[first_end..].iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
            let what = format!("its data: {error}");
            done.damaged.push((worker, DamagedReplica { shard, replica, what }));
            return;
        }
        if epoch != self.record.epoch {
            self.state.follow(&self.record);
        }
        let index = self.record.applied.index;
        done.applied.push((worker, AppliedReplica { shard, replica, index }));
    }
}

/// The shards' interpreters over one store.
pub(crate) struct Appliers {
    by_shard: FxHashMap<ShardId, Applier>,
    store: Arc<DataStore>,
    machines: MachineFactory,
    /// A batch was lost: the records in memory are ahead of the store, so nothing more may be
    /// applied, or a later batch would write them past the hole.
    failed: bool,
}

/// The result of a batch of tasks, in the order in which it is reported.
#[derive(Default)]
pub(crate) struct Done {
    /// Per job: the shard's worker, and how far it has come. Empty if the batch was lost.
    applied: Vec<(usize, AppliedReplica)>,
    /// Replicas whose data is damaged, and their workers.
    damaged: Vec<(usize, DamagedReplica)>,
    /// Snapshots that may be installed: everything before them is applied.
    paused: Vec<(usize, ArrivedSnapshot)>,
    /// For the thread that receives snapshots.
    received: Vec<ReceiveTask>,
    /// The callers' outcomes.
    ends: Vec<(Completion, Outcome)>,
    /// Why the batch was lost.
    lost: Option<DataError>,
}

impl Appliers {
    pub(crate) fn new(
        by_shard: FxHashMap<ShardId, Applier>,
        store: Arc<DataStore>,
        machines: MachineFactory,
    ) -> Appliers {
        Appliers { by_shard, store, machines, failed: false }
    }

    fn run(&mut self, tasks: &mut Vec<ApplyTask>) -> Done {
        if self.failed {
            return Done { ends: refuse(tasks.drain(..)), ..Done::default() };
        }
        let mut done = Done::default();
        let store = Arc::clone(&self.store);
        let mut batch = ApplyBatch::new(&store);
        for task in tasks.drain(..) {
            match task {
                ApplyTask::Entries(job) => self.apply(job, &mut batch, &mut done),
                ApplyTask::Pause(arrived) => self.pause(*arrived, &mut done),
                ApplyTask::Adopt(arrived) => self.adopt(&arrived, &mut batch, &mut done),
                ApplyTask::Resume { shard, replica } => {
                    let applier = self.by_shard.get_mut(&shard);
                    let applier = applier.filter(|applier| applier.state.replica == replica);
                    let parked = applier.and_then(|applier| applier.parked.take());
                    for job in parked.into_iter().flatten() {
                        self.apply(job, &mut batch, &mut done);
                    }
                }
                ApplyTask::End { shard, replica } => self.end(shard, replica, &mut done),
            }
        }
        if let Err(error) = batch.finish() {
            // What was committed stays committed, and the next start will apply it.
            self.failed = true;
            done.applied.clear();
            done.ends.iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
            done.lost = Some(error);
        }
        for (_, applied) in &done.applied {
            if let Some(applier) = self.by_shard.get(&applied.shard) {
                applier.state.position.publish_applied(applied.index);
            }
        }
        done
    }

    /// Applies a job, unless it has to wait. The entries of a replica that was given up are applied
    /// by others: what its callers asked for is committed, and its replies are lost.
    fn apply(&mut self, job: ApplyJob, batch: &mut ApplyBatch<'_>, done: &mut Done) {
        let (shard, replica) = (job.shard, job.replica);
        let applier = self.by_shard.get_mut(&shard).filter(|it| it.state.replica == replica);
        let Some(applier) = applier else {
            done.ends.extend(unknown(job));
            return;
        };
        if let Some(parked) = &mut applier.parked {
            parked.push(job);
            return;
        }
        let before = done.damaged.len();
        applier.apply(job, batch, done);
        if done.damaged.len() > before {
            self.end(shard, replica, done);
        }
    }

    fn pause(&mut self, arrived: ArrivedSnapshot, done: &mut Done) {
        let (shard, to) = (arrived.shard, arrived.to);
        let applier = self.by_shard.get_mut(&shard).filter(|it| it.state.replica == to);
        let Some(applier) = applier.filter(|applier| applier.parked.is_none()) else {
            let why = "the replica is gone, or installs another snapshot".to_owned();
            done.received.push(ReceiveTask::Refused { shard, to, why });
            return;
        };
        applier.parked = Some(Vec::new());
        done.paused.push((applier.state.worker, arrived));
    }

    /// Goes on with the data of a snapshot whose log is durable (RULE 13).
    fn adopt(&mut self, arrived: &ArrivedSnapshot, batch: &mut ApplyBatch<'_>, done: &mut Done) {
        let (shard, to) = (arrived.shard, arrived.to);
        let applier = self.by_shard.get_mut(&shard).filter(|it| it.state.replica == to);
        // A replica that ended meanwhile was reported to the thread that receives snapshots.
        let Some(applier) = applier else { return };
        let former = applier.state.space();
        let index = arrived.record.applied.index;
        applier.record = arrived.record.clone();
        // What the former one remembers of its map is not so in this one.
        applier.machine = (self.machines)(shard);
        applier.state.put_in_force(arrived.space, &applier.record);
        let worker = applier.state.worker;
        let parked = applier.parked.take().unwrap_or_default();
        done.applied.push((worker, AppliedReplica { shard, replica: to, index }));
        done.received.push(ReceiveTask::Installed { shard, to, former });
        for job in parked {
            if job.committed.range.start > index {
                self.apply(job, batch, done);
            } else {
                // The snapshot holds these entries, and what they answered is known elsewhere.
                done.ends.extend(unknown(job));
            }
        }
    }

    fn end(&mut self, shard: ShardId, replica: ReplicaId, done: &mut Done) {
        let is_here = self.by_shard.get(&shard).is_some_and(|it| it.state.replica == replica);
        if let Some(applier) = is_here.then(|| self.by_shard.remove(&shard)).flatten() {
            done.ends.extend(applier.parked.into_iter().flatten().flat_map(unknown));
        }
    }

    /// The callers of what waits.
    fn give_up(&mut self) -> Vec<(Completion, Outcome)> {
        let parked = self.by_shard.values_mut().filter_map(|applier| applier.parked.take());
        refuse(parked.flatten().map(ApplyTask::Entries))
    }
}

fn refuse(tasks: impl Iterator<Item = ApplyTask>) -> Vec<(Completion, Outcome)> {
    let callers = tasks.flat_map(|task| match task {
        ApplyTask::Entries(job) => job.callers,
        _ => Vec::new(),
    });
    callers.map(|(_, caller)| (caller, Outcome::UnknownStopped)).collect()
}

/// The outcomes of entries that this replica does not apply.
fn unknown(job: ApplyJob) -> impl Iterator<Item = (Completion, Outcome)> {
    job.callers.into_iter().map(|(_, caller)| (caller, Outcome::UnknownLeaderChanged))
}

/// Everything an apply thread works with.
pub(crate) struct ApplyThread {
    queue: Arc<Queue<ApplyTask>>,
    received: Arc<Queue<ReceiveTask>>,
    appliers: Appliers,
    inboxes: Vec<Arc<Inbox>>,
    replies: Replies,
    state: Arc<EngineState>,
}

impl ApplyThread {
    pub(crate) fn new(shared: &WorkerShared, appliers: Appliers) -> ApplyThread {
        ApplyThread {
            queue: Arc::clone(&shared.queues.applies),
            received: Arc::clone(&shared.queues.received),
            appliers,
            inboxes: shared.inboxes.clone(),
            replies: Replies::new(Arc::clone(&shared.transport)),
            state: Arc::clone(&shared.state),
        }
    }

    /// Applies until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut tasks = Vec::new();
        while self.queue.take(&mut tasks) {
            let done = self.appliers.run(&mut tasks);
            self.report(done);
        }
    }

    /// The workers first, because their followers and readers wait; then the callers.
    fn report(&mut self, done: Done) {
        let Done { applied, damaged, paused, received, ends, lost } = done;
        if let Some(error) = lost {
            self.state.fatal.latch(FatalError::Data(error.to_string()));
        }
        let mut by_worker = vec![Vec::new(); self.inboxes.len()];
        for (worker, applied) in applied {
            by_worker[worker].push(applied);
        }
        for (inbox, applied) in self.inboxes.iter().zip(by_worker) {
            if !applied.is_empty() {
                inbox.push(Input::Applied(applied));
            }
        }
        for (worker, damaged) in damaged {
            self.inboxes[worker].push(Input::Damaged(damaged));
        }
        for (worker, arrived) in paused {
            self.inboxes[worker].push(Input::Install(Box::new(arrived)));
        }
        self.received.push_all(received);
        self.state.counters.writes_applied.add(ends.len() as u64);
        for (completion, outcome) in ends {
            self.replies.complete(completion, outcome);
        }
        self.replies.flush();
    }
}

impl Drop for ApplyThread {
    /// Also when unwinding: every caller that waits for an entry gets an answer.
    fn drop(&mut self) {
        let mut ends = self.appliers.give_up();
        ends.extend(refuse(self.queue.close_and_take().into_iter()));
        self.report(Done { ends, ..Done::default() });
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
