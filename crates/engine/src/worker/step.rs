//! A step worker: the thread that owns the kernels of its shards and carries out their turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_host::{
    Answer, Apply, Event, Host, HostRefusal, ReplicaInit, ShardInstall, ShardLoss, ShardRole,
    Ticket, Turn,
};
use quorate_log::{EndReason, LogStore, LogWriter, ReplicaEnd, ShardPurge, ShardWrite, TurnWrite};
use quorate_raft::{Message, Role};
use quorate_transport::{ShardMessage, Transport, WallClock};
use quorate_types::{LogId, Monotonic, NodeId, ShardId, WallMillis, limits};
use rustc_hash::FxHashMap;

use crate::calls::call::{Call, CallKind, Outcome};
use crate::calls::progress::Stage;
use crate::cluster::bootstrap_state::BootstrapState;
use crate::error::FatalError;
use crate::peer::replies::Replies;
use crate::state::clock;
use crate::state::engine_state::EngineState;
use crate::state::shards::DamagedReplica;
use crate::state::stall::Stalled;
use crate::worker::applier::ApplyJob;
use crate::worker::apply::ApplyTask;
use crate::worker::fetch::FetchJob;
use crate::worker::inbox::{AppliedReplica, Inbox, Input, PurgeBound};
use crate::worker::pending_calls::{PendingCall, PendingCalls};
use crate::worker::shared::{Queues, WorkerShared};
use crate::worker::snapshots::{ArrivedSnapshot, ReceiveTask, SendTask};

/// Longest sleep of a worker that has no timer to wait for.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// Sees each promise that a node makes to others, just before it is sent. For tests that compare
/// promises with what a crash left on disk.
pub trait Observer: Send + Sync {
    /// `message` of `shard` is about to be sent to `to`.
    fn handle_sent(&self, to: NodeId, shard: ShardId, message: &Message);
}

/// The thread that owns a host. No other thread touches its state.
pub(crate) struct Worker {
    index: usize,
    host: Host,
    /// Replicas that stay silent until the directory is founded.
    silent: Vec<ReplicaInit>,
    /// What it last reported to the engine's [`Stalls`](crate::state::stall::Stalls).
    stalled: Stalled,
    pending_calls: PendingCalls,
    /// Snapshots that the host is told to install with the next turn.
    arrived: FxHashMap<ShardId, Box<ArrivedSnapshot>>,
    /// Snapshots that were taken, by the turn whose write makes them the state of the log.
    installing: VecDeque<(u64, Box<ArrivedSnapshot>)>,
    /// Replicas that end with the next turn.
    ends: Vec<ReplicaEnd>,
    replies: Replies,
    inbox: Arc<Inbox>,
    state: Arc<EngineState>,
    bootstrap_state: Arc<BootstrapState>,
    wall_clock: WallClock,
    transport: Arc<Transport>,
    log: Arc<LogStore>,
    writer: Arc<LogWriter>,
    queues: Queues,
    observer: Option<Arc<dyn Observer>>,
}

