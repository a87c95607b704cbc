//! Goal: what all shards of a host hold together stays bounded, whatever each of them may hold
//! (RULE 18), and no shard is forgotten. Method: one host that leads many shards, in virtual time;
//! its disk, its state machines and its peers act when the test says so.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_host::{Answer, Event, Host, HostConfig, HostRefusal, ReplicaInit, ShardFetch, Ticket};
use quorate_machine::KvCommand;
use quorate_raft::{Body, HardState, Member, Membership, Message, Restored, Role, Run};
use quorate_types::{
    Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
};

const BASE: LogId = LogId::new(Term(1), Index(1));
const VALUE_BYTES: usize = 4 << 10;
/// An entry of that value, with its key, its envelope and the head of its run.
const ENTRY_BYTES_MAX: usize = VALUE_BYTES + 200;

struct Driver {
    host: Host,
    now: Monotonic,
    shards: u64,
    leads: BTreeMap<ShardId, bool>,
    /// Newest turn that the disk has not finished.
    unfinished: Option<u64>,
    holds_disk: bool,
    runs: BTreeMap<ShardId, Vec<Run>>,
    sent: Vec<(NodeId, ShardId, Message)>,
    answers: Vec<(Ticket, Answer)>,
    /// Ends of the ranges that wait for the state machine, oldest first, and the tickets that wait.
    unapplied: Vec<(ShardId, Index, Vec<Ticket>)>,
}

