//! The world: clocks, the network, faults, and the properties that are checked in every step.

use std::collections::BTreeMap;

use quorate_liveness::{Datagram, SupportHeld};
use quorate_raft::Membership;
use quorate_types::{Duration, Incarnation, Monotonic, NodeId, Term, limits};

use crate::node::{Node, Packet, SHARDS, Said, member, membership, start_liveness, start_replica};
use crate::rules::Broken;

/// xorshift64*, seeded.
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    pub(crate) fn pick(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) elections: u64,
    pub(crate) withdrawals: u64,
    pub(crate) transfers: u64,
    pub(crate) restarts: u64,
    pub(crate) quarantines: u64,
    pub(crate) audits: u64,
    pub(crate) refusals: u64,
    pub(crate) healed_ms_max: u64,
}

impl Counts {
    /// Adds the counts; of the times to heal the longest is kept.
    pub(crate) fn add(&mut self, other: &Counts) {
        self.reads += other.reads;
        self.elections += other.elections;
        self.withdrawals += other.withdrawals;
        self.transfers += other.transfers;
        self.restarts += other.restarts;
        self.quarantines += other.quarantines;
        self.audits += other.audits;
        self.refusals += other.refusals;
        self.healed_ms_max = self.healed_ms_max.max(other.healed_ms_max);
    }
}

/// What the group as a whole has committed.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) committed: Vec<Term>,
    /// The leader's term that committed each entry.
    pub(crate) committed_in: Vec<Term>,
    pub(crate) leaders: BTreeMap<Term, usize>,
}

pub(crate) struct World {
    pub(crate) broken: Broken,
    pub(crate) now_ms: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) truth: Vec<Truth>,
    pub(crate) random: Random,
    pub(crate) is_calm: bool,
    /// Every write of a longest support takes seconds, so that crashes come before its end.
    pub(crate) has_slow_disks: bool,
    pub(crate) counts: Counts,
    pub(crate) groups: Vec<Membership>,
    network: Vec<(u64, usize, usize, Packet)>,
    pub(crate) cut: Vec<Vec<bool>>,
    pub(crate) hung: Vec<Vec<bool>>,
}

