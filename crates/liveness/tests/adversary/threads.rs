//! What a node's threads do: the heartbeat thread with the node's liveness, the worker with its
//! replicas' timers, and the routing of what arrives.

use quorate_liveness::{
    Datagram, LeaderFacts, LeaderMonitor, LeaseEnd, LivenessEvent, RequesterEvent, StandingCause,
    Wake,
};
use quorate_types::{Index, Monotonic, limits};

use crate::node::{Packet, Role, SHARDS, Said, member, node_id, node_of, shard_id, shard_of};
use crate::rules::Broken;
use crate::world::{World, shifted, until_from};

impl World {
    pub(crate) fn run_heartbeat_thread(&mut self, node: usize) {
        let now = self.clock(node);
        let datagrams = self.nodes[node].live.handle_timeout(now);
        for (to, datagram) in datagrams {
            self.send(node, node_of(to), Packet::Datagram(datagram.encode()));
        }
        for requester in self.others(node) {
            self.take_shortening(node, requester);
        }
        self.persist_longest(node);
        self.take_events(node);
    }

    /// The disk takes a while, and a crash meanwhile loses what is not on it yet.
    fn persist_longest(&mut self, node: usize) {
        let delay_ms = self.random.below(if self.has_slow_disks { 9_000 } else { 300 });
        let (now_ms, broken) = (self.now_ms, self.broken);
        let this = &mut self.nodes[node];
        if let Some(longest) = this.live.take_persist_longest() {
            this.persisting = Some((now_ms + delay_ms, longest));
            if broken == Broken::LongestNotDurable {
                this.live.handle_longest_persisted(longest);
            }
        }
        if let Some((_, longest)) = this.persisting.take_if(|(at_ms, _)| *at_ms <= now_ms) {
            this.longest = longest;
            this.live.handle_longest_persisted(longest);
        }
    }

    fn take_events(&mut self, node: usize) {
        for event in self.nodes[node].live.take_events() {
            match event {
                LivenessEvent::Standing(change) => {
                    if change.cause == StandingCause::Withdrawn {
                        self.counts.withdrawals += 1;
                        if self.broken == Broken::EpochKept {
                            *self.nodes[node].epochs_hidden.entry(change.node).or_default() += 1;
                        }
                    }
                    self.nodes[node].changes.push(change);
                }
                LivenessEvent::Requester(RequesterEvent::Gained { node: peer }) => {
                    let now = self.clock(node);
                    self.nodes[node].index.handle_returned(now, peer);
                }
                LivenessEvent::Requester(
                    RequesterEvent::Lost { node: peer }
                    | RequesterEvent::Restarted { node: peer, .. },
                ) => self.nodes[node].index.handle_peer_lost(peer),
                LivenessEvent::Requester(RequesterEvent::BecameUnfit(_)) => {
                    for shard in 0..SHARDS {
                        if self.nodes[node].replicas[shard].role == Role::Leader {
                            self.step_down(node, shard);
                        }
                    }
                }
                LivenessEvent::Differs { node: peer, list } => {
                    self.counts.audits += 1;
                    self.send(node, node_of(peer), Packet::List { is_of_leader: true, list });
                }
            }
        }
    }

    /// What arrives: datagrams go to the heartbeat thread, all else to the worker.
    pub(crate) fn receive(&mut self, from: usize, to: usize, packet: Packet) {
        let (now, peer) = (self.clock(to), node_id(from));
        match packet {
            Packet::Datagram(bytes) => self.receive_datagram(from, to, &bytes),
            Packet::Shard { shard, term, said } => self.hear(from, to, shard, term, said),
            Packet::List { .. } if self.broken == Broken::NoAudit => {}
            Packet::List { is_of_leader: true, list } => {
                let this = &mut self.nodes[to];
                let (differing, list) = this.live.handle_list_of_leader(peer, &list);
                this.index.handle_differing(now, differing);
                self.send(to, from, Packet::List { is_of_leader: false, list });
            }
            Packet::List { is_of_leader: false, list } => {
                for shard in self.nodes[to].live.handle_list_of_bound(peer, &list) {
                    let replica = &mut self.nodes[to].replicas[shard_of(shard)];
                    if let Some(lease) = &mut replica.lease {
                        lease.handle_unbound(member(shard_of(shard), from).replica);
                        self.nodes[to].index.lead(shard, peer, false);
                    }
                    self.nodes[to].index.handle_differing(now, [shard]);
                }
            }
        }
    }

