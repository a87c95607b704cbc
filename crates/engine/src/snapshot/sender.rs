//! The thread that sends snapshots to followers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_host::ShardSnapshot;
use quorate_machine::{AppliedRecord, AppliedRecordError, StoreFault};
use quorate_raft::SnapshotOutcome;
use quorate_transport::{SendError, Transport};
use quorate_types::{LogId, Monotonic, NodeId, limits};

use crate::snapshot::part::{Part, PartAnswer, TransferId, Verdict};
use crate::snapshot::rate::Rate;
use crate::snapshot::view::{OwnView, View};
use crate::state::clock;
use crate::state::engine_state::EngineState;
use crate::state::shards::DamagedReplica;
use crate::state::transfers::TransferProgress;
use crate::store::data_store::DataStore;
use crate::store::space_view::Digest;
use crate::worker::apply::ApplyTask;
use crate::worker::inbox::{Inbox, Input};
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;
use crate::worker::snapshots::{OwnSnapshot, SendTask};

/// A part that is not answered in this time is sent again.
const RESEND: Duration = Duration::from_secs(1);
/// Pause before the next look at what soon changes: an applied state that is older than the follower
/// needs, or a lane that is full.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Everything the thread works with.
pub(crate) struct SnapshotSender {
    queue: Arc<Queue<SendTask>>,
    applies: Arc<Queue<ApplyTask>>,
    data: Arc<DataStore>,
    inboxes: Vec<Arc<Inbox>>,
    transport: Arc<Transport>,
    state: Arc<EngineState>,
    /// Makes transfers of different lives distinct.
    nonce: u64,
}

impl SnapshotSender {
    pub(crate) fn new(shared: &WorkerShared, data: Arc<DataStore>, nonce: u64) -> SnapshotSender {
        SnapshotSender {
            queue: Arc::clone(&shared.queues.sent),
            applies: Arc::clone(&shared.queues.applies),
            data,
            inboxes: shared.inboxes.clone(),
            transport: Arc::clone(&shared.transport),
            state: Arc::clone(&shared.state),
            nonce,
        }
    }

    /// Sends until the queue is closed.
    pub(crate) fn run(self) {
        let mut sending = Sending {
            parts: &self,
            waiting: VecDeque::new(),
            asked: Vec::new(),
            transfers: BTreeMap::new(),
            begun: 0,
            rate: Rate::new(
                limits::SNAPSHOT_BYTES_PER_SECOND_MAX,
                limits::SNAPSHOT_CHUNK_BYTES_MAX,
            ),
        };
        let mut tasks = Vec::new();
        while self.queue.take_within(&mut tasks, sending.wait(clock::now())) {
            let now = clock::now();
            tasks.drain(..).for_each(|task| sending.take_in(now, task));
            sending.begin_waiting(now);
            sending.proceed(now);
        }
    }
}

/// A snapshot that a follower waits for and that is not yet begun.
struct Waiting {
    worker: usize,
    wanted: ShardSnapshot,
    not_before: Monotonic,
}

/// A snapshot on its way.
struct Transfer<'a> {
    worker: usize,
    wanted: ShardSnapshot,
    view: View<'a>,
    base: LogId,
    digest: Digest,
    /// The number of the part under way, and its bytes.
    number: u32,
    part: Bytes,
    /// Where the next part begins; `None` if the one under way is the last.
    next: Option<Vec<u8>>,
    /// When the part is to be sent, for the first time or again.
    due: Monotonic,
    /// When the transfer last came further.
    moved: Monotonic,
    /// There was no connection for the last part; noted once.
    is_cut_off: bool,
}

struct Sending<'a> {
    parts: &'a SnapshotSender,
    waiting: VecDeque<Waiting>,
    /// Snapshots of own stores that the apply thread was asked for. Each has the place of a transfer.
    asked: Vec<Waiting>,
    transfers: BTreeMap<TransferId, Transfer<'a>>,
    begun: u64,
    rate: Rate,
}

impl<'a> Sending<'a> {
    /// How long there is nothing to do unless something comes in.
    fn wait(&self, now: Monotonic) -> Option<Duration> {
        let has_place = self.places_taken() < limits::SNAPSHOTS_IN_FLIGHT_MAX;
        let waiting = self.waiting.iter().filter(|_| has_place).map(|waiting| waiting.not_before);
        let due = self.transfers.values().map(|it| it.due.max(self.rate.free_at()));
        waiting.chain(due).min().map(|at| at.since(now))
    }

    fn places_taken(&self) -> usize {
        self.transfers.len() + self.asked.len()
    }

