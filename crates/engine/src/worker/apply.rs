//! The apply thread: writes committed entries of all shards to the store, then answers callers.

use std::sync::{Arc, mpsc};

use quorate_machine::{StateMachine, StoreFault};
use quorate_types::{ReplicaId, ShardId};
use rustc_hash::FxHashMap;

use crate::calls::call::Outcome;
use crate::error::FatalError;
use crate::peer::replies::Replies;
use crate::state::engine_state::EngineState;
use crate::state::shards::DamagedReplica;
use crate::store::apply_batch::ApplyBatch;
use crate::store::data_store::{DataError, DataStore};
use crate::store::identity::StoreIdentity;
use crate::worker::applier::{Applier, ApplyJob, Ends, JobEnd, OwnSync};
use crate::worker::inbox::{AppliedReplica, Inbox, Input};
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;
use crate::worker::snapshots::{ArrivedSnapshot, OwnInstall, OwnSnapshot, ReceiveTask, SendTask};

/// What an apply thread is asked to do, in order.
pub(crate) enum ApplyTask {
    /// Apply entries.
    Entries(ApplyJob),
    /// A snapshot has arrived. Entries that come after this wait; once everything before it is
    /// applied, the worker is told to install it (RULE 13).
    Pause(Box<ArrivedSnapshot>),
    /// The wait ends: the snapshot's data is in force from now on.
    Adopt(Box<ArrivedSnapshot>),
    /// The wait ends: the snapshot is in the machine's own store, or why it is not.
    OwnInstalled { install: Box<OwnInstall>, outcome: Result<(), StoreFault> },
    /// The wait ends: the snapshot was not taken.
    Resume { shard: ShardId, replica: ReplicaId },
    /// The replica was given up.
    End { shard: ShardId, replica: ReplicaId },
    /// The thread that sends snapshots wants what an own store holds, for `to`.
    View { shard: ShardId, replica: ReplicaId, to: ReplicaId },
    /// What an own store has committed is to be made durable, by whoever waits for `reply`.
    Sync { shard: ShardId, replica: ReplicaId, reply: mpsc::Sender<OwnSync> },
}

/// Makes the interpreter of one shard's commands.
pub(crate) type MachineFactory = Arc<dyn Fn(ShardId) -> Box<dyn StateMachine> + Send + Sync>;

/// The shards' interpreters over one store.
pub(crate) struct Appliers {
    by_shard: FxHashMap<ShardId, Applier>,
    store: Arc<DataStore>,
    /// Whose data all of it is.
    identity: StoreIdentity,
    machines: MachineFactory,
    /// Shards whose own stores have something to commit.
    uncommitted: Vec<ShardId>,
    /// A batch was lost: the records in memory are ahead of the store, so nothing more may be
    /// applied, or a later batch would write them past the hole.
    failed: bool,
}

/// The result of a batch of tasks, in the order in which it is reported.
#[derive(Default)]
pub(crate) struct Done {
    /// Per job: the shard's worker, and how far it has come. Empty if the batch was lost.
    applied: Vec<(usize, AppliedReplica)>,
    /// Replicas that can't go on, and their workers.
    damaged: Vec<(usize, DamagedReplica)>,
    /// Snapshots that may be installed: everything before them is applied.
    paused: Vec<(usize, ArrivedSnapshot)>,
    /// For the thread that receives snapshots.
    received: Vec<ReceiveTask>,
    /// For the thread that sends snapshots.
    viewed: Vec<SendTask>,
    /// The callers' outcomes.
    ends: Ends,
    /// Why the batch was lost.
    lost: Option<DataError>,
}

impl Appliers {
    pub(crate) fn new(
        by_shard: FxHashMap<ShardId, Applier>,
        store: Arc<DataStore>,
        identity: StoreIdentity,
        machines: MachineFactory,
    ) -> Appliers {
        Appliers { by_shard, store, identity, machines, uncommitted: Vec::new(), failed: false }
    }

    fn run(&mut self, tasks: &mut Vec<ApplyTask>) -> Done {
        if self.failed {
            return Done { ends: refuse(tasks.drain(..)), ..Done::default() };
        }
        let mut done = Done::default();
        let store = Arc::clone(&self.store);
        let mut batch = ApplyBatch::new(&store);
        for task in tasks.drain(..) {
            self.carry_out(task, &mut batch, &mut done);
        }
        match batch.finish() {
            Ok(()) => {
                for shard in std::mem::take(&mut self.uncommitted) {
                    self.commit(shard, &mut done);
                }
            }
            Err(error) => {
                // What was committed stays committed, and the next start will apply it.
                self.failed = true;
                done.applied.clear();
                done.ends.iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
                done.ends.append(&mut self.give_up_all());
                done.lost = Some(error);
            }
        }
        for (_, applied) in &done.applied {
            if let Some(applier) = self.by_shard.get(&applied.shard) {
                applier.state.position.publish_applied(applied.index);
            }
        }
        done
    }

