//! How a host applies bindings: which messages a bound replica takes, and which nodes are told of a
//! change. The rules are those of [`quorate_liveness`]; this file applies them to the kernels.
//!
//! The binding of a shard judges every message before the kernel sees it. A leader asks its
//! followers to bind, at its heartbeats and whenever a peer is back. While a quorum is bound and
//! supports this node, the leader answers reads by its lease; once everything is held everywhere,
//! it quiesces.

use quorate_liveness::{
    BindRequest, Binding, Control, Decision, Followed, Heard, LivenessNote, StandingChange,
    SupportHeld, Wake,
};
use quorate_raft::{Body, Member, Message, Role};
use quorate_types::{Monotonic, NodeId, ReplicaId, ShardId, Term, limits};

use super::Host;
use super::slots::Slot;

/// The kind of message that a Raft message is to a binding.
fn heard(message: &Message) -> Heard {
    match &message.body {
        Body::Append { .. } | Body::Heartbeat { .. } => Heard::Leader,
        Body::VoteRequest { last, transfer, .. } => {
            Heard::VoteRequest { last: *last, transfer: *transfer }
        }
        Body::TimeoutNow => Heard::TimeoutNow,
        Body::VoteReply { .. }
        | Body::Accepted { .. }
        | Body::Rejected { .. }
        | Body::HeartbeatReply { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexReply { .. } => Heard::Other,
    }
}

impl Host {
    /// Whether the kernel of `slot` gets to see `message`.
    pub(super) fn lets_pass(&mut self, now: Monotonic, slot: Slot, message: &Message) -> bool {
        self.decide(now, slot, message.from, message.term, heard(message)) != Decision::Drop
    }

    /// Decides on a message of `from` in `term`; if the message frees the replica, it is free
    /// afterwards. A vote that the binding refuses is refused by the kernel too, which knows that
    /// it is bound and writes the answer.
    pub(super) fn decide(
        &mut self,
        now: Monotonic,
        slot: Slot,
        from: ReplicaId,
        term: Term,
        heard: Heard,
    ) -> Decision {
        let Some(liveness) = &self.liveness else { return Decision::Pass };
        let Some(replica) = &mut self.shards[slot].liveness else { return Decision::Pass };
        let decision = replica.bound.decide(now, from, term, heard, &liveness.standings);
        if let Decision::PassUnbound(binding) = decision {
            self.unbind(now, slot, &binding);
        }
        decision
    }

    /// Tells the kernel and the others that a binding is gone.
    fn unbind(&mut self, now: Monotonic, slot: Slot, binding: &Binding) {
        let Some(liveness) = &mut self.liveness else { return };
        let (shard, leader) = (self.shards[slot].id, binding.leader.node);
        liveness.wakes.unbind(shard, leader);
        self.turn.notes.push(LivenessNote::Unbound { leader, shard });
        self.shards[slot].kernel.handle_unbound(now);
        self.mark_dirty(slot);
        self.arm(slot);
    }

    /// A message about a binding arrived.
    pub(super) fn handle_control(
        &mut self,
        now: Monotonic,
        from: NodeId,
        shard: ShardId,
        control: Control,
    ) {
        let slot = self.shards.find(shard).filter(|slot| self.shards[*slot].liveness.is_some());
        match (control, slot) {
            (Control::Query { from: asker, to, term }, slot) => {
                let asker = Member { replica: asker, node: from };
                match slot.filter(|slot| self.leads_member(*slot, to, term, asker)) {
                    // It is asked to bind once more, so that both sides know of it.
                    Some(slot) => self.ask_to_bind(now, slot, asker),
                    None => self.release(from, shard, to, asker.replica, term),
                }
            }
            (Control::Bound { binding, .. }, None) => {
                self.release(from, shard, binding.leader.replica, binding.replica, binding.term);
            }
            (_, None) => {}
            (Control::BindRequest(request), Some(slot)) if request.leader.node == from => {
                self.handle_bind_request(now, slot, &request);
            }
            (Control::Bound { binding, change }, Some(slot)) => {
                self.handle_bound(now, from, slot, &binding, change);
            }
            (Control::Release { from: replica, to, term }, Some(slot)) => {
                let is_for_it = self.shards[slot].replica == to;
                let binding = self.binding(slot).filter(|_| is_for_it);
                if binding.is_some_and(|binding| binding.leader.node == from) {
                    self.decide(now, slot, replica, term, Heard::Release);
                }
            }
            (Control::BindRequest(_), Some(_)) => {}
        }
    }

    pub(super) fn release(
        &mut self,
        to_node: NodeId,
        shard: ShardId,
        from: ReplicaId,
        to: ReplicaId,
        term: Term,
    ) {
        self.turn.control.push((to_node, shard, Control::Release { from, to, term }));
    }

    fn handle_bind_request(&mut self, now: Monotonic, slot: Slot, request: &BindRequest) {
        let (from, term) = (request.leader.replica, request.term);
        if self.decide(now, slot, from, term, Heard::Leader) == Decision::Drop {
            return;
        }
        let role = self.shards[slot].kernel.role();
        let (Some(liveness), Some(replica)) = (&mut self.liveness, &mut self.shards[slot].liveness)
        else {
            return;
        };
        let leader = role.leader.filter(|_| role.role == Role::Follower);
        let followed = Followed { term: role.term, leader: leader.map(|(replica, _)| replica) };
        let bound = replica.bound.handle_bind_request(request, followed, &liveness.standings);
        let Some(bound) = bound else { return };
        let (shard, leader) = (self.shards[slot].id, request.leader.node);
        if let Some(old) = bound.replaced.map(|old| old.leader.node).filter(|old| *old != leader) {
            liveness.wakes.unbind(shard, old);
            self.turn.notes.push(LivenessNote::Unbound { leader: old, shard });
        }
        liveness.wakes.bind(shard, leader);
        let binding = bound.binding;
        self.turn.notes.push(LivenessNote::Bound { leader, shard, binding });
        self.shards[slot].kernel.handle_bound();
        self.mark_dirty(slot);
    }

    /// The support given to a peer has changed.
    pub(super) fn handle_standing(&mut self, now: Monotonic, change: &StandingChange) {
        let Some(liveness) = &mut self.liveness else { return };
        liveness.standings.handle_change(change);
        if !change.cause.voids_bindings() {
            return;
        }
        let lost: Vec<ShardId> = liveness.wakes.bound_to(change.node).collect();
        // Wakes first: it empties the index of those that are freed below.
        let shards = &self.shards;
        liveness.wakes.handle_lost(now, change.node, |shard| {
            let slot = shards.find(shard).expect("the index holds hosted shards");
            shards[slot].rank(change.node)
        });
        for shard in lost {
            let slot = self.shards.find(shard).expect("the index holds hosted shards");
            let (Some(liveness), Some(replica)) = (&self.liveness, &mut self.shards[slot].liveness)
            else {
                continue;
            };
            if let Some(binding) = replica.bound.take_void(&liveness.standings) {
                self.unbind(now, slot, &binding);
            }
        }
    }

    /// The support that a peer gives has changed.
    pub(super) fn handle_support(
        &mut self,
        now: Monotonic,
        node: NodeId,
        held: Option<SupportHeld>,
    ) {
        let Some(liveness) = &mut self.liveness else { return };
        let before = liveness.held.insert(node, held).flatten();
        let key = |held: SupportHeld| (held.incarnation, held.epoch);
        if before.map(key) == held.map(key) {
            return;
        }
        liveness.wakes.handle_peer_lost(node);
        if held.is_some() {
            liveness.wakes.handle_returned(now, node);
        }
        let led: Vec<ShardId> = liveness.wakes.led_with(node).collect();
        for shard in led {
            let slot = self.shards.find(shard).expect("the index holds hosted shards");
            self.tell_attendance(now, slot);
        }
    }

    /// Two nodes do not agree on a binding.
    pub(super) fn handle_differs(&mut self, now: Monotonic, shard: ShardId, peer: NodeId) {
        let Some(slot) = self.shards.find(shard) else { return };
        if self.binding(slot).is_some_and(|binding| binding.leader.node == peer) {
            self.ask_leader(now, slot);
        }
        if self.shards[slot].leading().is_some() {
            self.seek_binding_anew(now, slot, peer);
        }
    }

    /// Asks the leader that the replica is bound to whether it still leads.
    fn ask_leader(&mut self, now: Monotonic, slot: Slot) {
        let Some(binding) = self.binding(slot) else { return };
        if let Some(replica) = &mut self.shards[slot].liveness {
            replica.asked_at = Some(now);
        }
        let (shard, node) = (self.shards[slot].id, binding.leader.node);
        let (from, to, term) = (binding.replica, binding.leader.replica, binding.term);
        self.turn.control.push((node, shard, Control::Query { from, to, term }));
    }

    /// A caller asks something of a replica here. If the replica is bound to a leader that gave up,
    /// and the release was lost, this finds it out.
    pub(super) fn handle_request(&mut self, now: Monotonic, slot: Slot) {
        let Some(replica) = &self.shards[slot].liveness else { return };
        let asked = |at| now.since(at) < limits::ELECTION_TIMEOUT;
        if !replica.asked_at.is_some_and(asked) {
            self.ask_leader(now, slot);
        }
    }

    /// Wakes the shards that are due.
    pub(super) fn take_wakes(&mut self, now: Monotonic) {
        while let Some((shard, wake)) =
            self.liveness.as_mut().and_then(|liveness| liveness.wakes.take_wake(now))
        {
            let Some(slot) = self.shards.find(shard) else { continue };
            match wake {
                // Bound again meanwhile, or led by another: the kernel sees to that.
                Wake::Lost if self.binding(slot).is_none() => {
                    self.shards[slot].kernel.handle_leader_lost(now);
                    self.mark_dirty(slot);
                    self.arm(slot);
                }
                Wake::Lost => {}
                Wake::Returned | Wake::Differs => {
                    self.seek_bindings(now, slot);
                    self.tell_attendance(now, slot);
                }
            }
        }
    }

    /// The binding of the replica here that is in force.
    pub(super) fn binding(&self, slot: Slot) -> Option<Binding> {
        let liveness = self.liveness.as_ref()?;
        let replica = self.shards[slot].liveness.as_ref()?;
        replica.bound.binding(&liveness.standings).copied()
    }

    /// The replica is removed: nothing is bound by it or to it any more.
    pub(super) fn forget_liveness(&mut self, now: Monotonic, slot: Slot) {
        self.end_lease(slot);
        let binding = self.shards[slot].liveness.as_mut().and_then(|l| l.bound.take());
        if let Some(binding) = binding {
            self.unbind(now, slot, &binding);
        }
    }
}
