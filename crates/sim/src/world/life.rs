//! Starts and ends shards, processes and replicas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_host::{Host, HostConfig, ReplicaInit};
use quorate_liveness::{LivenessConfig, NodeLiveness};
use quorate_machine::AppliedRecord;
use quorate_raft::{Config, Member, Membership};
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, Mutant, ReplicaId, ShardId, Term, WallMillis,
    limits,
};

use super::World;
use super::data_store::{Space, SpaceId};
use super::log_disk::{DiskTurn, LogUnit, ReplicaEnd};
use super::log_replica::LogReplica;
use super::node::{Live, Node, Process, node_id, number_of};
use super::profile::{
    Clocks, TIGHT_APPLY_BYTES_MAX, TIGHT_KEPT_ENTRIES_MAX, TIGHT_NODE_APPLY_BYTES_MAX,
};
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use crate::observation::{FaultKind, Observation, why};

/// Where the log of every new shard begins (RULE 14).
const BASE: LogId = LogId::new(Term(1), Index(1));

/// Sets bounds so small that a few clients reach them.
fn tighten(config: &mut Config) {
    config.window_messages_max = 4;
    config.window_bytes_max = 2_000;
    config.append_bytes_max = 300;
    config.uncommitted_bytes_max = 3_000;
    config.apply_bytes_max = TIGHT_APPLY_BYTES_MAX;
    config.kept_entries_max = TIGHT_KEPT_ENTRIES_MAX;
    config.promotion_lag_entries_max = 8;
}

/// Does the same for the bounds of all shards of a node together.
fn tighten_host(config: HostConfig) -> HostConfig {
    HostConfig {
        uncommitted_bytes_max: 6_000,
        uncommitted_reserve_bytes: 3_000,
        apply_bytes_max: TIGHT_NODE_APPLY_BYTES_MAX,
        window_peer_bytes_max: 3_000,
        ..config
    }
}

impl World {
    /// Makes a shard, with its replicas on nodes drawn at random.
    pub(crate) fn create_shard(&mut self, shard: ShardId) {
        let is_sound = |node: &usize| !self.nodes[*node].disk.is_wal_damaged();
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(is_sound).collect();
        let voters = self.profile.voters.min(nodes.len());
        let members: Vec<Member> = (1..=voters as u64)
            .map(|replica| {
                let node = nodes.swap_remove(self.random.place(nodes.len()));
                Member { replica: ReplicaId(replica), node: node_id(node) }
            })
            .collect();
        let first = Membership::of_voters(members.iter().copied());
        self.shards.push(shard);
        self.operator.add_shard(shard, first);
        for member in members {
            self.order_birth(number_of(member.node), shard, member.replica);
        }
    }

    /// Makes a replica with the shard's first base. Before the world begins it is durable at once; later
    /// it waits for a sync of its own, before which nothing of it exists.
    pub(crate) fn create_replica(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        if self.now > 0 && self.nodes[node].process.is_none() {
            return;
        }
        let first = self.operator.first_membership(shard).clone();
        let record = AppliedRecord {
            applied: BASE,
            epoch: Epoch { membership: 1, version: 1 },
            start: Bytes::new(),
            end: None,
            membership: first.clone(),
            clock: WallMillis(0),
        };
        let space = self.nodes[node].data.create(Space::new(BTreeMap::new(), record));
        let log = LogReplica::new(replica, BASE, first, space);
        if self.now == 0 {
            self.nodes[node].disk.create(shard, log);
        } else {
            self.submit(node, DiskTurn::Birth(shard, Box::new(log)));
        }
    }

