//! The simulated world: time, nodes, and everything that happens around them.
//!
//! One queue of happenings drives it. Each happening touches one node, takes that node's turn, and
//! schedules what follows. The world shows everything to the [`Watch`] in the order in which it
//! happens; the first property that breaks ends the run.

mod apply;
mod clients;
mod clock;
pub(crate) mod data_store;
mod faults;
mod heal;
mod installs;
mod kv_workload;
mod life;
mod liveness;
mod log_disk;
pub(crate) mod log_replica;
mod network;
mod node;
mod operator;
mod post;
mod profile;
mod receiving;
mod sample;
mod schedule;
mod storage;
mod transfers;
mod turn;
mod units;
mod watch;
mod workload;

use std::collections::BTreeMap;

use quorate_host::Ticket;
use quorate_raft::Membership;
use quorate_types::{Index, Mutant, Mutation, ShardId, SplitMix64};

pub use kv_workload::KvWorkload;
pub use profile::{Clocks, Profile};
pub use watch::{Failure, Finished};
pub use workload::{Ask, Moment, Outcome, Workload};

use self::clients::{Client, ClientNumber};
use self::clock::Clock;
use self::network::Network;
use self::node::Node;
use self::operator::Operator;
use self::schedule::{Happening, Schedule};
use self::units::{MILLI, SECOND};
use self::watch::Watch;
use crate::observation::{FaultKind, Observation, why};

/// How to make a world.
#[derive(Clone, Copy, Debug)]
pub struct WorldConfig {
    /// The same seed gives the same history.
    pub seed: u64,
    /// How long faults strike, in milliseconds of simulated time; then everything heals.
    pub faulty_ms: u64,
    /// Makes the workload: the clients' requests, and the machines that interpret them.
    pub workload: fn() -> Box<dyn Workload>,
    /// The command that runs one seed of this world, shown with a failure; the seed follows it.
    pub replay: &'static str,
    /// Changes the profile that the seed drew, to make some situation likely.
    pub shape: fn(&mut Profile),
    /// A deliberate bug in every node.
    pub mutation: Mutation,
}

impl WorldConfig {
    /// A minute of faults around the built-in key-value store.
    #[must_use]
    pub fn new(seed: u64) -> WorldConfig {
        let workload = || Box::new(KvWorkload::new()) as Box<dyn Workload>;
        let (shape, mutation): (fn(&mut Profile), _) = (|_| {}, Mutation::NONE);
        let replay = "just sim";
        WorldConfig { seed, faulty_ms: 60_000, workload, replay, shape, mutation }
    }
}

/// One simulated cluster with its clients, faults and checks; see the crate's documentation.
pub struct World {
    config: WorldConfig,
    profile: Profile,
    /// True time in nanoseconds.
    now: u64,
    random: SplitMix64,
    schedule: Schedule,
    network: Network,
    nodes: Vec<Node>,
    /// All shards, in the order of their creation.
    shards: Vec<ShardId>,
    clients: Vec<Client>,
    /// The node that clients take for each shard's leader.
    hints: BTreeMap<ShardId, usize>,
    /// The newest acknowledged write of each shard.
    acknowledged: BTreeMap<ShardId, Index>,
    operations_last: u64,
    /// Operations of clients that succeeded.
    ended_well: u64,
    tickets_last: u64,
    transfers_last: u64,
    operator: Operator,
    probes: heal::Probes,
    /// Changes of members requested from a leader.
    asked_changes: BTreeMap<Ticket, (ShardId, Membership)>,
    /// Shards whose commit index may move in the next turn.
    touched: Vec<ShardId>,
    /// The next snapshot chunk from this node is lost.
    snapshot_cut: Option<usize>,
    is_healed: bool,
    /// Clients send no more requests.
    is_resting: bool,
    workload: Box<dyn Workload>,
    watch: Watch,
    /// Hash of everything that happened.
    history: u64,
}