    fn take_in(&mut self, now: Monotonic, task: SendTask) {
        match task {
            SendTask::Begin { worker, wanted } => {
                // The kernel asks again only after the last answer was given; if it has ended its
                // leadership meanwhile, nobody waits for that one.
                self.drop_where(|it| it.shard == wanted.shard && it.to == wanted.to);
                self.waiting.push_back(Waiting { worker, wanted, not_before: now });
            }
            SendTask::StepDown(shard) => self.drop_where(|it| it.shard == shard),
            SendTask::Viewed { shard, to, viewed } => {
                let is_it = |it: &Waiting| it.wanted.shard == shard && it.wanted.to == to;
                // Nobody waits for it any more if it is not there.
                let asked = self.asked.iter().position(is_it).map(|at| self.asked.swap_remove(at));
                if let Some(asked) = asked {
                    self.begin_own(now, asked, viewed);
                }
            }
            SendTask::Answer { from, part } => self.take_answer(now, from, &part),
            SendTask::Connected(node) => {
                let broken = self.transfers.values_mut().filter(|it| it.wanted.node == node);
                broken.for_each(|transfer| transfer.due = now);
            }
        }
    }

    /// Forgets snapshots without an answer to their kernels.
    fn drop_where(&mut self, is_dropped: impl Fn(&ShardSnapshot) -> bool) {
        let before = self.waiting.len() + self.asked.len();
        self.waiting.retain(|it| !is_dropped(&it.wanted));
        self.asked.retain(|it| !is_dropped(&it.wanted));
        let waiting = before - self.waiting.len() - self.asked.len();
        let dropped: Vec<TransferId> = self
            .transfers
            .iter()
            .filter(|(_, it)| is_dropped(&it.wanted))
            .map(|(id, _)| *id)
            .collect();
        (0..waiting).for_each(|_| self.parts.state.transfers.end_wanted());
        for id in dropped {
            self.remove(id);
        }
    }

    /// Begins as many of the waiting snapshots as may be under way at once.
    fn begin_waiting(&mut self, now: Monotonic) {
        for _ in 0..self.waiting.len() {
            if self.places_taken() >= limits::SNAPSHOTS_IN_FLIGHT_MAX {
                return;
            }
            let Some(waiting) = self.waiting.pop_front() else { return };
            let node = waiting.wanted.node;
            let asked = self.asked.iter().map(|it| it.wanted.node);
            let nodes = self.transfers.values().map(|it| it.wanted.node).chain(asked);
            let to_node = nodes.filter(|it| *it == node).count();
            if waiting.not_before > now {
                self.waiting.push_back(waiting);
            } else if !self.parts.transport.is_connected(node) {
                // The kernel asks again after a while.
                self.parts.state.transfers.end_wanted();
                self.report(waiting.worker, &waiting.wanted, SnapshotOutcome::Failed);
            } else if to_node >= limits::SNAPSHOTS_TO_NODE_MAX {
                let not_before = now + RESEND;
                self.waiting.push_back(Waiting { not_before, ..waiting });
            } else {
                self.begin(now, waiting);
            }
        }
    }

    fn begin(&mut self, now: Monotonic, waiting: Waiting) {
        let ShardSnapshot { shard, from, to, .. } = waiting.wanted;
        let state = self.parts.state.shards.get(shard);
        let Some(state) = state.filter(|state| state.replica == from) else {
            self.parts.state.transfers.end_wanted();
            return;
        };
        if state.keeps_own_store() {
            self.parts.applies.push_all([ApplyTask::View { shard, replica: from, to }]);
            self.asked.push(waiting);
            return;
        }
        let space = state.space();
        let data = &self.parts.data;
        let view = data.view(space);
        match view.record() {
            // It was replaced between the two looks, or is applied only partly.
            Ok(record) if state.space() != space || is_older(&record, &waiting.wanted) => {
                self.look_again(now, waiting);
            }
            Ok(record) => {
                let record = record.and_then(Result::ok).expect("looked at just now");
                let bytes_total = data.space_bytes(space);
                self.begin_with(now, waiting, View::Space(data, view), record, bytes_total);
            }
            Err(error) => {
                self.parts.state.transfers.end_wanted();
                self.fail_read(waiting.worker, &waiting.wanted, &data.fault_of(&error));
            }
        }
    }

