//! One host driven by a test. Replica `n` lives on node `n`; the test speaks for the other two.

use bytes::Bytes;
use quorate_host::{Answer, Event, Host, HostConfig, ReplicaInit, ShardLoss, ShardView, Ticket};
use quorate_liveness::{
    BindRequest, Binding, ChangeNumber, Control, Standing, StandingCause, StandingChange,
    Standings, SupportEpoch, SupportHeld,
};
use quorate_raft::{
    Body, EntryKind, HardState, InstallError, Member, Membership, Message, Restored, Run, RunDraft,
};
use quorate_types::{
    Duration, Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
};

pub(crate) const SHARD: ShardId = ShardId(1);
/// Every log begins after it.
pub(crate) const BASE: LogId = LogId::new(Term(1), Index(1));
/// The incarnation of every node.
const INCARNATION: Incarnation = Incarnation(1);
/// More steps than any scenario takes.
const STEPS_MAX: usize = 1_000;

pub(crate) fn member(id: u64) -> Member {
    Member { replica: ReplicaId(id), node: NodeId(id) }
}

pub(crate) fn group() -> Membership {
    Membership::of_voters((1..=3).map(member))
}

/// One entry of `term` at `index`.
pub(crate) fn entry(term: Term, index: u64) -> Run {
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Blank, &[]);
    draft.seal(term, Index(index))
}

/// The event that this node begins or ends its support of another.
pub(crate) fn standing(node: u64, lowest: u64, cause: StandingCause) -> Event {
    let is_given = cause == StandingCause::Given;
    let lowest = SupportEpoch(lowest);
    let standing = Standing { incarnation: INCARNATION, lowest, is_given };
    Event::Standing(StandingChange { node: NodeId(node), standing, cause })
}

pub(crate) struct Driver {
    pub(crate) host: Host,
    pub(crate) now: Monotonic,
    own: u64,
    pub(crate) sent: Vec<Message>,
    pub(crate) control: Vec<(NodeId, Control)>,
    pub(crate) answers: Vec<(Ticket, Answer)>,
    /// Tickets whose entries were handed over to be applied.
    pub(crate) applied: Vec<Ticket>,
    pub(crate) installs: Vec<Result<LogId, InstallError>>,
    pub(crate) losses: Vec<ShardLoss>,
}