impl World {
    /// Makes a world in which nothing has happened yet.
    #[must_use]
    pub fn new(config: WorldConfig) -> World {
        let mut random = SplitMix64::new(config.seed);
        let mut profile = Profile::of(&mut random);
        (config.shape)(&mut profile);
        World::with_profile(config, profile, random)
    }

    /// A world of a given profile.
    fn with_profile(config: WorldConfig, profile: Profile, mut random: SplitMix64) -> World {
        let clock = |random: &mut SplitMix64| Clock::new(random.below(1_000 * SECOND), 0);
        let mut nodes: Vec<Node> =
            (0..profile.nodes).map(|n| Node::new(n, clock(&mut random))).collect();
        nodes.iter_mut().for_each(|node| node.disk.mutation = config.mutation);
        World {
            config,
            now: 0,
            schedule: Schedule::default(),
            network: Network::new(profile.nodes, profile.is_unruly),
            nodes,
            shards: Vec::new(),
            clients: (0..profile.clients).map(|_| Client::default()).collect(),
            hints: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            operations_last: 0,
            ended_well: 0,
            tickets_last: 0,
            transfers_last: 0,
            operator: Operator::default(),
            probes: heal::Probes::default(),
            asked_changes: BTreeMap::new(),
            touched: Vec::new(),
            snapshot_cut: None,
            is_healed: false,
            is_resting: false,
            workload: (config.workload)(),
            watch: Watch::new(config.seed, config.replay),
            history: 0,
            random,
            profile,
        }
    }

    /// The profile drawn from the seed.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Runs the world to its end.
    ///
    /// # Errors
    /// The first property that did not hold, and the events before it.
    pub fn run(mut self) -> Result<Finished, Box<Failure>> {
        self.run_to_end()?;
        Ok(self.watch.finish(self.history ^ self.random.bits()))
    }

    fn run_to_end(&mut self) -> Result<(), Box<Failure>> {
        self.begin();
        self.run_until(self.config.faulty_ms * MILLI)?;
        self.heal();
        self.run_until(self.now + heal::BOUND)?;
        self.rest();
        let rest = if self.profile.has_idle_shards { heal::REST_IDLE } else { heal::REST };
        self.run_until(self.now + rest)?;
        // The audit may have woken a shard just now: it gets more time to quiesce.
        for _ in 0..heal::LOOKS_MORE {
            if !self.profile.has_liveness || self.is_all_quiesced() {
                break;
            }
            self.run_until(self.now + SECOND)?;
        }
        self.probe();
        self.run_until(self.now + heal::PROBE_TIMEOUT)?;
        // A replica may have been given up just now: its end gets time to become durable.
        for _ in 0..heal::LOOKS_MORE {
            if !self.nodes.iter().any(Node::has_ends_under_way) {
                break;
            }
            self.run_until(self.now + SECOND)?;
        }
        self.end();
        self.watch.failure(self.now)
    }

    fn begin(&mut self) {
        for number in 1..=self.profile.shards {
            self.create_shard(ShardId(number));
        }
        for node in 0..self.nodes.len() {
            self.schedule.at(0, Happening::Restart { node });
            let at = self.random.below(SECOND);
            self.schedule.at(at, Happening::Flush { node });
        }
        for client in 0..self.clients.len() {
            let at = SECOND + self.random.below(SECOND);
            self.schedule.at(at, Happening::Client(ClientNumber(client)));
        }
        self.begin_faults();
        self.schedule.at(SECOND, Happening::Operator);
        self.schedule.at(50 * MILLI, Happening::Sample);
    }

    fn run_until(&mut self, end: u64) -> Result<(), Box<Failure>> {
        while let Some((at, number, happening)) = self.schedule.next(end) {
            self.now = at;
            self.history = self.history.rotate_left(5) ^ at.wrapping_mul(31) ^ number;
            self.happen(happening);
            if self.watch.is_broken() {
                break;
            }
        }
        self.watch.failure(self.now)?;
        self.now = end;
        Ok(())
    }