    /// Begins to send what the apply thread has shown of an own store.
    fn begin_own(
        &mut self,
        now: Monotonic,
        asked: Waiting,
        viewed: Result<OwnSnapshot, StoreFault>,
    ) {
        match viewed {
            Ok(OwnSnapshot { record, .. }) if record.applied.index < asked.wanted.at_least => {
                self.look_again(now, asked);
            }
            Ok(OwnSnapshot { record, snapshot }) => {
                let bytes_total = snapshot.bytes_estimate();
                let view = View::Own(OwnView::new(snapshot));
                self.begin_with(now, asked, view, record, bytes_total);
            }
            Err(fault) => {
                self.parts.state.transfers.end_wanted();
                self.fail_read(asked.worker, &asked.wanted, &fault);
            }
        }
    }

    fn look_again(&mut self, now: Monotonic, waiting: Waiting) {
        let not_before = now + LOOK_AGAIN;
        self.waiting.push_back(Waiting { not_before, ..waiting });
    }

    fn begin_with(
        &mut self,
        now: Monotonic,
        waiting: Waiting,
        view: View<'a>,
        record: AppliedRecord,
        bytes_total: u64,
    ) {
        let Waiting { worker, wanted, .. } = waiting;
        self.begun += 1;
        let id = TransferId(self.parts.nonce.wrapping_add(self.begun));
        let base = record.applied;
        tracing::info!(shard = %wanted.shard, to = %wanted.node, %base, "sending a snapshot");
        let progress = TransferProgress::begin(now, wanted.node, base.index, bytes_total);
        let sending = &self.parts.state.transfers.sending;
        sending.lock().insert((wanted.shard, wanted.to), progress);
        let mut transfer = Transfer {
            worker,
            wanted,
            view,
            base,
            digest: Digest::default(),
            number: 0,
            part: Bytes::new(),
            next: Some(Vec::new()),
            due: now,
            moved: now,
            is_cut_off: false,
        };
        match cut_part(&mut transfer, id, bytes_total, Some(record)) {
            Ok(()) => drop(self.transfers.insert(id, transfer)),
            Err(fault) => self.end_unreadable(id, transfer, &fault),
        }
    }