impl Worker {
    /// Worker number `index`, whose replicas are `silent` until the directory is founded.
    pub(crate) fn new(
        shared: &WorkerShared,
        index: usize,
        host: Host,
        silent: Vec<ReplicaInit>,
    ) -> Worker {
        Worker {
            index,
            host,
            silent,
            stalled: Stalled::default(),
            pending_calls: PendingCalls::default(),
            arrived: FxHashMap::default(),
            installing: VecDeque::new(),
            ends: Vec::new(),
            replies: Replies::new(Arc::clone(&shared.transport)),
            inbox: Arc::clone(&shared.inboxes[index]),
            state: Arc::clone(&shared.state),
            bootstrap_state: Arc::clone(&shared.bootstrap_state),
            wall_clock: Arc::clone(&shared.wall_clock),
            transport: Arc::clone(&shared.transport),
            log: Arc::clone(&shared.log),
            writer: Arc::clone(&shared.writer),
            queues: shared.queues.clone(),
            observer: shared.observer.clone(),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Steps until it is told to stop or the engine has a fatal error; then answers all callers.
    pub(crate) fn run(mut self) {
        let mut inputs = Vec::new();
        let mut stopping = false;
        while !stopping && !self.state.fatal.is_set() {
            self.add_silent();
            self.inbox.take(&mut inputs, Some(self.wait()));
            // Read once for all inputs, and after they came in: leases are judged by this time.
            let (now, wall) = (clock::now(), (self.wall_clock)());
            for input in inputs.drain(..) {
                stopping |= self.take_in(now, wall, input);
            }
            self.host.handle_timeouts(now);
            self.report_stall();
            let turn = self.host.take_turn(now);
            self.carry_out(turn);
            self.state.counters.turns.add(1);
        }
    }

    fn report_stall(&mut self) {
        let stalled = Stalled { disk: self.host.is_stalled(), apply: self.host.is_apply_stalled() };
        let before = std::mem::replace(&mut self.stalled, stalled);
        if stalled == before {
            return;
        }
        self.state.stalls.change(before, stalled);
        let report = |noun: &str, limit: Duration, before: bool, now: bool| match (before, now) {
            (false, true) => {
                tracing::error!("{noun} finishes nothing for {limit:?}: leaderships are given up");
            }
            (true, false) => tracing::warn!("{noun} goes on"),
            _ => {}
        };
        report("the log's disk", limits::DISK_STALL, before.disk, stalled.disk);
        report("the state machine", limits::APPLY_STALL, before.apply, stalled.apply);
    }

    /// Lets the replicas send once the directory is founded.
    fn add_silent(&mut self) {
        if !self.silent.is_empty() && self.bootstrap_state.is_founded() {
            let now = clock::now();
            self.silent.drain(..).for_each(|replica| self.host.add(now, replica));
        }
    }

    fn wait(&self) -> Duration {
        self.host.poll_timeout().map_or(IDLE_WAIT, |at| at.since(clock::now()).min(IDLE_WAIT))
    }

    /// True if it is time to stop.
    fn take_in(&mut self, now: Monotonic, wall: WallMillis, input: Input) -> bool {
        match input {
            Input::Call(call) => {
                let event = self.event_of(call);
                self.host.handle(now, wall, event);
            }
            Input::Messages { from, messages } => {
                for (shard, message) in messages {
                    self.host.handle(now, wall, Event::Message { from, shard, message });
                }
            }
            Input::Persisted(turn) => {
                self.adopt_installed(turn);
                self.host.handle(now, wall, Event::Persisted { turn });
            }
            Input::Applied(applied) => {
                for AppliedReplica { shard, replica, index } in applied {
                    self.host.handle(now, wall, Event::Applied { shard, replica, index });
                }
            }
            Input::Fetched { shard, replica, reader, runs } => {
                self.host.handle(now, wall, Event::Fetched { shard, replica, reader, runs });
            }
            Input::Install(arrived) => self.install(now, wall, arrived),
            Input::SnapshotEnded { shard, to, outcome } => {
                self.host.handle(now, wall, Event::SnapshotEnded { shard, to, outcome });
            }
            Input::Purge(bounds) => {
                for PurgeBound { shard, replica, to, kept_from } in bounds {
                    let purge = Event::Purge { shard, replica, to, kept_from };
                    self.host.handle(now, wall, purge);
                }
            }
            Input::Damaged(damaged) => self.end_damaged(now, damaged),
            Input::View(sender) => {
                let views = self.host.shards().filter_map(|id| Some((id, self.host.view(id)?)));
                drop(sender.send(views.collect()));
            }
            // Checked before the next sleep.
            Input::Founded => {}
            Input::Stop => return true,
        }
        false
    }

    fn install(&mut self, now: Monotonic, wall: WallMillis, arrived: Box<ArrivedSnapshot>) {
        let ArrivedSnapshot { shard, to, from, term, ref record, .. } = *arrived;
        let install = Event::Install {
            shard,
            to,
            from,
            term,
            base: record.applied,
            membership: record.membership.clone(),
            descriptor_version: record.epoch.version,
        };
        self.arrived.insert(shard, arrived);
        self.host.handle(now, wall, install);
    }

    fn event_of(&mut self, call: Call) -> Event {
        let Call { shard, descriptor_version, kind, completion } = call;
        let reads = matches!(kind, CallKind::Read);
        let progress = completion.wants_progress();
        let ticket = self.pending_calls.insert(PendingCall { completion, shard, reads });
        match kind {
            CallKind::Write(command) => {
                Event::Write { shard, ticket, descriptor_version, session: None, command, progress }
            }
            CallKind::Read => Event::Read { shard, ticket, descriptor_version },
            CallKind::TransferLeader(to) => Event::TransferLeader { shard, ticket, to },
        }
    }

    /// Appends are sent first, so that the followers' disks work in parallel with ours.
    fn carry_out(&mut self, turn: Turn) {
        let Turn {
            send,
            write,
            accepted,
            applies,
            answers,
            fetches,
            roles,
            changes,
            snapshots,
            installs,
            purges,
            control,
            notes,
            losses,
        } = turn;
        // Nobody asks for changes of members yet, and without node liveness there is no control.
        assert!(changes.is_empty() && control.is_empty() && notes.is_empty(), "nobody asked");
        if let Some(loss) = losses.first() {
            self.end_by_loss(loss);
            return;
        }
        self.send(send);
        self.write(write, purges, &installs);
        for role in roles {
            self.follow_role(&role);
        }
        for (ticket, id) in accepted {
            self.replies.tell(&self.pending_calls.get(ticket).completion, Stage::Accepted(id));
        }
        if !applies.is_empty() {
            self.hand_to_apply(applies);
        }
        let worker = self.index;
        self.queues.fetches.push_all(fetches.into_iter().map(|fetch| FetchJob { worker, fetch }));
        self.state.transfers.want(snapshots.len());
        let begin = |wanted| SendTask::Begin { worker, wanted };
        self.queues.sent.push_all(snapshots.into_iter().map(begin));
        for (ticket, answer) in answers {
            self.answer(ticket, answer);
        }
        self.replies.flush();
    }

    fn send(&self, send: Vec<(NodeId, Vec<(ShardId, Message)>)>) {
        for (node, messages) in send {
            if let Some(observer) = &self.observer {
                messages.iter().for_each(|(shard, m)| observer.handle_sent(node, *shard, m));
            }
            let messages = messages
                .into_iter()
                .map(|(shard, message)| ShardMessage { shard, message })
                .collect();
            self.transport.send_messages(node, messages);
        }
    }

    /// Everything that a turn changes in the logs goes to the writer as one unit, so that a replica
    /// that ends is written to no more.
    fn write(
        &mut self,
        write: Option<(u64, Vec<quorate_host::ShardWrite>)>,
        purges: Vec<quorate_host::ShardPurge>,
        installs: &[ShardInstall],
    ) {
        let (number, writes) = write.map_or((None, Vec::new()), |(n, writes)| (Some(n), writes));
        self.end_installs(number, installs);
        let ends = std::mem::take(&mut self.ends);
        if writes.is_empty() && purges.is_empty() && ends.is_empty() {
            return;
        }
        let space_of = |shard| self.installing.iter().find(|(_, it)| it.shard == shard);
        let writes =
            writes.into_iter().map(|quorate_host::ShardWrite { shard, replica, write }| {
                let space = write.install.as_ref().map(|_| {
                    let (_, arrived) = space_of(shard).expect("it was told to install");
                    arrived.space
                });
                ShardWrite { shard, replica, write, space }
            });
        let purges = purges.into_iter().map(|purge| {
            let quorate_host::ShardPurge { shard, replica, base, membership } = purge;
            ShardPurge { shard, replica, base, base_membership: membership }
        });
        let (writes, purges) = (writes.collect(), purges.collect());
        self.writer.submit(TurnWrite { worker: self.index, number, purges, writes, ends });
    }

    /// What the host decided about the snapshots that have arrived. One that it takes is put in
    /// force once turn `number` is durable (RULE 13).
    fn end_installs(&mut self, number: Option<u64>, installs: &[ShardInstall]) {
        for ShardInstall { shard, replica, outcome } in installs {
            let arrived = self.arrived.remove(shard).expect("it was told to install");
            let (shard, to) = (*shard, *replica);
            match outcome {
                Ok(base) => {
                    assert_eq!(*base, arrived.record.applied, "shard {shard} installs another");
                    let turn = number.expect("an install is in its turn's write");
                    self.installing.push_back((turn, arrived));
                }
                Err(error) => {
                    let why = error.to_string();
                    self.queues.received.push_all([ReceiveTask::Refused { shard, to, why }]);
                    self.queues.applies.push_all([ApplyTask::Resume { shard, replica: to }]);
                }
            }
        }
    }

    /// Everything through turn `turn` is durable: snapshots that were installed by then are put in
    /// force.
    fn adopt_installed(&mut self, turn: u64) {
        while self.installing.front().is_some_and(|(number, _)| *number <= turn) {
            let (_, arrived) = self.installing.pop_front().expect("looked at just now");
            self.queues.applies.push_all([ApplyTask::Adopt(arrived)]);
        }
    }

    fn follow_role(&self, role: &ShardRole) {
        let leader = role.role.leader.map(|(_, node)| node);
        // The role of a replica that was given up in this turn interests nobody.
        let Some(shard) = self.state.shards.get(role.shard) else { return };
        shard.set_leader(leader, role.role.serving);
        if role.role.role != Role::Leader && self.state.transfers.is_wanted() {
            self.queues.sent.push_all([SendTask::StepDown(role.shard)]);
        }
    }

    /// Gives up a replica that may have lost what it promised (RULE 5): nothing of it leaves any
    /// more, and it is noted durably, so that no later start trusts what may be readable then. One
    /// whose own store fails is as good as on a node that has crashed: it keeps its promises in the
    /// log, and its data at the last commit.
    fn end_damaged(&mut self, now: Monotonic, damaged: DamagedReplica) {
        let DamagedReplica { shard, replica, ref what, until_restart } = damaged;
        let state = self.state.shards.find(shard).filter(|state| state.replica == replica);
        let Some(state) = state else { return };
        let why = EndReason::Damaged(what.clone());
        if let Some(before) = state.end_reason() {
            // What only waited for the next start is found to have lost something.
            if before.until_restart && !until_restart {
                tracing::error!(%shard, %replica, %what, "a replica is given up for good");
                self.ends.push(ReplicaEnd { shard, replica, why });
            }
            return;
        }
        tracing::error!(%shard, %replica, %what, until_restart, "a replica is given up");
        state.end(damaged);
        self.host.remove(now, shard);
        self.silent.retain(|silent| silent.shard != shard);
        self.arrived.remove(&shard);
        self.installing.retain(|(_, arrived)| arrived.shard != shard);
        self.queues.applies.push_all([ApplyTask::End { shard, replica }]);
        self.queues.received.push_all([ReceiveTask::Ended { shard, to: replica }]);
        self.queues.sent.push_all([SendTask::StepDown(shard)]);
        if !until_restart {
            self.ends.push(ReplicaEnd { shard, replica, why });
        }
    }

    /// An older copy of the directory was put back: its replicas may have forgotten promises, so nothing
    /// is sent any more. Recorded first, because no later start may succeed (RULE 17).
    fn end_by_loss(&self, found: &ShardLoss) {
        let ShardLoss { shard, loss, .. } = *found;
        let error = FatalError::RolledBack { shard, loss };
        if let Err(fault) = self.log.record_end(&format!("of shard {shard}, {loss}")) {
            tracing::error!(%fault, "the end of this directory is not noted");
        }
        self.state.fatal.latch(error);
    }

    /// Callers that wait for an entry go along with it; those that asked for progress learn that it
    /// is committed.
    fn hand_to_apply(&mut self, applies: Vec<Apply>) {
        for apply in &applies {
            let shard = self.state.shards.find(apply.shard).expect("it lived here a moment ago");
            shard.position.publish_commit(apply.committed.range.end.previous());
        }
        let (calls, replies) = (&mut self.pending_calls, &mut self.replies);
        self.queues.applies.push_all(applies.into_iter().map(
            |Apply { shard, replica, committed, tickets }| {
                let mut waiting = Vec::with_capacity(tickets.len());
                for (index, ticket) in tickets {
                    let completion = calls.remove(ticket).completion;
                    if completion.wants_progress() {
                        // A binary search: runs and tickets may both be many when a commit took long.
                        let at = committed.runs.partition_point(|run| run.range().end <= index);
                        let term = committed.runs[at].term();
                        replies.tell(&completion, Stage::Committed(LogId::new(term, index)));
                    }
                    waiting.push((index, completion));
                }
                ApplyTask::Entries(ApplyJob { shard, replica, committed, callers: waiting })
            },
        ));
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let PendingCall { completion, shard, .. } = self.pending_calls.remove(ticket);
        let outcome = match answer {
            Answer::Refused(HostRefusal::StaleVersion { .. }) => {
                let state = self.state.shards.find(shard).expect("its replica has just answered");
                Outcome::Stale(Box::new(state.descriptor()))
            }
            Answer::Refused(refusal) => Outcome::Refused(refusal),
            Answer::Overwritten => Outcome::LeaderChanged { leader: None },
            Answer::OutcomeUnknown => Outcome::UnknownLeaderChanged,
            Answer::ReadAt(index) => Outcome::ReadAt(index),
            Answer::NotConfirmed { leader } => Outcome::LeaderChanged { leader },
            Answer::TransferBegun => Outcome::TransferBegun,
        };
        self.replies.complete(completion, outcome);
    }

    /// Leaves no caller waiting: a call that never reached the host did not happen, a write that
    /// did has an unknown outcome, a read changed nothing.
    fn answer_everybody(&mut self) {
        let mut inputs = Vec::new();
        self.inbox.close_and_take(&mut inputs);
        for input in inputs {
            if let Input::Call(call) = input {
                self.replies.complete(call.completion, Outcome::Stopping);
            }
        }
        for caller in self.pending_calls.drain() {
            let outcome = if caller.reads { Outcome::Stopping } else { Outcome::UnknownStopped };
            self.replies.complete(caller.completion, outcome);
        }
        self.replies.flush();
    }
}

impl Drop for Worker {
    /// Also when unwinding: every waiting caller gets an answer, and later calls are refused.
    fn drop(&mut self) {
        self.answer_everybody();
    }
}
