//! The world: time, network, faults and clients around the nodes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use quorate_host::{
    Answer, Apply, ApplyOutcome, Event, KvCommand, KvReply, ShardFetch, Ticket, Turn,
};
use quorate_raft::{Member, Membership, Message, Role};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis};

use crate::check::{Checks, Violation};
use crate::node::Node;
use crate::random::Random;

const MILLI: u64 = 1_000_000;
const BASE: LogId = LogId::new(Term(1), Index(1));

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The same seed gives the same history.
    pub seed: u64,
    /// Nodes; every shard has a replica on each.
    pub nodes: u64,
    /// Shards.
    pub shards: u64,
    /// Simulated time with faults, in milliseconds; then everything heals.
    pub faulty_ms: u64,
    /// A deliberate bug: writes are reported as durable when they are handed over, so promises
    /// leave before the sync. Proves that the properties can fail.
    pub acknowledge_before_sync: bool,
}

impl WorldConfig {
    /// Three nodes, four shards, ten seconds of faults.
    #[must_use]
    pub fn new(seed: u64) -> WorldConfig {
        WorldConfig { seed, nodes: 3, shards: 4, faulty_ms: 10_000, acknowledge_before_sync: false }
    }
}

/// What happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes with an unknown outcome.
    pub unknown: u64,
    /// Linearizable reads checked.
    pub reads: u64,
    /// Crashes.
    pub crashes: u64,
    /// Leaders that came to serve.
    pub elections: u64,
    /// Messages lost.
    pub lost: u64,
    /// Hash of the history: the same seed must give the same one.
    pub history: u64,
}

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Increment { key: Vec<u8> },
    Read { shard: ShardId, key: Vec<u8>, at_least: i64 },
}

enum Happening {
    Message { from: NodeId, to: usize, shard: ShardId, message: Message },
    Synced { node: usize, life: u64, turn: u64 },
    Applied { node: usize, life: u64, shard: ShardId, index: Index },
    Fetched { node: usize, life: u64, fetch: ShardFetch },
    Timer { node: usize },
    Client,
    Crash,
    Restart { node: usize },
    Flush { node: usize },
    Cut,
    Heal,
}

