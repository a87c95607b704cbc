//! A step worker: the thread that owns the kernels of its shards and carries out their turns.

use std::sync::Arc;
use std::time::Duration;

use quorate_host::{Answer, Apply, Event, Host, HostRefusal, ReplicaInit, ShardLoss, Ticket, Turn};
use quorate_log::{LogStore, LogWriter, ShardWrite, TurnWrite};
use quorate_raft::Message;
use quorate_transport::{ShardMessage, Transport, WallClock};
use quorate_types::{LogId, Monotonic, NodeId, ShardId, WallMillis, limits};

use crate::calls::call::{Call, CallKind, Outcome};
use crate::calls::progress::Stage;
use crate::cluster::bootstrap_state::BootstrapState;
use crate::error::FatalError;
use crate::peer::replies::Replies;
use crate::state::clock;
use crate::state::engine_state::EngineState;
use crate::state::stall::Stalled;
use crate::worker::apply::ApplyJob;
use crate::worker::fetch::FetchJob;
use crate::worker::inbox::{AppliedReplica, Inbox, Input};
use crate::worker::pending_calls::{PendingCall, PendingCalls};
use crate::worker::shared::{Queues, WorkerShared};

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
            Input::Persisted(turn) => self.host.handle(now, wall, Event::Persisted { turn }),
            Input::Applied(applied) => {
                for AppliedReplica { shard, replica, index } in applied {
                    self.host.handle(now, wall, Event::Applied { shard, replica, index });
                }
            }
            Input::Fetched { shard, replica, reader, runs } => {
                self.host.handle(now, wall, Event::Fetched { shard, replica, reader, runs });
            }
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
        if let Some(loss) = turn.losses.first() {
            self.end_by_loss(loss);
            return;
        }
        for (node, messages) in turn.send {
            if let Some(observer) = &self.observer {
                messages.iter().for_each(|(shard, m)| observer.handle_sent(node, *shard, m));
            }
            let messages = messages
                .into_iter()
                .map(|(shard, message)| ShardMessage { shard, message })
                .collect();
            self.transport.send_messages(node, messages);
        }
        if let Some((number, writes)) = turn.write {
            let of_replica = |written: quorate_host::ShardWrite| {
                let quorate_host::ShardWrite { shard, replica, write } = written;
                ShardWrite { shard, replica, write, space: None }
            };
            let writes = writes.into_iter().map(of_replica).collect();
            let (worker, number) = (self.index, Some(number));
            self.writer.submit(TurnWrite { worker, number, writes, ..TurnWrite::default() });
        }
        for role in turn.roles {
            let leader = role.role.leader.map(|(_, node)| node);
            let shard = self.state.shards.get(role.shard).expect("only hosted shards have roles");
            shard.set_leader(leader, role.role.serving);
        }
        for (ticket, id) in turn.accepted {
            self.replies.tell(&self.pending_calls.get(ticket).completion, Stage::Accepted(id));
        }
        if !turn.applies.is_empty() {
            self.hand_to_apply(turn.applies);
        }
        self.queues
            .fetches
            .push_all(turn.fetches.into_iter().map(|fetch| FetchJob { worker: self.index, fetch }));
        for (ticket, answer) in turn.answers {
            self.answer(ticket, answer);
        }
        self.replies.flush();
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
            let shard = self.state.shards.get(apply.shard).expect("only hosted shards are applied");
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
                ApplyJob { shard, replica, committed, callers: waiting }
            },
        ));
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let PendingCall { completion, shard, .. } = self.pending_calls.remove(ticket);
        let outcome = match answer {
            Answer::Refused(HostRefusal::StaleVersion { .. }) => {
                let state = self.state.shards.get(shard).expect("its replica has just answered");
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