    fn receive_datagram(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let (now, peer) = (self.clock(to), node_id(from));
        let datagram = Datagram::decode(bytes).expect("the network breaks no bytes");
        let is_heartbeat = matches!(datagram, Datagram::Heartbeat(_));
        let hidden = self.nodes[to].epochs_hidden.get(&peer).copied().unwrap_or(0);
        let datagram = if is_heartbeat { shifted(datagram, hidden, true) } else { datagram };
        let before = self.nodes[to].live.held(peer);
        let answer = self.nodes[to].live.handle_datagram(now, peer, &datagram);
        if let Some(answer) = answer {
            let answer = shifted(Datagram::Answer(answer), hidden, false);
            self.send(to, from, Packet::Datagram(answer.encode()));
        }
        let is_news = self.nodes[to].live.held(peer) != before;
        if self.broken == Broken::ReceiveTime && !is_heartbeat && is_news {
            let until = until_from(now, self.nodes[to].support);
            self.nodes[to].until_by_receipt.insert(peer, until);
        }
        self.take_shortening(to, from);
        self.take_events(to);
    }

    fn take_shortening(&mut self, node: usize, requester: usize) {
        if self.broken != Broken::IncarnationKept {
            self.check_shortening(node, requester);
        }
    }

    pub(crate) fn run_worker(&mut self, node: usize) {
        self.take_changes(node);
        let now = self.clock(node);
        while let Some((shard, wake)) = self.nodes[node].index.take_wake(now) {
            self.wake(node, shard_of(shard), wake);
        }
        for shard in 0..SHARDS {
            let replica = &self.nodes[node].replicas[shard];
            if replica.is_quarantined {
                continue;
            }
            let (role, elect_at) = (replica.role, replica.elect_at);
            match role {
                Role::Leader => self.lead(node, shard),
                _ if self.broken == Broken::ActOnLapse && self.acts_on_lapse(node, shard) => {
                    self.campaign(node, shard, false, None);
                }
                _ if now >= elect_at => {
                    self.arm(node, shard);
                    let this = &self.nodes[node];
                    if this.replicas[shard].bound.binding(&this.standings).is_none() {
                        // A pre-vote is a courtesy: for safety, one won long ago is enough.
                        let pre = self.is_calm || self.random.chance(700);
                        self.campaign(node, shard, pre, None);
                    }
                }
                _ => {}
            }
        }
    }

    /// [`Broken::ActOnLapse`]: unbinds a replica whose support has lapsed and was not withdrawn.
    fn acts_on_lapse(&mut self, node: usize, shard: usize) -> bool {
        let now = self.clock(node);
        let this = &mut self.nodes[node];
        let bound = &mut this.replicas[shard].bound;
        let leader = bound.binding(&this.standings).map(|binding| binding.leader.node);
        let until = leader.and_then(|leader| this.live.supported_until(leader));
        until.is_some_and(|until| until < now) && bound.take().is_some()
    }

    /// The worker's copy lags behind the heartbeat thread, which must be harmless.
    fn take_changes(&mut self, node: usize) {
        if self.random.chance(300) {
            return;
        }
        let now = self.clock(node);
        for change in std::mem::take(&mut self.nodes[node].changes) {
            let this = &mut self.nodes[node];
            this.standings.handle_change(&change);
            if change.cause.voids_bindings() {
                this.index.handle_lost(now, change.node, |shard| shard.0 as u32 % 2);
            }
        }
    }