    fn take_answer(&mut self, now: Monotonic, from: NodeId, bytes: &Bytes) {
        let answer = match PartAnswer::decode(bytes) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(node = %from, %error, "an answer to a part of a snapshot");
                return;
            }
        };
        let id = answer.transfer;
        let transfer = self.transfers.get_mut(&id).filter(|it| it.wanted.node == from);
        let Some(transfer) = transfer else { return };
        match answer.verdict {
            Verdict::Next(number) if number == transfer.number + 1 => {
                transfer.moved = now;
                self.go_on(now, id);
            }
            // The receiver works on what has arrived.
            Verdict::Next(number) if number == transfer.number => transfer.moved = now,
            // Of a part that was sent twice.
            Verdict::Next(_) => {}
            Verdict::Busy => transfer.due = now + RESEND,
            Verdict::Installed => {
                let outcome = SnapshotOutcome::Installed(transfer.base);
                self.end(id, outcome, "installed");
            }
            Verdict::Refused(why) => self.end(id, SnapshotOutcome::Failed, &why),
        }
    }

    /// The part under way has arrived.
    fn go_on(&mut self, now: Monotonic, id: TransferId) {
        let transfer = self.transfers.get_mut(&id).expect("looked at just now");
        let sending = &self.parts.state.transfers.sending;
        let mut bytes_total = 0;
        if let Some(progress) = sending.lock().get_mut(&(transfer.wanted.shard, transfer.wanted.to))
        {
            progress.advance(now, transfer.part.len() as u64);
            progress.has_arrived = transfer.next.is_none();
            bytes_total = progress.bytes_total;
        }
        self.parts.state.counters.snapshot_bytes_sent.add(transfer.part.len() as u64);
        if transfer.next.is_none() {
            // Everything has arrived. Until it is in force, an empty part asks how it stands.
            transfer.number += 1;
            transfer.part = part_of(transfer, id, bytes_total).encode();
            transfer.due = now + RESEND;
            return;
        }
        transfer.number += 1;
        transfer.due = now;
        if let Err(fault) = cut_part(transfer, id, bytes_total, None) {
            let transfer = self.transfers.remove(&id).expect("looked at just now");
            self.end_unreadable(id, transfer, &fault);
        }
    }

    /// Sends what is due, as far as the rate allows, the longest due first.
    fn proceed(&mut self, now: Monotonic) {
        loop {
            let next = self.transfers.iter_mut().min_by_key(|(_, transfer)| transfer.due);
            let Some((id, transfer)) = next.filter(|(_, it)| it.due <= now) else { return };
            // A node that has no room, or is gone, must not keep the place from others.
            if now.since(transfer.moved) >= limits::SNAPSHOT_PATIENCE {
                let id = *id;
                self.end(id, SnapshotOutcome::Failed, "it comes no further");
                continue;
            }
            if self.rate.free_at() > now {
                return;
            }
            self.rate.take(now, transfer.part.len());
            transfer.due = now + RESEND;
            let (node, part) = (transfer.wanted.node, transfer.part.clone());
            let sent = self.parts.transport.send_snapshot_part(node, part);
            // A lane that is full is no event: the parts of others leave it in milliseconds.
            if sent == Err(SendError::Full) {
                transfer.due = now + LOOK_AGAIN;
            }
            let is_cut_off = matches!(sent, Err(SendError::Unreachable));
            if is_cut_off && !transfer.is_cut_off {
                let shard = transfer.wanted.shard;
                tracing::info!(%shard, to = %node, "a snapshot waits for a connection");
            }
            transfer.is_cut_off = is_cut_off;
        }
    }

    fn end(&mut self, id: TransferId, outcome: SnapshotOutcome, why: &str) {
        let Some(transfer) = self.remove(id) else { return };
        let ShardSnapshot { shard, node, .. } = transfer.wanted;
        let counters = &self.parts.state.counters;
        match outcome {
            SnapshotOutcome::Installed(base) => {
                counters.snapshots_sent.add(1);
                tracing::info!(%shard, to = %node, %base, "a snapshot is installed there");
            }
            SnapshotOutcome::Failed => {
                counters.snapshots_failed.add(1);
                tracing::warn!(%shard, to = %node, why, "a snapshot was not taken");
            }
        }
        self.report(transfer.worker, &transfer.wanted, outcome);
    }

    fn end_unreadable(&mut self, id: TransferId, transfer: Transfer<'a>, fault: &StoreFault) {
        let (worker, wanted) = (transfer.worker, transfer.wanted);
        self.transfers.insert(id, transfer);
        self.remove(id);
        self.fail_read(worker, &wanted, fault);
    }

    /// The replica's own data can't be read.
    fn fail_read(&self, worker: usize, wanted: &ShardSnapshot, fault: &StoreFault) {
        let (shard, replica) = (wanted.shard, wanted.from);
        match fault {
            StoreFault::Damaged(what) => {
                let what = format!("its data, read for a snapshot: {what}");
                let damaged = DamagedReplica::for_good(shard, replica, what);
                self.parts.inboxes[worker].push(Input::Damaged(damaged));
            }
            StoreFault::Failed(error) => {
                tracing::error!(%shard, error, "a snapshot can't be read");
                self.report(worker, wanted, SnapshotOutcome::Failed);
            }
        }
    }

    fn report(&self, worker: usize, wanted: &ShardSnapshot, outcome: SnapshotOutcome) {
        let ShardSnapshot { shard, to, .. } = *wanted;
        self.parts.inboxes[worker].push(Input::SnapshotEnded { shard, to, outcome });
    }

    fn remove(&mut self, id: TransferId) -> Option<Transfer<'a>> {
        let transfer = self.transfers.remove(&id)?;
        let transfers = &self.parts.state.transfers;
        transfers.sending.lock().remove(&(transfer.wanted.shard, transfer.wanted.to));
        transfers.end_wanted();
        Some(transfer)
    }
}

/// Whether a view is not of the state that the follower needs, or has no record at all.
fn is_older(
    record: &Option<Result<AppliedRecord, AppliedRecordError>>,
    wanted: &ShardSnapshot,
) -> bool {
    match record {
        Some(Ok(record)) => record.applied.index < wanted.at_least,
        _ => true,
    }
}

/// Reads the next part, which begins where the last one has ended.
fn cut_part(
    transfer: &mut Transfer<'_>,
    id: TransferId,
    bytes_total: u64,
    record: Option<AppliedRecord>,
) -> Result<(), StoreFault> {
    let start = transfer.next.take().expect("there is more");
    let pairs = transfer.view.pairs(&start)?;
    transfer.digest.add(pairs.count, &pairs.bytes);
    transfer.next = pairs.next;
    transfer.part = Part {
        record,
        digest: transfer.next.is_none().then_some(transfer.digest),
        pairs: pairs.bytes.into(),
        ..part_of(transfer, id, bytes_total)
    }
    .encode();
    Ok(())
}

/// A part without contents.
fn part_of(transfer: &Transfer<'_>, id: TransferId, bytes_total: u64) -> Part {
    Part {
        transfer: id,
        shard: transfer.wanted.shard,
        from: transfer.wanted.from,
        term: transfer.wanted.term,
        to: transfer.wanted.to,
        number: transfer.number,
        bytes_total,
        record: None,
        digest: None,
        pairs: Bytes::new(),
    }
}
