//! One replica's interpreter of commands, and how far it has applied.

use std::sync::Arc;

use bytes::Bytes;
use quorate_machine::{
    AppliedRecord, ApplyOutcome, ApplyTarget, OrderedMap, OwnStore, StateMachine, StoreFault,
    StoreSync, apply_committed,
};
use quorate_raft::Committed;
use quorate_types::{Index, LogId, ReplicaId, ShardId};

use crate::calls::call::{Applied, Completion, Outcome};
use crate::state::shards::{DamagedReplica, LocalShard};
use crate::store::apply_batch::ApplyBatch;
use crate::store::data_store::DataError;
use crate::store::identity::StoreIdentity;
use crate::store::own_record::OwnRecord;

/// Committed entries of one shard and the callers that wait for them.
pub(crate) struct ApplyJob {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) committed: Committed,
    /// Ascending by index.
    pub(crate) callers: Vec<(Index, Completion)>,
}

/// The callers of applied entries, and what they are told.
pub(crate) type Ends = Vec<(Completion, Outcome)>;

/// One replica's interpreter and how far it has applied.
pub(crate) struct Applier {
    pub(crate) state: Arc<LocalShard>,
    pub(crate) record: AppliedRecord,
    /// Away while it puts a snapshot into its own store; entries wait meanwhile.
    pub(super) machine: Option<Box<dyn StateMachine>>,
    /// Entries that wait until it is known whether a snapshot is taken, or until it is in force.
    pub(super) parked: Option<Vec<ApplyJob>>,
    /// The callers of entries that its own store has not committed yet; `None` if it has committed
    /// everything, or if there is no such store.
    uncommitted: Option<Ends>,
}

/// What makes an own store durable through an entry.
pub(crate) struct OwnSync {
    pub(crate) state: Arc<LocalShard>,
    pub(crate) through: Index,
    pub(crate) sync: StoreSync,
}

impl OwnSync {
    /// Does it, and notes how far the store is durable now. Blocks for the disk.
    pub(crate) fn run(self) -> Result<(), DamagedReplica> {
        let OwnSync { state, through, sync } = self;
        match sync() {
            Ok(()) => {
                state.note_own_synced(through);
                Ok(())
            }
            Err(fault) => Err(DamagedReplica::of_store(state.shard, state.replica, &fault)),
        }
    }
}

/// What applying came to.
pub(super) enum JobEnd {
    /// The batch has the entries, and their callers wait for it.
    InBatch,
    /// The machine's own store is to commit them, with those before them unless these are the first.
    InOwnStore { is_first: bool },
    /// The data is damaged.
    Damaged(DataError),
    /// The machine does what no machine may.
    Misused(StoreFault),
}

impl Applier {
    pub(crate) fn new(
        state: Arc<LocalShard>,
        machine: Box<dyn StateMachine>,
        record: AppliedRecord,
    ) -> Applier {
        Applier { state, record, machine: Some(machine), parked: None, uncommitted: None }
    }

    /// Applies a job's entries to `batch`, and adds its callers' outcomes to `ends`; or to the
    /// machine's own store, and keeps the outcomes until that has committed them.
    pub(super) fn apply(
        &mut self,
        job: ApplyJob,
        batch: &mut ApplyBatch<'_>,
        ends: &mut Ends,
    ) -> JobEnd {
        let epoch = self.record.epoch;
        let end = if self.state.keeps_own_store() {
            let mut map = NoMap::default();
            let is_first = self.uncommitted.is_none();
            let mut uncommitted = self.uncommitted.take().unwrap_or_default();
            self.interpret(job, &mut map, &mut uncommitted);
            self.uncommitted = Some(uncommitted);
            if map.is_written {
                let what = "its state machine has written into the engine's map".to_owned();
                return JobEnd::Misused(StoreFault::Failed(what));
            }
            JobEnd::InOwnStore { is_first }
        } else {
            batch.begin(self.state.space());
            let first_end = ends.len();
            self.interpret(job, batch, ends);
            if let Some(error) = batch.take_damage() {
                // What the machine has answered since may come from damaged data.
                ends[first_end..].iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
                return JobEnd::Damaged(error);
            }
            JobEnd::InBatch
        };
        if epoch != self.record.epoch {
            self.state.follow(&self.record);
        }
        end
    }