    fn wake(&mut self, node: usize, shard: usize, wake: Wake) {
        let now = self.clock(node);
        let this = &mut self.nodes[node];
        let replica = &mut this.replicas[shard];
        match wake {
            Wake::Lost => {
                if let Some(binding) = replica.bound.take_void(&this.standings) {
                    this.live.unbind(binding.leader.node, shard_id(shard));
                    // Its turn in the spread has come: no need to wait further.
                    replica.elect_at = now;
                }
            }
            Wake::Returned => replica.append_at = now,
            Wake::Differs => {
                replica.append_at = now;
                if let Some(binding) = replica.bound.binding(&this.standings).copied() {
                    let leader = node_of(binding.leader.node);
                    self.say(node, leader, shard, binding.term, Said::Query);
                }
            }
        }
    }

    /// A leader's turn: replicate and bind, watch itself, transfer now and then, read.
    fn lead(&mut self, node: usize, shard: usize) {
        let now = self.clock(node);
        let count = self.nodes.len();
        if now >= self.nodes[node].replicas[shard].append_at {
            self.nodes[node].replicas[shard].append_at = now + limits::HEARTBEAT;
            if self.random.chance(if self.is_calm { 50 } else { 300 }) {
                self.propose(node, shard);
            }
            self.replicate(node, shard);
        }
        let held = |peer| self.held(node, peer);
        let (own, group) = (member(shard, node), &self.groups[shard]);
        let supported_until = LeaderMonitor::supported_until(own, group, held);
        let replica = &mut self.nodes[node].replicas[shard];
        let mut matched = replica.matched.clone();
        matched.sort_unstable();
        let acknowledged = Index(matched[(count - 1) / 2] as u64);
        let last = Index(replica.log.len() as u64);
        let facts = LeaderFacts { supported_until, acknowledged, last };
        let watch = replica.watch.as_mut().expect("a leader watches itself");
        if watch.handle_facts(now, facts).is_some() {
            self.step_down(node, shard);
            return;
        }
        let handed_at = self.nodes[node].replicas[shard].handed_at;
        if let Some(at) = handed_at {
            if now.since(at) > limits::TRANSFER_TIMEOUT {
                // Ends a term that no longer has a lease.
                let term = self.nodes[node].replicas[shard].term;
                let of = quorate_raft::TransferOf { leader: own.replica, term };
                self.campaign(node, shard, false, Some(of));
            }
        } else if !self.is_calm && self.random.chance(1) {
            let to = self.random.pick(count);
            self.hand_over(node, to, shard, now);
        }
        if self.has_lease(node, shard) {
            self.counts.reads += 1;
        }
    }

    fn hand_over(&mut self, node: usize, to: usize, shard: usize, now: Monotonic) {
        if node == to {
            return;
        }
        self.counts.transfers += 1;
        let broken = self.broken;
        let replica = &mut self.nodes[node].replicas[shard];
        replica.handed_at = Some(now);
        if broken != Broken::LeaseAfterTimeoutNow {
            replica.lease.as_mut().expect("a leader has one").end(LeaseEnd::HandedOver);
        }
        let term = replica.term;
        self.say(node, to, shard, term, Said::TimeoutNow);
    }

    fn replicate(&mut self, node: usize, shard: usize) {
        let now = self.clock(node);
        for peer in self.others(node) {
            let held = self.held(node, node_id(peer));
            let replica = &self.nodes[node].replicas[shard];
            let lease = replica.lease.as_ref().expect("a leader has one");
            let bind = lease.bind_request(now, member(shard, peer), held);
            let (term, log, commit) = (replica.term, replica.log.clone(), replica.commit);
            self.say(node, peer, shard, term, Said::Append { log, commit });
            if let Some(request) = bind {
                self.say(node, peer, shard, term, Said::Bind(request));
            }
        }
    }
}