/// See the crate's documentation.
pub struct World {
    config: WorldConfig,
    now: Monotonic,
    random: Random,
    nodes: Vec<Node>,
    future: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    happenings_last: u64,
    tickets_last: u64,
    cut: Option<(usize, usize)>,
    healed: bool,
    checks: Checks,
    report: Report,
}

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(config: WorldConfig) -> World {
        let shards: Vec<ShardId> = (1..=config.shards).map(ShardId).collect();
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let membership = Membership::of_voters((1..=config.nodes).map(member));
        let node = |id| Node::new(NodeId(id), &shards, BASE, &membership);
        World {
            now: Monotonic(0),
            random: Random::new(config.seed),
            nodes: (1..=config.nodes).map(node).collect(),
            future: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            happenings_last: 0,
            tickets_last: 0,
            cut: None,
            healed: false,
            checks: Checks::default(),
            report: Report::default(),
            config,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first [`Violation`] of a property.
    pub fn run(mut self) -> Result<Report, Violation> {
        for node in 0..self.nodes.len() {
            self.schedule(0, Happening::Restart { node });
            self.schedule(300, Happening::Flush { node });
        }
        self.schedule(1, Happening::Client);
        self.schedule(2_500, Happening::Crash);
        self.schedule(1_500, Happening::Cut);
        let end = Monotonic::from_millis(self.config.faulty_ms);
        self.run_until(end)?;
        self.heal()?;
        self.run_until(end + std::time::Duration::from_secs(15))?;
        self.check_all()?;
        Ok(self.report)
    }

    fn schedule(&mut self, after_ms: u64, happening: Happening) {
        self.schedule_at(self.now.0 + after_ms * MILLI, happening);
    }

    fn schedule_at(&mut self, at: u64, happening: Happening) {
        self.happenings_last += 1;
        self.future.push(Reverse((at, self.happenings_last)));
        self.happenings.insert(self.happenings_last, happening);
    }

    fn run_until(&mut self, end: Monotonic) -> Result<(), Violation> {
        while let Some(Reverse((at, number))) = self.future.peek().copied() {
            if at > end.0 {
                break;
            }
            self.future.pop();
            self.now = Monotonic(at.max(self.now.0));
            let happening = self.happenings.remove(&number).expect("scheduled once");
            self.report.history = self.report.history.rotate_left(5) ^ at ^ number;
            self.happen(happening).map_err(|what| self.violation(what))?;
        }
        self.now = end;
        Ok(())
    }

    fn violation(&self, what: String) -> Violation {
        Violation { seed: self.config.seed, at_ms: self.now.0 / MILLI, what }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Message { from, to, shard, message } => {
                self.tell(to, Event::Message { from, shard, message })
            }
            Happening::Synced { node, life, turn } => {
                if self.nodes[node].life != life || self.nodes[node].host.is_none() {
                    return Ok(());
                }
                self.nodes[node].disk.complete(turn);
                if self.config.acknowledge_before_sync {
                    return Ok(());
                }
                self.tell(node, Event::Persisted { turn })
            }
            Happening::Applied { node, life, shard, index } => {
                self.tell_life(node, life, Event::Applied { shard, index })
            }
            Happening::Fetched { node, life, fetch } => {
                let (from, until) = (fetch.range.start, fetch.range.end);
                let disk = &self.nodes[node].disk;
                let runs = disk.read(fetch.shard, from, until, fetch.bytes_max);
                let (shard, reader) = (fetch.shard, fetch.reader);
                self.tell_life(node, life, Event::Fetched { shard, reader, runs })
            }
            Happening::Timer { node } => {
                if self.nodes[node].timer_at == self.now.0 {
                    self.nodes[node].timer_at = u64::MAX;
                }
                self.step(node)
            }
            Happening::Client => self.client(),
            Happening::Crash => self.crash(),
            Happening::Restart { node } => self.restart(node),
            Happening::Flush { node } => {
                self.nodes[node].flush();
                let after = 200 + self.random.below(3_000);
                self.schedule(after, Happening::Flush { node });
                Ok(())
            }
            Happening::Cut => {
                let pair = (self.any_node(), self.any_node());
                self.cut = (!self.healed).then_some(pair);
                let after = 200 + self.random.below(3_000);
                self.schedule(after, Happening::Heal);
                Ok(())
            }
            Happening::Heal => {
                self.cut = None;
                if !self.healed {
                    let after = 500 + self.random.below(3_000);
                    self.schedule(after, Happening::Cut);
                }
                Ok(())
            }
        }
    }

    fn any_node(&mut self) -> usize {
        usize::try_from(self.random.below(self.nodes.len() as u64)).expect("few nodes")
    }

    fn tell_life(&mut self, node: usize, life: u64, event: Event) -> Result<(), String> {
        if self.nodes[node].life == life { self.tell(node, event) } else { Ok(()) }
    }

    fn tell(&mut self, node: usize, event: Event) -> Result<(), String> {
        let wall = WallMillis(self.now.0 / MILLI);
        let Some(host) = &mut self.nodes[node].host else {
            return Ok(());
        };
        host.handle(self.now, wall, event);
        self.step(node)
    }

    /// Lets a node do what is due, as its worker would.
    fn step(&mut self, node: usize) -> Result<(), String> {
        let Some(host) = &mut self.nodes[node].host else {
            return Ok(());
        };
        host.handle_timeouts(self.now);
        let turn = host.take_turn(self.now);
        if let Some(at) = host.poll_timeout().map(|at| at.0.max(self.now.0 + MILLI))
            && at < self.nodes[node].timer_at
        {
            self.nodes[node].timer_at = at;
            self.schedule_at(at, Happening::Timer { node });
        }
        self.carry_out(node, turn)
    }

    fn carry_out(&mut self, node: usize, turn: Turn) -> Result<(), String> {
        for (to, messages) in turn.send {
            for (shard, message) in messages {
                self.send(node, to, shard, message);
            }
        }
        let life = self.nodes[node].life;
        for role in &turn.roles {
            self.checks.role(self.nodes[node].id, role)?;
            self.report.elections += u64::from(role.role.serving);
        }
        for fetch in turn.fetches {
            self.schedule(1, Happening::Fetched { node, life, fetch });
        }
        for apply in turn.applies {
            self.apply(node, apply)?;
        }
        for (ticket, answer) in turn.answers {
            self.answer(node, ticket, &answer)?;
        }
        if let Some((number, writes)) = turn.write {
            self.nodes[node].disk.submit(number, writes);
            let after = 1 + self.random.below(20);
            self.schedule(after, Happening::Synced { node, life, turn: number });
            if self.config.acknowledge_before_sync {
                return self.tell(node, Event::Persisted { turn: number });
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: NodeId, shard: ShardId, message: Message) {
        let to = self.nodes.iter().position(|node| node.id == to).expect("a known node");
        let cut = self.cut == Some((from, to)) || self.cut == Some((to, from));
        if cut || (!self.healed && self.random.chance(30)) {
            self.report.lost += 1;
            return;
        }
        let copies = if !self.healed && self.random.chance(20) { 2 } else { 1 };
        for _ in 0..copies {
            let slow = if self.random.chance(20) { 200 } else { 8 };
            let after = 1 + self.random.below(slow);
            let (from, message) = (self.nodes[from].id, message.clone());
            self.schedule(after, Happening::Message { from, to, shard, message });
        }
    }

    fn apply(&mut self, node: usize, apply: Apply) -> Result<(), String> {
        self.checks.applied(self.nodes[node].id, &apply)?;
        let (index, replies) = self.nodes[node].apply(&apply);
        let mut tickets = apply.tickets.into_iter().peekable();
        for (at, outcome) in replies {
            if let Some((_, ticket)) = tickets.next_if(|(wanted, _)| *wanted == at) {
                self.reply(node, ticket, &outcome)?;
            }
        }
        let life = self.nodes[node].life;
        // A constant delay: an apply thread reports in order.
        self.schedule(3, Happening::Applied { node, life, shard: apply.shard, index });
        Ok(())
    }

    fn reply(&mut self, node: usize, ticket: Ticket, outcome: &ApplyOutcome) -> Result<(), String> {
        let caller = self.nodes[node].callers.remove(&ticket).ok_or("answered twice")?;
        let Caller::Increment { key } = caller else {
            return Err("a read was answered by an entry".to_owned());
        };
        let ApplyOutcome::Reply(reply) = outcome else {
            return Err(format!("an increment ended as {outcome:?}"));
        };
        let counter = self.checks.counters.entry(key.clone()).or_default();
        counter.unknown -= 1;
        counter.acknowledged += 1;
        self.report.acknowledged += 1;
        match KvReply::decode(reply) {
            Ok(KvReply::Integer(value)) => self.checks.value(&key, value, 1),
            other => Err(format!("an increment answered {other:?}")),
        }
    }

    fn answer(&mut self, node: usize, ticket: Ticket, answer: &Answer) -> Result<(), String> {
        let caller = self.nodes[node].callers.remove(&ticket).ok_or("answered twice")?;
        match (caller, answer) {
            (Caller::Increment { key }, Answer::Refused(_) | Answer::Overwritten) => {
                self.checks.counters.entry(key).or_default().unknown -= 1;
                Ok(())
            }
            (Caller::Increment { .. }, Answer::OutcomeUnknown) => {
                self.report.unknown += 1;
                Ok(())
            }
            (Caller::Read { shard, key, at_least }, Answer::ReadAt(_)) => {
                self.report.reads += 1;
                let value = self.value(node, shard, &key);
                self.checks.value(&key, value, at_least)
            }
            (Caller::Read { .. }, Answer::Refused(_) | Answer::NotConfirmed { .. }) => Ok(()),
            (caller, answer) => Err(format!("{caller:?} was answered {answer:?}")),
        }
    }

    fn value(&self, node: usize, shard: ShardId, key: &[u8]) -> i64 {
        let value = self.nodes[node].data[&shard].map.get(key);
        value.map_or(0, |v| String::from_utf8_lossy(v).parse().expect("a counter"))
    }

    /// A request at a random node, every few milliseconds.
    fn client(&mut self) -> Result<(), String> {
        let after = 1 + self.random.below(10);
        self.schedule(after, Happening::Client);
        let node = self.any_node();
        let shard = ShardId(1 + self.random.below(self.config.shards));
        let key = format!("{}-{}", shard.0, self.random.below(3)).into_bytes();
        let read = self.random.chance(400);
        if self.nodes[node].host.is_none() {
            return Ok(());
        }
        self.tickets_last += 1;
        let ticket = Ticket(self.tickets_last);
        let counter = self.checks.counters.entry(key.clone()).or_default();
        let (caller, event) = if read {
            let at_least = counter.acknowledged;
            let caller = Caller::Read { shard, key, at_least };
            (caller, Event::Read { shard, ticket, descriptor_version: 1 })
        } else {
            counter.unknown += 1;
            let command = KvCommand::Increment { key: Bytes::from(key.clone()), by: 1 };
            let command = Bytes::from(command.encode());
            let event = Event::Write {
                shard,
                ticket,
                descriptor_version: 1,
                session: None,
                command,
                progress: false,
            };
            (Caller::Increment { key }, event)
        };
        self.nodes[node].callers.insert(ticket, caller);
        self.tell(node, event)
    }

    fn crash(&mut self) -> Result<(), String> {
        let after = 1_000 + self.random.below(4_000);
        self.schedule(after, Happening::Crash);
        // Now and then the whole cluster at one instant: only disks remember then.
        let all = self.random.chance(250);
        let one = self.any_node();
        for node in 0..self.nodes.len() {
            if (all || node == one) && self.nodes[node].host.is_some() && !self.healed {
                self.nodes[node].crash(&mut self.random);
                // Callers of a dead node never hear: their increments stay unknown.
                self.nodes[node].callers.clear();
                self.report.crashes += 1;
                let after = 50 + self.random.below(2_000);
                self.schedule(after, Happening::Restart { node });
            }
        }
        Ok(())
    }

    fn restart(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].host.is_some() {
            return Ok(());
        }
        let seed = self.random.next();
        let replica = ReplicaId(self.nodes[node].id.0);
        self.nodes[node].start(self.now, seed, replica);
        self.step(node)
    }

    /// From here on nothing is lost, nobody crashes, and every node is up.
    fn heal(&mut self) -> Result<(), Violation> {
        self.healed = true;
        self.cut = None;
        for node in 0..self.nodes.len() {
            self.restart(node).map_err(|what| self.violation(what))?;
        }
        Ok(())
    }

    /// The bound of liveness has passed: every shard must have one serving leader that has applied
    /// all it committed, and every counter must be in its bounds there.
    fn check_all(&self) -> Result<(), Violation> {
        for shard in (1..=self.config.shards).map(ShardId) {
            let leads = |node: &usize| {
                let view = self.nodes[*node].host.as_ref().and_then(|host| host.view(shard));
                view.is_some_and(|view| view.role.role == Role::Leader && view.role.serving)
            };
            let leader = (0..self.nodes.len()).find(leads).ok_or_else(|| {
                self.violation(format!("shard {shard} has no serving leader after the heal"))
            })?;
            for (key, counter) in &self.checks.counters {
                if key.starts_with(format!("{}-", shard.0).as_bytes()) {
                    let value = self.value(leader, shard, key);
                    let checked = self.checks.value(key, value, counter.acknowledged);
                    checked.map_err(|what| self.violation(what))?;
                }
            }
        }
        Ok(())
    }
}