impl Driver {
    /// Node 1 of `nodes`, all of which have a replica of each shard.
    fn new(nodes: u64, shards: u64, shape: impl FnOnce(&mut HostConfig)) -> Driver {
        let node = NodeId(1);
        let mut config = HostConfig::new(node, Incarnation(1), 7);
        shape(&mut config);
        let mut host = Host::new(config);
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        for shard in (1..=shards).map(ShardId) {
            let restored = Restored {
                hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
                base: BASE,
                base_membership: Membership::of_voters((1..=nodes).map(member)),
                terms: vec![],
                memberships: vec![],
                last: BASE,
                applied: BASE.index,
            };
            let replica = ReplicaId(1);
            host.add(Monotonic(0), ReplicaInit { shard, replica, descriptor_version: 1, restored });
        }
        let mut driver = Driver {
            host,
            now: Monotonic(0),
            shards,
            leads: BTreeMap::new(),
            unfinished: None,
            holds_disk: false,
            runs: BTreeMap::new(),
            sent: Vec::new(),
            answers: Vec::new(),
            unapplied: Vec::new(),
        };
        driver.lead();
        driver
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards).map(ShardId)
    }

    fn lead(&mut self) {
        self.turn();
        for _ in 0..10_000 {
            if self.leads.values().filter(|leads| **leads).count() as u64 == self.shards {
                self.turn();
                self.answer_as(2, true);
                self.answer_as(3, true);
                self.apply_all();
                return;
            }
            self.now = self.host.poll_timeout().expect("timers run").max(self.now);
            self.host.handle_timeouts(self.now);
            self.turn();
            self.answer_as(2, true);
            self.answer_as(3, true);
        }
        panic!("nobody else campaigns");
    }

    fn handle(&mut self, event: Event) {
        self.host.handle(self.now, WallMillis(0), event);
    }

    /// Takes turns until nothing is left to do.
    fn turn(&mut self) {
        loop {
            let turn = self.host.take_turn(self.now);
            if turn.is_empty() {
                return;
            }
            for (node, messages) in turn.send {
                self.sent.extend(messages.into_iter().map(|(shard, m)| (node, shard, m)));
            }
            self.answers.extend(turn.answers);
            for role in turn.roles {
                self.leads.insert(role.shard, role.role.role == Role::Leader);
            }
            if let Some((number, writes)) = turn.write {
                for written in writes {
                    self.runs.entry(written.shard).or_default().extend(written.write.runs);
                }
                self.unfinished = Some(number);
            }
            for apply in turn.applies {
                let tickets = apply.tickets.iter().map(|(_, ticket)| *ticket).collect();
                let end = apply.committed.range.end.previous();
                self.unapplied.push((apply.shard, end, tickets));
            }
            for ShardFetch { shard, replica, reader, range, .. } in turn.fetches {
                let runs = self.runs[&shard].iter().filter(|run| run.last() >= range.start);
                let first = runs.filter(|run| run.first() < range.end).take(1).cloned().collect();
                self.handle(Event::Fetched { shard, replica, reader, runs: first });
            }
            if !self.holds_disk {
                self.finish_writes();
            }
        }
    }

    fn finish_writes(&mut self) {
        if let Some(turn) = self.unfinished.take() {
            self.handle(Event::Persisted { turn });
        }
    }

    /// Applies the oldest range.
    fn apply_one(&mut self) -> Vec<Ticket> {
        let (shard, index, tickets) = self.unapplied.remove(0);
        self.handle(Event::Applied { shard, replica: ReplicaId(1), index });
        self.turn();
        tickets
    }

    fn apply_all(&mut self) -> Vec<Ticket> {
        let mut applied = Vec::new();
        while !self.unapplied.is_empty() {
            applied.extend(self.apply_one());
        }
        applied
    }

    /// A peer answers what it was sent: everything, or only heartbeats.
    fn answer_as(&mut self, peer: u64, acknowledges: bool) {
        loop {
            let is_its = |(node, ..): &mut (NodeId, ShardId, Message)| *node == NodeId(peer);
            let its: Vec<_> = self.sent.extract_if(.., is_its).collect();
            if its.is_empty() {
                return;
            }
            for (_, shard, message) in its {
                let (granted, leader_alive) = (true, false);
                let body = match message.body {
                    Body::VoteRequest { pre, .. } => Body::VoteReply { pre, granted, leader_alive },
                    Body::Append { previous, runs, .. } if acknowledges => {
                        let matched = runs.last().map_or(previous.index, Run::last);
                        Body::Accepted { matched }
                    }
                    Body::Heartbeat { round, .. } => Body::HeartbeatReply { round },
                    _ => continue,
                };
                let (from, to) = (ReplicaId(peer), ReplicaId(1));
                let message = Message { from, to, term: message.term, body };
                self.handle(Event::Message { from: NodeId(peer), shard, message });
            }
            self.turn();
        }
    }

    fn write(&mut self, shard: ShardId, ticket: u64) {
        let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        let command = Bytes::from(KvCommand::Put { key: Bytes::from("k"), value }.encode());
        let (ticket, descriptor_version) = (Ticket(ticket), 1);
        let (session, progress) = (None, false);
        let write = Event::Write { shard, ticket, descriptor_version, session, command, progress };
        self.handle(write);
        self.turn();
    }

    /// True if the last write was refused because the node is busy.
    fn was_busy(&mut self, ticket: u64) -> bool {
        let busy = (Ticket(ticket), Answer::Refused(HostRefusal::Busy));
        match self.answers.pop() {
            None => false,
            Some(answer) => {
                assert_eq!(answer, busy);
                true
            }
        }
    }
}

/// Goal: one shard that commits nothing takes the node's room and no more, the others continue one
/// run at a time, and every caller is told when even that is used up. Method: the disk finishes
/// nothing.
#[test]
fn what_is_not_committed_is_bounded_for_the_node() {
    let (bytes_max, reserve) = (16 * ENTRY_BYTES_MAX, 4 * ENTRY_BYTES_MAX);
    let mut driver = Driver::new(1, 8, |config| {
        config.uncommitted_bytes_max = bytes_max;
        config.uncommitted_reserve_bytes = reserve;
    });
    driver.holds_disk = true;
    let mut taken = Vec::new();
    let mut ticket = 0;
    for shard in driver.shards() {
        let mut count = 0;
        loop {
            ticket += 1;
            driver.write(shard, ticket);
            if driver.was_busy(ticket) {
                break;
            }
            count += 1;
            assert!(driver.host.uncommitted_bytes() <= bytes_max + reserve);
        }
        taken.push(count);
    }
    assert_eq!(taken[..4], [16, 1, 1, 1], "the first has the room, the others begin");
    assert_eq!(taken[6..], [0, 0], "the reserve has an end too");
    driver.holds_disk = false;
    driver.finish_writes();
    driver.turn();
    assert_eq!(driver.host.uncommitted_bytes(), 0);
    for shard in driver.shards() {
        ticket += 1;
        driver.write(shard, ticket);
        assert!(!driver.was_busy(ticket), "there is room again");
    }
}