    /// The time until which the happening's receiver, a worker or a heartbeat thread, stands
    /// still.
    fn stands_until(&self, happening: &Happening) -> u64 {
        match happening {
            Happening::Freight { to, .. } => self.nodes[*to].worker_stands_until(),
            Happening::Datagram { to, .. } => self.nodes[*to].paused_until,
            // The threads of apply, fetch, log and snapshots go on while the worker hangs.
            Happening::Heartbeat { node }
            | Happening::Apply { node, .. }
            | Happening::Adopt { node, .. }
            | Happening::Fetch { node, .. }
            | Happening::Ingested { node, .. }
            | Happening::ReceivingTimer { node, .. }
            | Happening::Flushed { node, .. }
            | Happening::Synced { node, .. }
            | Happening::SnapshotTimer { node, .. } => self.nodes[*node].paused_until,
            Happening::Timer { node } | Happening::Request { node, .. } => {
                self.nodes[*node].worker_stands_until()
            }
            _ => 0,
        }
    }

    fn happen(&mut self, happening: Happening) {
        let stands_until = self.stands_until(&happening);
        if self.now < stands_until {
            self.schedule.at(stands_until, happening);
            return;
        }
        match happening {
            Happening::Freight { from, to, generation, freight } => {
                self.deliver(from, to, generation, *freight);
            }
            Happening::Datagram { from, to, datagram } => self.handle_datagram(from, to, &datagram),
            Happening::Synced { node, sync } => self.handle_synced(node, sync),
            Happening::Apply { node, life, shard, replica } => {
                self.handle_apply(node, life, shard, replica);
            }
            Happening::Adopt { node, life, shard, replica } => {
                self.handle_adopt(node, life, (shard, replica));
            }
            Happening::Fetch { node, life, fetch } => self.handle_fetch(node, life, &fetch),
            Happening::Destroy { node, life, shard, replica } => {
                if self.nodes[node].life == life {
                    self.order_end(node, (shard, replica), why::LEFT);
                    self.step(node);
                }
            }
            Happening::Birth { node, shard, replica } => self.create_replica(node, shard, replica),
            Happening::Timer { node } => {
                if self.nodes[node].timer_at <= self.now {
                    self.nodes[node].timer_at = u64::MAX;
                    self.step(node);
                }
            }
            Happening::News { node, life, event } => self.handle_news(node, life, *event),
            Happening::Heartbeat { node } => self.handle_heartbeat_timer(node),
            Happening::SnapshotTimer { node, life, transfer, sent } => {
                self.handle_snapshot_timer(node, life, transfer, sent);
            }
            Happening::ReceivingTimer { node, life, shard, transfer } => {
                self.handle_receiving_timer(node, life, shard, transfer);
            }
            Happening::Ingested { node, life, shard, transfer } => {
                self.handle_ingested(node, life, shard, transfer);
            }
            Happening::Restart { node } => self.start(node),
            Happening::Flush { node } => self.flush(node),
            Happening::Flushed { node, life } => self.handle_flushed(node, life),
            Happening::CrashDamaged { node, life } => {
                if self.nodes[node].life == life && !self.is_healed {
                    self.crash(FaultKind::Crash, &[node]);
                }
            }
            Happening::Client(client) => self.client_asks(client),
            Happening::Request { client, operation, node } => {
                self.handle_request(client, operation, node);
            }
            Happening::Timeout { client, operation } => {
                self.handle_client_timeout(client, operation);
            }
            Happening::Operator => self.operate(),
            Happening::Fault(kind) => self.handle_fault(kind),
            Happening::FaultEnd(end) => self.handle_fault_end(end),
            Happening::Sample => self.sample(),
        }
    }

    /// Whether the nodes of this world have this deliberate bug.
    pub(crate) fn breaks(&self, mutant: Mutant) -> bool {
        self.config.mutation.is(mutant)
    }

    /// Shows an observation to all watchers.
    pub(crate) fn observe(&mut self, observation: Observation<'_>) {
        self.watch.observe(self.now, &self.nodes, &observation);
    }

    /// Records a failure that the world itself or its workload found.
    pub(crate) fn fail(&mut self, property: &'static str, shard: Option<ShardId>, what: String) {
        self.watch.fail(property, shard, what);
    }
}
