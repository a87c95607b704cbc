//! One host of a group, in virtual time. Its disk finishes writes, and its state machine entries, when
//! the test says so.

use bytes::Bytes;
use quorate_host::{Answer, Event, Host, HostConfig, ReplicaInit, ShardFetch, Ticket, Turn};
use quorate_machine::KvCommand;
use quorate_raft::{Body, HardState, Member, Membership, Message, Restored, Role, Run};
use quorate_types::{
    Duration, Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
    limits,
};

pub(crate) const SHARD: ShardId = ShardId(1);
pub(crate) const BASE: LogId = LogId::new(Term(1), Index(1));

pub(crate) struct Driver {
    pub(crate) host: Host,
    pub(crate) now: Monotonic,
    pub(crate) role: Role,
    /// Turns that the disk has not finished.
    pub(crate) unfinished: Vec<u64>,
    /// What was handed to the disk.
    runs: Vec<Run>,
    pub(crate) sent: Vec<Message>,
    pub(crate) answers: Vec<(Ticket, Answer)>,
    pub(crate) applied: Vec<Ticket>,
    /// The state machine does nothing until it is told to.
    pub(crate) holds_applies: bool,
    /// Ends of the ranges that it has not applied.
    pub(crate) unapplied: Vec<Index>,
}

impl Driver {
    /// Node 1 of a group of `voters` nodes.
    pub(crate) fn new(voters: u64, config: impl FnOnce(&mut HostConfig)) -> Driver {
        let (replica, node) = (ReplicaId(1), NodeId(1));
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let restored = Restored {
            hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
            base: BASE,
            base_membership: Membership::of_voters((1..=voters).map(member)),
            terms: vec![],
            memberships: vec![],
            last: BASE,
            applied: BASE.index,
        };
        let mut host_config = HostConfig::new(node, Incarnation(1), 7);
        config(&mut host_config);
        let mut host = Host::new(host_config);
        let init = ReplicaInit { shard: SHARD, replica, descriptor_version: 1, restored };
        host.add(Monotonic(0), init);
        Driver {
            host,
            now: Monotonic(0),
            role: Role::Follower,
            unfinished: Vec::new(),
            runs: Vec::new(),
            sent: Vec::new(),
            answers: Vec::new(),
            applied: Vec::new(),
            holds_applies: false,
            unapplied: Vec::new(),
        }
    }

    /// A group of one.
    pub(crate) fn alone() -> Driver {
        Driver::new(1, |_| ())
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.host.handle(self.now, WallMillis(0), event);
    }

    /// Handles a message of a peer.
    pub(crate) fn hear(&mut self, from: u64, term: Term, body: Body) {
        let message = Message { from: ReplicaId(from), to: ReplicaId(1), term, body };
        self.handle(Event::Message { from: NodeId(from), shard: SHARD, message });
        self.turn();
    }

    pub(crate) fn turn(&mut self) {
        self.host.handle_timeouts(self.now);
        let turn = self.host.take_turn(self.now);
        let Turn { send, write, applies, answers, roles, fetches, .. } = turn;
        self.sent.extend(send.into_iter().flat_map(|(_, m)| m).map(|(_, message)| message));
        self.answers.extend(answers);
        if let Some((turn, writes)) = write {
            self.unfinished.push(turn);
            self.runs.extend(writes.into_iter().flat_map(|written| written.write.runs));
        }
        for role in roles {
            self.role = role.role.role;
        }
        for apply in applies {
            self.applied.extend(apply.tickets.iter().map(|(_, ticket)| *ticket));
            self.unapplied.push(apply.committed.range.end.previous());
        }
        if !self.holds_applies {
            self.apply();
        }
        for ShardFetch { shard, replica, reader, range, .. } in fetches {
            let runs = self.runs.iter().filter(|run| run.last() >= range.start);
            let runs = runs.filter(|run| run.first() < range.end);
            let cut =
                |run: &Run| run.cut(run.first().max(range.start), run.range().end.min(range.end));
            let runs = runs.map(cut).collect();
            self.handle(Event::Fetched { shard, replica, reader, runs });
        }
    }

    /// The state machine applies what it was handed.
    pub(crate) fn apply(&mut self) {
        for index in std::mem::take(&mut self.unapplied) {
            self.apply_through(index);
        }
    }

    /// The state machine has applied everything through `index`.
    pub(crate) fn apply_through(&mut self, index: Index) {
        self.handle(Event::Applied { shard: SHARD, replica: ReplicaId(1), index });
    }

    /// Goes to the next timer, and lets the disk finish everything.
    pub(crate) fn step(&mut self) {
        self.now = self.host.poll_timeout().unwrap_or(self.now).max(self.now);
        self.turn();
        self.finish_writes();
    }

    pub(crate) fn finish_writes(&mut self) {
        while let Some(turn) = self.unfinished.pop() {
            self.handle(Event::Persisted { turn });
            self.unfinished.clear();
            self.turn();
        }
    }

    /// Lets time pass, with a check now and then, as heartbeats cause it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + limits::HEARTBEAT).min(end);
            self.turn();
        }
    }

    pub(crate) fn lead(&mut self) {
        for _ in 0..1_000 {
            if self.role == Role::Leader {
                return;
            }
            self.step();
        }
        panic!("a group of one leads itself");
    }

    pub(crate) fn write(&mut self, ticket: u64, value: &[u8]) {
        let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::copy_from_slice(value) };
        self.handle(Event::Write {
            shard: SHARD,
            ticket: Ticket(ticket),
            descriptor_version: 1,
            session: None,
            progress: false,
            command: Bytes::from(put.encode()),
        });
    }
}