/// Goal: entries that were handed out and are not applied stay bounded for the node, also if they
/// are read back first, and every entry of every shard is applied in the end. Method: each shard
/// commits as much as all together may hand out, while nothing is applied and nothing stays in
/// memory.
#[test]
fn what_is_not_applied_is_bounded_for_the_node() {
    let bytes_max = 8 * ENTRY_BYTES_MAX;
    let mut driver = Driver::new(1, 8, |config| {
        config.apply_bytes_max = bytes_max;
        config.entry_cache_bytes_max = 2 * ENTRY_BYTES_MAX;
    });
    let mut tickets = Vec::new();
    for shard in driver.shards() {
        for _ in 0..8 {
            tickets.push(Ticket(tickets.len() as u64));
            driver.write(shard, tickets.len() as u64 - 1);
            let apply_bytes = driver.host.apply_bytes();
            assert!(apply_bytes < bytes_max + ENTRY_BYTES_MAX, "{apply_bytes} bytes handed out");
        }
    }
    assert!(driver.unapplied.len() < tickets.len(), "most of them wait");
    let mut applied = Vec::new();
    while !driver.unapplied.is_empty() {
        applied.extend(driver.apply_one());
        let apply_bytes = driver.host.apply_bytes();
        assert!(apply_bytes < bytes_max + ENTRY_BYTES_MAX, "{apply_bytes} bytes handed out");
    }
    applied.sort();
    assert_eq!(applied, tickets, "nobody is forgotten");
    assert_eq!(driver.host.apply_bytes(), 0);
}

/// Goal: a peer that acknowledges nothing has no more under way than one peer may, over all shards,
/// and takes no room from another. Method: one peer answers only heartbeats, the other everything;
/// then the first one does, too.
#[test]
fn what_is_under_way_to_a_peer_is_bounded_for_the_node() {
    let (shards, bytes_max) = (8, 4 * ENTRY_BYTES_MAX);
    let mut driver = Driver::new(3, shards, |config| config.window_peer_bytes_max = bytes_max);
    let mut tickets = Vec::new();
    for _ in 0..16 {
        for shard in driver.shards() {
            tickets.push(Ticket(tickets.len() as u64));
            driver.write(shard, tickets.len() as u64 - 1);
            driver.answer_as(3, true);
            let bytes = driver.host.window_bytes(NodeId(2));
            let one_each = shards as usize * ENTRY_BYTES_MAX;
            assert!(bytes < bytes_max + one_each, "{bytes} bytes are under way to node 2");
            assert_eq!(driver.host.window_bytes(NodeId(3)), 0);
        }
    }
    let mut applied = driver.apply_all();
    applied.sort();
    assert_eq!(applied, tickets, "the other peer makes the quorum");
    driver.answer_as(2, true);
    assert_eq!(driver.host.window_bytes(NodeId(2)), 0, "it has everything");
    // What a leader had under way no longer counts once it does not lead.
    driver.write(ShardId(1), 9_999);
    assert!(driver.host.window_bytes(NodeId(2)) > 0);
    driver.host.step_down_all(driver.now);
    driver.turn();
    assert_eq!(driver.host.window_bytes(NodeId(2)), 0);
}