    fn interpret(&mut self, job: ApplyJob, target: &mut dyn ApplyTarget, ends: &mut Ends) {
        let ApplyJob { shard, committed, callers, .. } = job;
        let mut callers = callers.into_iter().peekable();
        let machine = self.machine.as_mut().expect("entries wait while it is away");
        apply_committed(
            shard,
            machine.as_mut(),
            &mut self.record,
            &committed,
            target,
            &mut |id, outcome| {
                if let Some((_, caller)) = callers.next_if(|(wanted, _)| *wanted == id.index) {
                    ends.push((caller, end_of(id, outcome, &self.state)));
                }
            },
        );
        assert!(callers.next().is_none(), "shard {shard}: a caller's entry is missing");
    }

    /// Has the own store commit what was applied. `None` if there is nothing to commit; the callers
    /// with their outcomes, and what went wrong.
    pub(super) fn commit(&mut self, identity: StoreIdentity) -> Option<(Ends, Option<StoreFault>)> {
        let mut ends = self.uncommitted.take()?;
        let record = self.own_record(identity);
        let fault = self.own_store().expect("it keeps one").commit(&record).err();
        if fault.is_some() {
            ends.iter_mut().for_each(|(_, end)| *end = Outcome::UnknownStopped);
        }
        Some((ends, fault))
    }

    /// Its own store, unless it has none or it is away.
    pub(super) fn own_store(&mut self) -> Option<&mut dyn OwnStore> {
        self.machine.as_mut().and_then(|machine| machine.own_store())
    }

    /// Begins to make durable what its own store has committed, if there is such a store here.
    pub(super) fn begin_sync(&mut self) -> Option<Result<OwnSync, StoreFault>> {
        let (state, through) = (Arc::clone(&self.state), self.record.applied.index);
        let sync = self.own_store()?.begin_sync();
        Some(sync.map(|sync| OwnSync { state, through, sync }))
    }

    /// What its own store keeps beside its data.
    fn own_record(&self, identity: StoreIdentity) -> Vec<u8> {
        OwnRecord { identity, shard: self.state.shard, record: self.record.clone() }.encode()
    }

    /// The callers of everything that is not in force, which is given up.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Completion> + use<> {
        let parked = self.parked.take().into_iter().flatten();
        let parked = parked.flat_map(|job| job.callers).map(|(_, caller)| caller);
        let uncommitted = self.uncommitted.take().into_iter().flatten();
        parked.chain(uncommitted.map(|(caller, _)| caller))
    }
}

fn end_of(id: LogId, outcome: ApplyOutcome, state: &LocalShard) -> Outcome {
    match outcome {
        ApplyOutcome::Reply(reply) => Outcome::Applied(Applied { id, reply }),
        ApplyOutcome::StaleVersion { .. } => Outcome::Stale(Box::new(state.descriptor())),
        ApplyOutcome::Malformed => Outcome::Malformed,
    }
}

/// The map of a machine that keeps a store of its own: what it would write here would have no record
/// beside it.
#[derive(Default)]
struct NoMap {
    is_written: bool,
}

impl OrderedMap for NoMap {
    fn get(&mut self, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn put(&mut self, _: &[u8], _: &[u8]) {
        self.is_written = true;
    }

    fn delete(&mut self, _: &[u8]) {
        self.is_written = true;
    }

    fn delete_range(&mut self, _: &[u8], _: &[u8]) {
        self.is_written = true;
    }

    fn scan(&mut self, _: &[u8], _: Option<&[u8]>, _: &mut dyn FnMut(&[u8], &[u8]) -> bool) {}
}

impl ApplyTarget for NoMap {
    fn finish_entry(&mut self, _: &AppliedRecord) {}
}
