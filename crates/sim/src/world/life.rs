//! Starts and ends shards, processes and replicas.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_host::{Host, HostConfig, ReplicaInit};
use quorate_liveness::{LivenessConfig, NodeLiveness};
use quorate_machine::AppliedRecord;
use quorate_raft::{Config, Member, Membership};
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, Mutant, ReplicaId, ShardId, Term, WallMillis,
    limits,
};

use super::data_store::{Space, SpaceId};
use super::log_disk::LogReplica;
use super::node::{Live, Node, Process, node_id, number_of};
use super::profile::Clocks;
use super::schedule::Happening;
use super::{MILLI, SECOND, World};
use crate::observation::{FaultKind, Observation, why};

/// Where the log of every new shard begins (RULE 14).
const BASE: LogId = LogId::new(Term(1), Index(1));

/// Sets bounds so small that a few clients reach them.
fn tighten(config: &mut Config) {
    config.window_messages_max = 4;
    config.window_bytes_max = 2_000;
    config.append_bytes_max = 300;
    config.uncommitted_bytes_max = 3_000;
    config.apply_bytes_max = 500;
    config.kept_entries_max = 50;
    config.promotion_lag_entries_max = 8;
}

/// Does the same for the bounds of all shards of a node together.
fn tighten_host(config: HostConfig) -> HostConfig {
    HostConfig {
        uncommitted_bytes_max: 6_000,
        uncommitted_reserve_bytes: 3_000,
        apply_bytes_max: 800,
        window_peer_bytes_max: 3_000,
        ..config
    }
}

impl World {
    /// Makes a shard, with its replicas on nodes drawn at random.
    pub(crate) fn create_shard(&mut self, shard: ShardId) {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
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
            self.create_replica(number_of(member.node), shard, member.replica);
        }
    }

    /// Makes a replica with the shard's first base, durably; a running process hosts it at once.
    pub(crate) fn create_replica(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        if self.nodes[node].disk.tombstone(shard).is_some_and(|dead| replica <= dead) {
            let node = node_id(node);
            self.observe(Observation::TombstoneRefused { node, shard, replica });
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
        self.nodes[node].disk.create(shard, LogReplica::new(replica, BASE, first, space));
        if self.nodes[node].process.is_some() {
            self.take_in(node, shard, replica, space);
            self.step(node);
        }
    }

    /// Lets a process host a replica, as restored from the stores.
    fn take_in(&mut self, node: usize, shard: ShardId, replica: ReplicaId, space: SpaceId) {
        let machine = self.workload.machine();
        let Node { id, data, disk, process, clock, .. } = &mut self.nodes[node];
        let (id, applied) = (*id, data.space(space).record.applied.index);
        let restored = disk.restore(shard, applied).expect("damage was looked for before");
        assert!(applied <= restored.last.index, "data beyond the log's end (RULE 4)");
        let process = process.as_mut().expect("only the living take replicas in");
        let init =
            ReplicaInit { shard, replica, descriptor_version: 1, restored: restored.clone() };
        process.host.add(clock.read(self.now), init);
        let live = Live {
            replica,
            space,
            machine,
            commit: Index(0),
            is_quiesced: false,
            applying: VecDeque::new(),
            apply_at: 0,
        };
        process.replicas.insert(shard, live);
        let restored = &restored;
        self.observe(Observation::ReplicaAdded { node: id, shard, replica, restored });
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
        let Node { id, life, disk, data, process, heartbeat_at, .. } = &mut self.nodes[node];
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
            callers: BTreeMap::new(),
            inbox: VecDeque::new(),
            transfers: BTreeMap::new(),
            receiving: BTreeMap::new(),
        });
        let named: Vec<SpaceId> = disk.replicas().map(|(_, replica)| replica.space).collect();
        data.retain(|space| named.contains(&space));
        let all: Vec<_> = disk.replicas().map(|(shard, r)| (shard, r.replica, r.space)).collect();
        *heartbeat_at = self.now;
        self.observe(Observation::NodeStarted { node: id, incarnation });
        for (shard, replica, space) in all {
            if self.breaks(Mutant::DamageIsTheEnd) {
                self.nodes[node].disk.cut_at_damage(shard);
            }
            if self.nodes[node].disk.restore(shard, BASE.index).is_none() {
                self.remove_replica(node, shard, why::DAMAGED);
            } else {
                self.take_in(node, shard, replica, space);
            }
        }
        self.schedule.at(self.now, Happening::Heartbeat { node });
        self.step(node);
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
        let survived = self.nodes[node].disk.crash(survivors);
        self.show_durable(node, &survived);
        if (survived.len() as u64) < under_way && self.random.chance(300) {
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

    /// Removes a replica for good: on proof, or because it may have lost what it promised (RULE 5).
    pub(crate) fn remove_replica(&mut self, node: usize, shard: ShardId, reason: &'static str) {
        let Some(replica) = self.nodes[node].disk.replica(shard).map(|r| r.replica) else { return };
        let now = self.nodes[node].read(self.now);
        let id = self.nodes[node].id;
        let Node { disk, data, process, .. } = &mut self.nodes[node];
        let space = disk.end(shard).expect("looked at just now");
        let mut is_hosted = false;
        if let Some(process) = process {
            if let Some(live) = process.replicas.remove(&shard) {
                process.host.remove(now, shard);
                is_hosted = true;
                data.remove(live.space);
            }
            if let Some(space) = process.receiving.remove(&shard).and_then(|r| r.space()) {
                data.remove(space);
            }
            process.transfers.retain(|_, transfer| transfer.shard != shard);
        }
        data.remove(space);
        self.observe(Observation::ReplicaRemoved { node: id, shard, replica, why: reason });
        if reason == why::DAMAGED {
            self.operator.note_ended(shard, replica);
        }
        if is_hosted {
            self.step(node);
        }
    }
}