    fn carry_out(&mut self, task: ApplyTask, batch: &mut ApplyBatch<'_>, done: &mut Done) {
        match task {
            ApplyTask::Entries(job) => self.apply(job, batch, done),
            ApplyTask::Pause(arrived) => self.pause(*arrived, done),
            ApplyTask::Adopt(arrived) => self.adopt(arrived, batch, done),
            ApplyTask::OwnInstalled { install, outcome } => {
                self.end_own_install(*install, outcome, batch, done);
            }
            ApplyTask::Resume { shard, replica } => {
                let parked = self.find(shard, replica).and_then(|applier| applier.parked.take());
                for job in parked.into_iter().flatten() {
                    self.apply(job, batch, done);
                }
            }
            ApplyTask::End { shard, replica } => self.end(shard, replica, done),
            ApplyTask::View { shard, replica, to } => self.view(shard, replica, to, done),
            ApplyTask::Sync { shard, replica, reply } => self.sync(shard, replica, &reply, done),
        }
    }

    /// The applier of a replica, unless it was given up.
    fn find(&mut self, shard: ShardId, replica: ReplicaId) -> Option<&mut Applier> {
        self.by_shard.get_mut(&shard).filter(|applier| applier.state.replica == replica)
    }

    /// Applies a job, unless it has to wait. The entries of a replica that was given up are applied
    /// by others: what its callers asked for is committed, and its replies are lost.
    fn apply(&mut self, job: ApplyJob, batch: &mut ApplyBatch<'_>, done: &mut Done) {
        let (shard, replica) = (job.shard, job.replica);
        let Some(applier) = self.find(shard, replica) else {
            done.ends.extend(unknown(job));
            return;
        };
        if let Some(parked) = &mut applier.parked {
            parked.push(job);
            return;
        }
        let end = applier.apply(job, batch, &mut done.ends);
        let (worker, index) = (applier.state.worker, applier.record.applied.index);
        match end {
            JobEnd::InBatch => {
                done.applied.push((worker, AppliedReplica { shard, replica, index }));
            }
            JobEnd::InOwnStore { is_first: true } => self.uncommitted.push(shard),
            JobEnd::InOwnStore { is_first: false } => {}
            JobEnd::Damaged(error) => {
                let what = format!("its data: {error}");
                self.give_up(DamagedReplica::for_good(shard, replica, what), done);
            }
            JobEnd::Misused(fault) => {
                self.give_up(DamagedReplica::of_store(shard, replica, &fault), done);
            }
        }
    }

    /// Has the own store of `shard` commit what was applied, if there is any.
    fn commit(&mut self, shard: ShardId, done: &mut Done) {
        let Some(applier) = self.by_shard.get_mut(&shard) else { return };
        let Some((mut ends, fault)) = applier.commit(self.identity) else { return };
        done.ends.append(&mut ends);
        let (worker, replica) = (applier.state.worker, applier.state.replica);
        let index = applier.record.applied.index;
        match fault {
            None => done.applied.push((worker, AppliedReplica { shard, replica, index })),
            Some(fault) => self.give_up(DamagedReplica::of_store(shard, replica, &fault), done),
        }
    }

    /// Shows what an own store holds to the thread that sends snapshots. The kernel asks again for
    /// one that can't be had now. Who asks for a replica that was given up is told so by its worker.
    fn view(&mut self, shard: ShardId, replica: ReplicaId, to: ReplicaId, done: &mut Done) {
        self.commit(shard, done);
        let Some(applier) = self.find(shard, replica) else { return };
        let viewed = match applier.own_store() {
            Some(store) => store.snapshot(),
            None => Err(StoreFault::Failed("it gets a snapshot itself".to_owned())),
        };
        let record = applier.record.clone();
        let viewed = viewed.map(|snapshot| OwnSnapshot { record, snapshot });
        done.viewed.push(SendTask::Viewed { shard, to, viewed });
    }

    /// Begins to make an own store durable. One that gets a snapshot is durable with it.
    fn sync(
        &mut self,
        shard: ShardId,
        replica: ReplicaId,
        reply: &mpsc::Sender<OwnSync>,
        done: &mut Done,
    ) {
        self.commit(shard, done);
        let Some(applier) = self.find(shard, replica) else { return };
        match applier.begin_sync() {
            None => {}
            // Nobody waits once the engine stops.
            Some(Ok(sync)) => drop(reply.send(sync)),
            Some(Err(fault)) => {
                self.give_up(DamagedReplica::of_store(shard, replica, &fault), done);
            }
        }
    }

    /// Makes the own stores durable, so that the next start has little to apply again.
    fn sync_all(&mut self) {
        if self.failed {
            return;
        }
        for applier in self.by_shard.values_mut() {
            let synced = match applier.begin_sync() {
                None => continue,
                Some(Ok(sync)) => sync.run().map_err(|damaged| damaged.what),
                Some(Err(fault)) => Err(fault.to_string()),
            };
            if let Err(error) = synced {
                // Nothing is lost: the next start applies it again from the log.
                tracing::warn!(shard = %applier.state.shard, error, "an own store was not synced");
            }
        }
    }