impl World {
    pub(crate) fn new(seed: u64, broken: Broken) -> World {
        let mut random = Random::new(seed);
        let count = if random.chance(700) { 3 } else { 5 };
        let nodes = (0..count).map(|node| {
            let offset_ms = 100_000 + random.below(1_000_000);
            let support = Duration::from_millis([600, 1_000, 1_500][random.pick(3)]);
            let now = Monotonic::from_millis(offset_ms);
            let live = start_liveness(now, node, count, 1, support, Duration::ZERO);
            Node {
                incarnation: 1,
                longest: Duration::ZERO,
                replicas: (0..SHARDS).map(|s| start_replica(s, node, count, None)).collect(),
                // 1.5% either way: two clocks drift apart by 45 ms in the longest support.
                parts_per_million: random.below(30_001) as i64 - 15_000,
                offset_ms,
                is_up: true,
                paused_until_ms: 0,
                heartbeat_thread_at_ms: 0,
                worker_at_ms: 0,
                support,
                persisting: None,
                standings: live.standings().clone(),
                live,
                changes: Vec::new(),
                index: quorate_liveness::WakeIndex::new(seed ^ node as u64),
                epochs_hidden: BTreeMap::new(),
                until_by_receipt: BTreeMap::new(),
                supported: BTreeMap::new(),
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let has_slow_disks = random.chance(200);
        let mut world = World {
            broken,
            now_ms: 0,
            nodes,
            has_slow_disks,
            truth: (0..SHARDS).map(|_| Truth::default()).collect(),
            random,
            is_calm: false,
            counts: Counts::default(),
            groups: (0..SHARDS).map(|shard| membership(shard, count)).collect(),
            network: Vec::new(),
            cut: vec![vec![false; count]; count],
            hung: vec![vec![false; count]; count],
        };
        for node in 0..count {
            for shard in 0..SHARDS {
                world.arm(node, shard);
            }
        }
        world
    }

    pub(crate) fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |other| *other != node)
    }

    pub(crate) fn clock(&self, node: usize) -> Monotonic {
        let Node { parts_per_million, offset_ms, .. } = &self.nodes[node];
        let elapsed_ns = self.now_ms as i64 * (1_000_000 + parts_per_million);
        Monotonic(offset_ms * 1_000_000 + elapsed_ns as u64)
    }

    /// The support that `node` may count on, as the rules in force have it.
    pub(crate) fn held(&self, node: usize, peer: NodeId) -> Option<SupportHeld> {
        let held = self.nodes[node].live.held(peer)?;
        let until = match self.nodes[node].until_by_receipt.get(&peer) {
            Some(until) => *until,
            None if self.broken == Broken::NoDriftMargin => held.until + limits::DRIFT_MARGIN,
            None => held.until,
        };
        Some(SupportHeld { until, ..held })
    }

    /// Until when `node` would serve reads of `shard` without asking, by its clock.
    pub(crate) fn lease_until(&self, node: usize, shard: usize) -> Option<Monotonic> {
        let replica = &self.nodes[node].replicas[shard];
        let lease = replica.lease.as_ref().filter(|_| self.nodes[node].is_up)?;
        let group = &self.groups[shard];
        let held = |peer| self.held(node, peer);
        if self.broken == Broken::UnboundCounts && replica.commit > 0 && lease.ended().is_none() {
            let is_open = replica.log[replica.commit - 1] == replica.term;
            let own = member(shard, node);
            let until = quorate_liveness::LeaderMonitor::supported_until(own, group, held);
            return is_open.then_some(until);
        }
        lease.until(group, held)
    }

    pub(crate) fn has_lease(&self, node: usize, shard: usize) -> bool {
        self.lease_until(node, shard).is_some_and(|until| until > self.clock(node))
    }

    pub(crate) fn say(&mut self, from: usize, to: usize, shard: usize, term: Term, said: Said) {
        self.send(from, to, Packet::Shard { shard, term, said });
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        // Datagrams pass while streams hang.
        let is_hung = self.hung[from][to] && !matches!(packet, Packet::Datagram(_));
        let is_lost = !self.is_calm && self.random.chance(60);
        if self.cut[from][to] || is_hung || is_lost {
            return;
        }
        let copies = if !self.is_calm && self.random.chance(40) { 2 } else { 1 };
        for _ in 0..copies {
            let delay_ms = match () {
                () if !self.is_calm && self.random.chance(60) => self.random.below(3_000),
                () if self.random.chance(200) => self.random.below(150),
                () => self.random.below(8),
            };
            self.network.push((self.now_ms + 1 + delay_ms, from, to, packet.clone()));
        }
    }

    /// Runs for a while; stops early once `until` says so.
    pub(crate) fn run(&mut self, ms: u64, until: impl Fn(&World) -> bool) {
        let end = self.now_ms + ms;
        while self.now_ms < end && !until(self) {
            self.now_ms += 1;
            self.deliver();
            for node in 0..self.nodes.len() {
                if self.nodes[node].is_up && self.nodes[node].paused_until_ms <= self.now_ms {
                    self.run_threads(node);
                }
            }
            self.check_leases();
            // Lives that are not told apart would fail this check before they do harm.
            if self.now_ms.is_multiple_of(5) && self.broken != Broken::IncarnationKept {
                self.check_support();
            }
            if !self.is_calm && self.random.chance(2) {
                self.fault();
            }
        }
    }

    fn deliver(&mut self) {
        let mut next = 0;
        while next < self.network.len() {
            let (at, _, to, packet) = &self.network[next];
            // A paused process finds its messages later, a late thread its datagrams.
            let is_late = self.nodes[*to].heartbeat_thread_at_ms > self.now_ms + 5
                && matches!(packet, Packet::Datagram(_));
            let is_paused = self.nodes[*to].paused_until_ms > self.now_ms;
            if *at > self.now_ms || is_paused || is_late {
                next += 1;
                continue;
            }
            let (_, from, to, packet) = self.network.swap_remove(next);
            if self.nodes[to].is_up {
                self.receive(from, to, packet);
            }
        }
    }

    /// Heartbeat thread and worker each run every few milliseconds, sometimes late.
    fn run_threads(&mut self, node: usize) {
        let (now_ms, is_late) = (self.now_ms, !self.is_calm && self.random.chance(2));
        let lateness_ms = if is_late { self.random.below(120) } else { 0 };
        if self.nodes[node].heartbeat_thread_at_ms <= now_ms {
            self.nodes[node].heartbeat_thread_at_ms = now_ms + 5 + lateness_ms;
            self.run_heartbeat_thread(node);
        }
        if self.nodes[node].worker_at_ms <= now_ms {
            self.nodes[node].worker_at_ms = now_ms + 5;
            self.run_worker(node);
        }
    }

    pub(crate) fn heal_network(&mut self) {
        for row in self.cut.iter_mut().chain(&mut self.hung) {
            row.fill(false);
        }
    }

    /// Ends all faults: links work, processes run.
    pub(crate) fn heal(&mut self) {
        if self.random.chance(300) {
            self.quarantine_unheard();
        }
        self.is_calm = true;
        self.heal_network();
        for node in 0..self.nodes.len() {
            self.nodes[node].live.handle_fitness(None);
            self.nodes[node].paused_until_ms = 0;
            self.nodes[node].heartbeat_thread_at_ms = 0;
            if !self.nodes[node].is_up {
                self.start(node);
            }
        }
    }

    /// A new process, after a crash of the old one if it still ran.
    pub(crate) fn start(&mut self, node: usize) {
        self.counts.restarts += 1;
        let (now, count, broken) = (self.clock(node), self.nodes.len(), self.broken);
        let support = Duration::from_millis([600, 1_000, 1_500][self.random.pick(3)]);
        let this = &mut self.nodes[node];
        if broken != Broken::IncarnationKept {
            this.incarnation += 1;
        }
        let longest = match broken {
            Broken::SilenceTooShort => support.min(this.longest),
            _ => this.longest,
        };
        this.live = start_liveness(now, node, count, this.incarnation, support, longest);
        this.standings = this.live.standings().clone();
        this.support = support;
        this.is_up = true;
        this.paused_until_ms = 0;
        this.persisting = None;
        this.changes.clear();
        this.index = quorate_liveness::WakeIndex::new(this.incarnation << 8 | node as u64);
        this.epochs_hidden.clear();
        this.until_by_receipt.clear();
        this.supported.clear();
        for shard in 0..SHARDS {
            let old = self.nodes[node].replicas.remove(0);
            self.nodes[node].replicas.push(start_replica(shard, node, count, Some(old)));
            self.arm(node, shard);
        }
    }
}

/// The datagram that `bytes` hold, with its epochs moved by `hidden` (see
/// [`Broken::EpochKept`]).
pub(crate) fn shifted(datagram: Datagram, hidden: u64, up: bool) -> Datagram {
    use quorate_liveness::{SupportEpoch, Verdict};
    let shift = |epoch: SupportEpoch| match up {
        true => SupportEpoch(epoch.0 + hidden),
        false => SupportEpoch(epoch.0 - hidden),
    };
    match datagram {
        Datagram::Heartbeat(mut heartbeat) => {
            heartbeat.epoch = shift(heartbeat.epoch);
            Datagram::Heartbeat(heartbeat)
        }
        Datagram::Answer(mut answer) => {
            answer.epoch = shift(answer.epoch);
            if let Verdict::Refused { lowest } = &mut answer.verdict {
                *lowest = shift(*lowest);
            }
            Datagram::Answer(answer)
        }
    }
}

/// How long a requester may count on an answer that came at `now`, if it counted from then.
pub(crate) fn until_from(now: Monotonic, support: Duration) -> Monotonic {
    now + (support - limits::DRIFT_MARGIN)
}

/// The incarnation that a node speaks in.
pub(crate) fn incarnation(node: &Node) -> Incarnation {
    Incarnation(node.incarnation)
}