impl Driver {
    /// Node `own` of three, silent until then.
    pub(crate) fn new(own: u64, silent_until: Monotonic) -> Driver {
        let standings = Some(Standings::new(INCARNATION, silent_until));
        let config = HostConfig { standings, ..HostConfig::new(NodeId(own), INCARNATION, 7) };
        let mut host = Host::new(config);
        let restored = Restored {
            hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
            base: BASE,
            base_membership: group(),
            terms: vec![],
            memberships: vec![],
            last: BASE,
            applied: BASE.index,
        };
        let replica = ReplicaId(own);
        let init = ReplicaInit { shard: SHARD, replica, descriptor_version: 1, restored };
        host.add(Monotonic(0), init);
        Driver {
            host,
            now: Monotonic(0),
            own,
            sent: Vec::new(),
            control: Vec::new(),
            answers: Vec::new(),
            applied: Vec::new(),
            installs: Vec::new(),
            losses: Vec::new(),
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.host.handle(self.now, WallMillis(0), event);
    }

    /// Takes turns until nothing is left to do; disks are instant.
    pub(crate) fn turn(&mut self) {
        loop {
            let turn = self.host.take_turn(self.now);
            if turn.is_empty() {
                return;
            }
            self.sent.extend(turn.send.into_iter().flat_map(|(_, m)| m).map(|(_, m)| m));
            self.control.extend(turn.control.into_iter().map(|(to, _, control)| (to, control)));
            self.answers.extend(turn.answers);
            self.installs.extend(turn.installs.into_iter().map(|install| install.outcome));
            self.losses.extend(turn.losses);
            if let Some((turn, _)) = turn.write {
                self.handle(Event::Persisted { turn });
            }
            for apply in turn.applies {
                self.applied.extend(apply.tickets.iter().map(|(_, ticket)| *ticket));
                let index = apply.committed.range.end.previous();
                self.handle(Event::Applied { shard: SHARD, replica: apply.replica, index });
            }
        }
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.turn();
        for _ in 0..STEPS_MAX {
            let Some(at) = self.host.poll_timeout().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = at.max(self.now);
            self.host.handle_timeouts(self.now);
            self.turn();
        }
        panic!("timers without end");
    }

    /// Handles a message of a peer.
    pub(crate) fn hear(&mut self, from: u64, term: Term, body: Body) {
        self.arrive(from, term, body);
        self.turn();
    }

    /// As [`Driver::hear`]; the turn is not taken yet.
    pub(crate) fn arrive(&mut self, from: u64, term: Term, body: Body) {
        let (sender, to) = (ReplicaId(from), ReplicaId(self.own));
        let message = Message { from: sender, to, term, body };
        self.handle(Event::Message { from: NodeId(from), shard: SHARD, message });
    }

    pub(crate) fn hear_control(&mut self, from: u64, control: Control) {
        self.handle(Event::Control { from: NodeId(from), shard: SHARD, control });
        self.turn();
    }

    /// Answers all messages sent to `peer` so far as an obedient replica there would.
    pub(crate) fn obey(&mut self, peer: u64) {
        let control: Vec<_> = self.control.extract_if(.., |(to, _)| *to == NodeId(peer)).collect();
        let sent: Vec<_> = self.sent.extract_if(.., |m| m.to == ReplicaId(peer)).collect();
        for Message { term, body, .. } in sent {
            if let Some(answer) = obedient_answer(body) {
                self.hear(peer, term, answer);
            }
        }
        for (_, control) in control {
            if let Control::BindRequest(request) = control {
                let bound = Control::Bound { binding: granted(&request), change: ChangeNumber(1) };
                self.hear_control(peer, bound);
            }
        }
    }

    /// Becomes a leader that serves, with the help of `peer`.
    pub(crate) fn lead(&mut self, peer: u64) {
        for _ in 0..STEPS_MAX {
            if self.view().role.serving {
                return;
            }
            self.pass(Duration::from_millis(100));
            self.obey(peer);
        }
        panic!("never elected");
    }

    /// `peer` supports this node until `until`, and is bound to the leader here.
    pub(crate) fn be_supported(&mut self, peer: u64, until: Monotonic) {
        let held = Some(SupportHeld { incarnation: INCARNATION, epoch: SupportEpoch(1), until });
        self.handle(Event::Support { node: NodeId(peer), held });
        // A replica that is not bound is asked at the next heartbeat.
        self.pass(quorate_types::limits::HEARTBEAT);
        self.obey(peer);
    }

    pub(crate) fn write(&mut self, ticket: u64) {
        self.handle(Event::Write {
            shard: SHARD,
            ticket: Ticket(ticket),
            descriptor_version: 1,
            session: None,
            command: Bytes::from_static(b"x"),
            progress: false,
        });
    }

    pub(crate) fn read(&mut self, ticket: u64) {
        self.handle(Event::Read { shard: SHARD, ticket: Ticket(ticket), descriptor_version: 1 });
    }

    pub(crate) fn view(&self) -> ShardView {
        self.host.view(SHARD).expect("hosted")
    }

    pub(crate) fn take_bodies(&mut self) -> Vec<(u64, Body)> {
        self.sent.drain(..).map(|message| (message.to.0, message.body)).collect()
    }
}

fn obedient_answer(body: Body) -> Option<Body> {
    match body {
        Body::VoteRequest { pre, .. } => {
            Some(Body::VoteReply { pre, granted: true, leader_alive: false })
        }
        Body::Append { previous, runs, .. } => {
            let matched = runs.last().map_or(previous.index, Run::last);
            Some(Body::Accepted { matched })
        }
        Body::Heartbeat { round, .. } => Some(Body::HeartbeatReply { round }),
        _ => None,
    }
}

/// The answer of a replica that follows the asking leader.
pub(crate) fn granted(request: &BindRequest) -> Binding {
    Binding {
        term: request.term,
        leader: request.leader,
        leader_incarnation: request.leader_incarnation,
        replica: request.to,
        incarnation: INCARNATION,
        epoch: request.epoch,
    }
}

/// Leader 1 of `term` asks replica `to` to bind, in the first epoch.
pub(crate) fn bind_request(term: Term, to: u64) -> Control {
    Control::BindRequest(BindRequest {
        term,
        leader: member(1),
        leader_incarnation: INCARNATION,
        to: ReplicaId(to),
        epoch: SupportEpoch(1),
    })
}