    fn pause(&mut self, arrived: ArrivedSnapshot, done: &mut Done) {
        let (shard, to) = (arrived.shard, arrived.to);
        let applier = self.find(shard, to).filter(|applier| applier.parked.is_none());
        let Some(applier) = applier else {
            let why = "the replica is gone, or installs another snapshot".to_owned();
            done.received.push(ReceiveTask::Refused { shard, to, why });
            return;
        };
        applier.parked = Some(Vec::new());
        done.paused.push((applier.state.worker, arrived));
    }

    /// Goes on with the data of a snapshot whose log is durable (RULE 13). A machine with a store of
    /// its own has to take it in first, on another thread: that takes long, and other shards go on.
    fn adopt(
        &mut self,
        arrived: Box<ArrivedSnapshot>,
        batch: &mut ApplyBatch<'_>,
        done: &mut Done,
    ) {
        let (shard, to) = (arrived.shard, arrived.to);
        let applier = self.by_shard.get_mut(&shard).filter(|it| it.state.replica == to);
        // A replica that ended meanwhile was reported to the thread that receives snapshots.
        let Some(applier) = applier else { return };
        if applier.state.keeps_own_store() {
            let machine = applier.machine.take().expect("a snapshot is put in force once");
            let install = Box::new(OwnInstall { arrived, machine });
            done.received.push(ReceiveTask::InstallOwn(install));
            return;
        }
        // What the former one remembers of its map is not so in this one.
        applier.machine = Some((self.machines)(shard));
        self.put_in_force(&arrived, batch, done);
    }

    /// Goes on with a snapshot that its own store has taken in, durably.
    fn end_own_install(
        &mut self,
        install: OwnInstall,
        outcome: Result<(), StoreFault>,
        batch: &mut ApplyBatch<'_>,
        done: &mut Done,
    ) {
        let OwnInstall { arrived, machine } = install;
        let (shard, to) = (arrived.shard, arrived.to);
        let Some(applier) = self.find(shard, to) else { return };
        if let Err(fault) = outcome {
            self.give_up(DamagedReplica::of_store(shard, to, &fault), done);
            return;
        }
        applier.machine = Some(machine);
        applier.state.note_own_synced(arrived.record.applied.index);
        self.put_in_force(&arrived, batch, done);
    }

    fn put_in_force(
        &mut self,
        arrived: &ArrivedSnapshot,
        batch: &mut ApplyBatch<'_>,
        done: &mut Done,
    ) {
        let (shard, to) = (arrived.shard, arrived.to);
        let Some(applier) = self.find(shard, to) else { return };
        let former = applier.state.space();
        let index = arrived.record.applied.index;
        applier.record = arrived.record.clone();
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

    /// Applies nothing more of a replica, and has its worker give it up.
    fn give_up(&mut self, damaged: DamagedReplica, done: &mut Done) {
        let (shard, replica) = (damaged.shard, damaged.replica);
        let Some(applier) = self.find(shard, replica) else { return };
        done.damaged.push((applier.state.worker, damaged));
        self.end(shard, replica, done);
    }

    fn end(&mut self, shard: ShardId, replica: ReplicaId, done: &mut Done) {
        if self.find(shard, replica).is_none() {
            return;
        }
        let mut applier = self.by_shard.remove(&shard).expect("found just now");
        let callers = applier.give_up();
        done.ends.extend(callers.map(|caller| (caller, Outcome::UnknownLeaderChanged)));
    }

    /// The callers of what waits.
    fn give_up_all(&mut self) -> Ends {
        let callers = self.by_shard.values_mut().flat_map(Applier::give_up);
        callers.map(|caller| (caller, Outcome::UnknownStopped)).collect()
    }
}

fn refuse(tasks: impl Iterator<Item = ApplyTask>) -> Ends {
    let callers = tasks.flat_map(|task| match task {
        ApplyTask::Entries(job) => job.callers,
        _ => Vec::new(),
    });
    callers.map(|(_, caller)| (caller, Outcome::UnknownStopped)).collect()
}

/// The outcomes of entries that this replica does not apply.
fn unknown(job: ApplyJob) -> Ends {
    let unknown = |(_, caller)| (caller, Outcome::UnknownLeaderChanged);
    job.callers.into_iter().map(unknown).collect()
}

/// Everything an apply thread works with.
pub(crate) struct ApplyThread {
    queue: Arc<Queue<ApplyTask>>,
    received: Arc<Queue<ReceiveTask>>,
    sent: Arc<Queue<SendTask>>,
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
            sent: Arc::clone(&shared.queues.sent),
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
        self.appliers.sync_all();
    }

    /// The workers first, because their followers and readers wait; then the callers.
    fn report(&mut self, done: Done) {
        let Done { applied, damaged, paused, received, viewed, ends, lost } = done;
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
        self.sent.push_all(viewed);
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
        let mut ends = self.appliers.give_up_all();
        ends.extend(refuse(self.queue.close_and_take().into_iter()));
        self.report(Done { ends, ..Done::default() });
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "own_apply_tests.rs"]
mod own_tests;
