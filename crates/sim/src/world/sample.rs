//! Takes samples of state that no event shows, from time to time.

use quorate_liveness::NodeLiveness;
use quorate_raft::{Member, Role};
use quorate_types::{ReplicaId, ShardId, Term};

use super::node::number_of;
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use super::{Clocks, World};
use crate::observation::{Memory, NodeMemory, Observation, SimTime};

impl World {
    /// Samples leases and support, twice a second quiescence, and once a second memory.
    pub(crate) fn sample(&mut self) {
        self.schedule.at(self.now + 50 * MILLI, Happening::Sample);
        if self.profile.has_liveness {
            for place in 0..self.shards.len() {
                self.sample_leases(self.shards[place]);
            }
            if self.profile.clocks == Clocks::WithinMargin {
                self.sample_support();
            }
            // Probes wake the shards that they are sent to, so no sample follows them.
            if self.now.is_multiple_of(SECOND / 2) && self.probes.is_empty() {
                self.sample_quiesced(false);
                self.sample_quiesced_leaders();
            }
        }
        if self.now.is_multiple_of(SECOND) {
            for node in 0..self.nodes.len() {
                self.sample_memory(node);
            }
        }
    }

    /// Shows which replicas hold a lease of the shard, each by its node's clock.
    pub(crate) fn sample_leases(&mut self, shard: ShardId) {
        if !self.profile.has_liveness || self.profile.clocks == Clocks::BeyondMargin {
            return;
        }
        let mut holders = Vec::new();
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            let Some(process) = &node.process else { continue };
            let Some(view) = process.host.view(shard) else { continue };
            let holds = view.lease_until.is_some_and(|until| node.read(self.now) < until);
            if holds && let Some(live) = process.replicas.get(&shard) {
                let (node, replica, term) = (node.id, live.replica, view.role.term);
                holders.push((node, replica, term));
                let membership = &view.membership;
                let voters = membership.voters.iter().chain(&membership.outgoing);
                let is_free = |voter: &&Member| self.may_vote(shard, **voter, replica, term);
                let free: Vec<ReplicaId> = voters.filter(is_free).map(|m| m.replica).collect();
                let free = &free;
                let held = Observation::LeaseHeld { node, shard, replica, term, membership, free };
                self.observe(held);
            }
        }
        self.observe(Observation::Leases { shard, holders: &holders });
    }

    /// Whether a voter is free to vote for a replica other than `leader`, which leads `term`.
    fn may_vote(&self, shard: ShardId, voter: Member, leader: ReplicaId, term: Term) -> bool {
        let node = &self.nodes[number_of(voter.node)];
        let Some(process) = &node.process else { return false };
        let is_here = process.replicas.get(&shard).is_some_and(|r| r.replica == voter.replica);
        let silent = |live: &NodeLiveness| live.standings().is_silent(node.read(self.now));
        let is_silent = process.liveness.as_ref().is_some_and(silent);
        if voter.replica == leader || !is_here || is_silent {
            return false;
        }
        let view = process.host.view(shard);
        view.is_some_and(|view| !view.is_bound || view.role.term != term)
    }

    /// Shows the support that each node counts on, if neither it nor its supporter restarted.
    fn sample_support(&mut self) {
        for (requester, supporter) in self.pairs() {
            let (node, peer) = (&self.nodes[requester], &self.nodes[supporter]);
            let (Some(own), Some(other)) = (&node.process, &peer.process) else { continue };
            let Some(given) = other.liveness.as_ref() else { continue };
            let Some(held) = own.liveness.as_ref().and_then(|live| live.held(peer.id)) else {
                continue;
            };
            let is_same_life = held.incarnation == given.standings().incarnation();
            let standing = given.standings().get(node.id);
            let knows = standing.is_some_and(|s| s.incarnation.0 == node.disk.incarnation);
            if !is_same_life || !knows || held.until <= node.read(self.now) {
                continue;
            }
            let is_given = standing.is_some_and(|s| s.is_given && s.lowest == held.epoch);
            let given_until = given.supported_until(node.id).filter(|_| is_given);
            let given_until = given_until.map(|until| SimTime(peer.clock.when(until)));
            let until = SimTime(node.clock.when(held.until));
            let (supporter, requester) = (peer.id, node.id);
            self.observe(Observation::Held { supporter, requester, until, given_until });
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.nodes.len();
        (0..count).flat_map(move |a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)))
    }

    /// Shows quiesced leaders beside each of their followers whose node supports theirs.
    fn sample_quiesced_leaders(&mut self) {
        for (node, peer) in self.pairs() {
            let (this, other) = (&self.nodes[node], &self.nodes[peer]);
            let (Some(process), Some(follower)) = (&this.process, &other.process) else { continue };
            let counts = process.held[peer].is_some_and(|held| {
                held.incarnation.0 == other.disk.incarnation && held.until > this.read(self.now)
            });
            let has_news = !process.inbox.is_empty() || self.now < this.news_at;
            if !counts || has_news || self.now < this.worker_stands_until() {
                continue;
            }
            let mut seen = Vec::new();
            for shard in process.replicas.keys() {
                let Some(view) = process.host.view(*shard) else { continue };
                let is_member = view.membership.members().any(|member| member.node == other.id);
                if view.role.role == Role::Leader && view.is_quiesced && is_member {
                    let known = follower.host.view(*shard).map(|view| view.commit);
                    seen.extend(known.map(|known| (*shard, view.commit, known)));
                }
            }
            let (leader, follower) = (this.id, other.id);
            for (shard, commit, known) in seen {
                let observation =
                    Observation::QuiescedLeader { leader, follower, shard, commit, known };
                self.observe(observation);
            }
        }
    }

    fn sample_memory(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let Some(process) = &self.nodes[node].process else { return };
        let look = |(shard, live): (&ShardId, &super::node::Live)| {
            let view = process.host.view(*shard)?;
            let (bytes, is_paused) = (live.apply.bytes(), live.apply.is_paused());
            let memory = Memory {
                cached_bytes: view.cached_bytes,
                waiting: view.waiting,
                apply_bytes: if is_paused { 0 } else { bytes },
                parked_bytes: if is_paused { bytes } else { 0 },
                apply_bytes_max: self.profile.apply_bytes_max().0,
                held_messages: view.held_messages,
            };
            Some((*shard, memory))
        };
        let running = || process.replicas.values().filter(|live| !live.apply.is_paused());
        let node_memory = NodeMemory {
            cached_bytes: process.host.cached_bytes(),
            cached_bytes_max: self.profile.entry_cache_bytes_max,
            pinned_bytes: process.host.pinned_bytes(),
            apply_bytes: running().map(|live| live.apply.bytes()).sum(),
            apply_bytes_max: self.profile.apply_bytes_max().1,
            replicas: process.replicas.len(),
            paused: process.replicas.len() - running().count(),
            sending: process.transfers.len(),
            receiving: process.receiving.len(),
            transfers_max: self.profile.transfers_max,
        };
        // A worker that stands still acts on what it was told only in its next turn.
        let stands = self.now < self.nodes[node].worker_stands_until();
        for (shard, memory) in process.replicas.iter().filter_map(look).collect::<Vec<_>>() {
            self.observe(Observation::Memory { node: id, shard, memory });
        }
        if !stands {
            self.observe(Observation::NodeMemory { node: id, memory: node_memory });
        }
    }

    /// Whether every leader is quiesced.
    pub(crate) fn is_all_quiesced(&self) -> bool {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let mut views = processes.flat_map(|process| {
            process.replicas.keys().filter_map(|shard| process.host.view(*shard))
        });
        views.all(|view| view.role.role != Role::Leader || view.is_quiesced)
    }

    /// Shows which replicas are quiesced, leaders that report it and followers that are bound:
    /// those that changed, or all.
    pub(crate) fn sample_quiesced(&mut self, all: bool) {
        for node in 0..self.nodes.len() {
            let id = self.nodes[node].id;
            let Some(process) = &mut self.nodes[node].process else { continue };
            let mut seen = Vec::new();
            for (shard, live) in &mut process.replicas {
                let Some(view) = process.host.view(*shard) else { continue };
                // A replica that is not admitted follows nobody.
                if self.operator.in_force(*shard).node_of(live.replica).is_none() {
                    continue;
                }
                let leads = view.role.role == Role::Leader;
                let is_quiesced = if leads { view.is_quiesced } else { view.is_bound };
                if std::mem::replace(&mut live.is_quiesced, is_quiesced) != is_quiesced || all {
                    seen.push((*shard, live.replica, is_quiesced));
                }
            }
            for (shard, replica, is_quiesced) in seen {
                self.observe(Observation::Quiesced { node: id, shard, replica, is_quiesced });
            }
        }
    }
}