    /// Lets a process host a replica, as restored from the stores.
    pub(crate) fn take_in(
        &mut self,
        node: usize,
        shard: ShardId,
        replica: ReplicaId,
        space: SpaceId,
    ) {
        let Node { id, data, disk, .. } = &mut self.nodes[node];
        let (id, applied) = (*id, data.space(space).record.applied.index);
        let restored = disk.restore(shard, applied).expect("damage was looked for before");
        self.observe(Observation::ReplicaAdded { node: id, shard, replica, restored: &restored });
        if self.watch.is_broken() {
            return;
        }
        let live = Live::new(replica, space, self.workload.machine());
        let Node { process, clock, .. } = &mut self.nodes[node];
        assert!(applied <= restored.last.index, "data beyond the log's end (RULE 4)");
        let process = process.as_mut().expect("only the living take replicas in");
        let init = ReplicaInit { shard, replica, descriptor_version: 1, restored };
        process.host.add(clock.read(self.now), init);
        process.replicas.insert(shard, live);
        self.touch(shard);
    }

    /// Starts a node's process from what its stores hold.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        for peer in 0..self.nodes.len() {
            self.network.reset(node, peer);
        }
        let seed = self.random.bits();
        let liveness = self.profile.has_liveness;
        let lease_reads = self.profile.clocks == Clocks::WithinMargin;
        let mutation = self.config.mutation;
        let entry_cache_bytes_max = self.profile.entry_cache_bytes_max;
        let is_tight = self.profile.is_tight;
        let shape = if is_tight { tighten } else { |_: &mut Config| () };
        let peers = (0..self.nodes.len()).filter(|peer| *peer != node).map(node_id).collect();
        let count = self.nodes.len();
        let now = self.nodes[node].read(self.now);
        let Node { id, life, disk, process, heartbeat_at, .. } = &mut self.nodes[node];
        let id = *id;
        *life += 1;
        disk.incarnation += 1;
        let incarnation = Incarnation(disk.incarnation);
        let liveness = liveness.then(|| {
            let config = LivenessConfig {
                cluster: ClusterId(7),
                incarnation,
                support: limits::SUPPORT,
                longest_durable: disk.longest,
                peers,
            };
            NodeLiveness::new(now, &config).with_mutation(mutation)
        });
        let config = HostConfig {
            standings: liveness.as_ref().map(|liveness| liveness.standings().clone()),
            lease_reads,
            sends_snapshots: true,
            entry_cache_bytes_max,
            shape,
            mutation,
            ..HostConfig::new(id, incarnation, seed)
        };
        let config = if is_tight { tighten_host(config) } else { config };
        *process = Some(Process {
            host: Host::new(config),
            held: vec![None; count],
            liveness,
            replicas: BTreeMap::new(),
            leaving: BTreeMap::new(),
            orders: VecDeque::new(),
            doomed: BTreeSet::new(),
            ends: Vec::new(),
            kept_from: BTreeMap::new(),
            callers: BTreeMap::new(),
            inbox: VecDeque::new(),
            transfers: BTreeMap::new(),
            transfers_waiting: VecDeque::new(),
            receiving: BTreeMap::new(),
        });
        *heartbeat_at = self.now;
        self.observe(Observation::NodeStarted { node: id, incarnation });
        self.take_in_all(node);
        self.schedule.at(self.now, Happening::Heartbeat { node });
        self.handle_reconnects();
        self.step(node);
    }

    /// Takes in every replica that a starting node finds. Those that may have lost something end and
    /// are silent (RULE 5): one whose log is damaged, or all if the write-ahead log is. If a crash
    /// loses the ends, the next start finds the damage again.
    fn take_in_all(&mut self, node: usize) {
        if self.breaks(Mutant::WalDamageIgnored) {
            self.nodes[node].disk.cut_wal_at_damage();
        }
        self.nodes[node].sweep_spaces();
        let disk = &self.nodes[node].disk;
        let clears_damage = disk.is_wal_damaged();
        let all: Vec<_> = disk.replicas().map(|(shard, r)| (shard, r.replica, r.space)).collect();
        if clears_damage {
            let (id, replicas) = (self.nodes[node].id, all.len());
            self.observe(Observation::WalDamageFound { node: id, replicas });
        }
        for (shard, replica, space) in all {
            if self.breaks(Mutant::DamageIsTheEnd) {
                self.nodes[node].disk.cut_at_damage(shard);
            }
            let is_whole = self.nodes[node].disk.restore(shard, BASE.index).is_some();
            if is_whole && !clears_damage {
                self.take_in(node, shard, replica, space);
            } else {
                self.give_up(node, (shard, replica), why::DAMAGED);
            }
        }
        let process = self.nodes[node].process.as_mut().expect("it starts");
        let ends = std::mem::take(&mut process.ends);
        if !ends.is_empty() {
            let unit = LogUnit { ends, clears_damage, ..LogUnit::default() };
            self.submit(node, DiskTurn::Unit(unit));
        }
    }

    /// Ends a node's process, and schedules its restart.
    pub(crate) fn stop(&mut self, node: usize, reason: &'static str) {
        if self.nodes[node].process.take().is_none() {
            return;
        }
        let id = self.nodes[node].id;
        self.observe(Observation::NodeStopped { node: id, why: reason });
        let under_way = self.nodes[node].disk.under_way() as u64;
        let survivors = self.random.below(under_way + 1);
        let survivors = usize::try_from(survivors).expect("few turns");
        let (survived, lost) = self.nodes[node].disk.crash(survivors);
        for done in &survived {
            self.show_durable(node, done);
        }
        self.show_lost(node, &lost);
        if !lost.is_empty() && self.random.chance(300) {
            // A checksum shows the half-written turn, which is cut off.
            self.show_fault(FaultKind::TornWrite, Some(node));
        }
        if self.nodes[node].data.is_volatile() {
            self.show_fault(FaultKind::DataLost, Some(node));
        }
        let Node { data, timer_at, paused_until, hung_until, life, .. } = &mut self.nodes[node];
        data.crash();
        (*timer_at, *paused_until, *hung_until) = (u64::MAX, 0, 0);
        *life += 1;
        // What it sent may still arrive, until its next process connects.
        for peer in 0..self.nodes.len() {
            self.network.reset(peer, node);
        }
        let after = self.random.between(100 * MILLI, 4 * SECOND);
        self.schedule.at(self.now + after, Happening::Restart { node });
    }

    /// Shows ends and births that a crash has lost.
    fn show_lost(&mut self, node: usize, lost: &[DiskTurn]) {
        let node = self.nodes[node].id;
        for turn in lost {
            match turn {
                DiskTurn::Unit(unit) => {
                    for ReplicaEnd { shard, replica } in &unit.ends {
                        let (shard, replica) = (*shard, *replica);
                        self.observe(Observation::EndLost { node, shard, replica });
                    }
                }
                DiskTurn::Birth(shard, log) => {
                    let (shard, replica) = (*shard, log.replica);
                    self.observe(Observation::BirthLost { node, shard, replica });
                }
                DiskTurn::Longest(_) => {}
            }
        }
    }

    /// The worker gives a replica up for good: on proof, or because it may have lost what it promised
    /// (RULE 5). Its end rides to the log with the turn. Until that is durable, a crash can lose it:
    /// then the proof comes again, or the damage is found again.
    pub(crate) fn give_up(
        &mut self,
        node: usize,
        (shard, replica): (ShardId, ReplicaId),
        reason: &'static str,
    ) {
        let now = self.nodes[node].read(self.now);
        let this = &mut self.nodes[node];
        let (id, process) = (this.id, this.process.as_mut().expect("only the living give up"));
        let is_hosted = process.replicas.get(&shard).is_some_and(|live| live.replica == replica);
        if is_hosted {
            process.host.remove(now, shard);
            let live = process.replicas.remove(&shard).expect("looked at just now");
            process.leaving.insert((shard, replica), live);
            process.kept_from.remove(&shard);
            if process.receiving.get(&shard).is_some_and(|receiving| receiving.to == replica) {
                process.receiving.remove(&shard);
            }
        }
        process.doomed.remove(&(shard, replica));
        process.ends.push(ReplicaEnd { shard, replica });
        self.observe(Observation::ReplicaRemoved { node: id, shard, replica, why: reason });
        if reason == why::DAMAGED {
            self.operator.note_ended(shard, replica);
        }
        if is_hosted {
            self.end_transfers(node, shard, None);
            self.give_up_apply(node, shard, replica);
        }
    }
}
