//! The leader's side of node liveness in a host: which members are bound, which attend, and the
//! lease.

use quorate_liveness::{
    Binding, ChangeNumber, Control, LeaderFacts, LeaderMonitor, Lease, LeaseEnd, LivenessNote,
};
use quorate_raft::{Attendance, Member, Role, RoleState};
use quorate_types::{Incarnation, Monotonic, Mutant, NodeId, ReplicaId, Term};

use super::Host;
use super::slots::Slot;
use crate::shard::LeaderLiveness;

impl Host {
    /// A follower has bound itself to the leader here, if there is one.
    pub(super) fn handle_bound(
        &mut self,
        now: Monotonic,
        from: NodeId,
        slot: Slot,
        binding: &Binding,
        change: ChangeNumber,
    ) {
        let shard = self.shards[slot].id;
        let (leader, member) =
            (binding.leader.replica, Member { replica: binding.replica, node: from });
        // A replica that was removed is free too: nobody will ever tell it anything else.
        if !self.leads_member(slot, leader, binding.term, member) {
            self.release(from, shard, leader, member.replica, binding.term);
            return;
        }
        let (Some(liveness), Some(leading)) = (&mut self.liveness, self.shards[slot].leading())
        else {
            return;
        };
        leading.lease.handle_bound(member, binding);
        if leading.lease.binding_of(member.replica) == Some(binding) {
            liveness.wakes.lead(shard, from, true);
            let note = LivenessNote::Recorded { peer: from, shard, binding: *binding, change };
            self.turn.notes.push(note);
        }
        self.tell_attendance(now, slot);
    }

    /// Brings the lease in line with the kernel's role.
    pub(super) fn follow_role(&mut self, now: Monotonic, slot: Slot, role: &RoleState) {
        let Some(liveness) = &self.liveness else { return };
        let incarnation = liveness.standings.incarnation();
        let leads = role.role == Role::Leader;
        let term = self.shards[slot].leading().map(|leading| leading.lease.term());
        if term.is_some_and(|term| !leads || term != role.term) {
            self.end_lease(slot);
        }
        if leads && self.shards[slot].leading().is_none() {
            self.begin_lease(now, slot, role.term, incarnation);
        }
        if let Some(leading) = self.shards[slot].leading()
            && role.serving
        {
            leading.lease.handle_own_term_committed();
        }
    }

    fn begin_lease(&mut self, now: Monotonic, slot: Slot, term: Term, incarnation: Incarnation) {
        let own = Member { replica: self.shards[slot].replica, node: self.config.node };
        let lease = Lease::new(own, incarnation, term).with_mutation(self.config.mutation);
        let watch = LeaderMonitor::new(now);
        if let Some(replica) = &mut self.shards[slot].liveness {
            replica.leading = Some(LeaderLiveness { lease, watch, was_quiesced: false });
        }
        self.seek_bindings(now, slot);
        self.tell_attendance(now, slot);
    }

    /// The replica no longer leads: every replica bound here is free, and is told so. By now the
    /// lease answers no read any more.
    pub(super) fn end_lease(&mut self, slot: Slot) {
        let shard = self.shards[slot].id;
        let ended = self.shards[slot].liveness.as_mut().and_then(|l| l.leading.take());
        let (Some(mut leading), Some(liveness)) = (ended, &mut self.liveness) else { return };
        leading.lease.end(LeaseEnd::SteppingDown);
        let own = self.shards[slot].replica;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        for peer in liveness.wakes.lead_no_more_anywhere(shard) {
            self.turn.notes.push(LivenessNote::Forgotten { peer, shard });
        }
        for member in members.into_iter().filter(|member| member.replica != own) {
            self.release(member.node, shard, own, member.replica, leading.lease.term());
        }
    }

    /// At a leader's heartbeat: asks the members that are not bound, tells the kernel which ones
    /// attend, and checks whether it still should lead.
    pub(super) fn attend(&mut self, now: Monotonic, slot: Slot) {
        if self.shards[slot].leading().is_none() {
            return;
        }
        self.seek_bindings(now, slot);
        self.tell_attendance(now, slot);
        let kernel = &self.shards[slot].kernel;
        let (acknowledged, last) = (kernel.acknowledged(), kernel.last().index);
        let (membership, is_quiesced) = (kernel.membership().clone(), kernel.is_quiesced());
        let own = Member { replica: self.shards[slot].replica, node: self.config.node };
        let (Some(liveness), Some(leading)) = (&self.liveness, self.shards[slot].leading()) else {
            return;
        };
        if std::mem::replace(&mut leading.was_quiesced, is_quiesced) {
            leading.watch = LeaderMonitor::new(now);
        }
        let held = |node| liveness.held(node);
        let supported_until = LeaderMonitor::supported_until(own, &membership, held);
        let facts = LeaderFacts { supported_until, acknowledged, last };
        if !is_quiesced && leading.watch.handle_facts(now, facts).is_some() {
            self.shards[slot].kernel.step_down(now);
            self.mark_dirty(slot);
        }
    }

    /// Asks every member that could be bound and is not.
    pub(super) fn seek_bindings(&mut self, now: Monotonic, slot: Slot) {
        let shard = self.shards[slot].id;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        let own = self.shards[slot].replica;
        let (Some(liveness), Some(leading)) = (&mut self.liveness, self.shards[slot].leading())
        else {
            return;
        };
        for member in members.into_iter().filter(|member| member.replica != own) {
            let held = liveness.held(member.node);
            let is_bound = held.is_some_and(|held| leading.lease.is_bound(member, held));
            liveness.wakes.lead(shard, member.node, is_bound);
            if let Some(request) = leading.lease.bind_request(now, member, held) {
                self.turn.control.push((member.node, shard, Control::BindRequest(request)));
            }
        }
    }

    /// Asks the replica at `peer` as if it had never answered.
    pub(super) fn seek_binding_anew(&mut self, now: Monotonic, slot: Slot, peer: NodeId) {
        let shard = self.shards[slot].id;
        let members = self.shards[slot].kernel.membership().members();
        let Some(member) = members.into_iter().find(|member| member.node == peer) else { return };
        let (Some(liveness), Some(leading)) = (&mut self.liveness, self.shards[slot].leading())
        else {
            return;
        };
        leading.lease.handle_unbound(member.replica);
        liveness.wakes.lead(shard, peer, false);
        self.turn.notes.push(LivenessNote::Forgotten { peer, shard });
        self.ask_to_bind(now, slot, member);
        self.tell_attendance(now, slot);
    }

    /// Asks `member` to bind, whatever is known of it. Its present binding stays meanwhile.
    pub(super) fn ask_to_bind(&mut self, now: Monotonic, slot: Slot, member: Member) {
        let shard = self.shards[slot].id;
        let (Some(liveness), Some(leading)) = (&self.liveness, self.shards[slot].leading()) else {
            return;
        };
        let held = liveness.held(member.node);
        if let Some(request) = leading.lease.bind_request_anew(now, member, held) {
            self.turn.control.push((member.node, shard, Control::BindRequest(request)));
        }
    }

    /// Tells the kernel which members are bound and which are down.
    pub(super) fn tell_attendance(&mut self, now: Monotonic, slot: Slot) {
        let own = self.shards[slot].replica;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        for member in members.into_iter().filter(|member| member.replica != own) {
            let (Some(liveness), Some(leading)) = (&self.liveness, self.shards[slot].leading())
            else {
                return;
            };
            let attendance = match liveness.held.get(&member.node) {
                None => Attendance::Awake,
                Some(None) => Attendance::Down,
                Some(Some(held)) if held.until > now && leading.lease.is_bound(member, *held) => {
                    Attendance::Bound
                }
                Some(Some(_)) => Attendance::Awake,
            };
            self.shards[slot].kernel.handle_attendance(now, member.replica, attendance);
        }
        self.mark_dirty(slot);
        self.arm(slot);
    }

    /// Until when the leader of `slot` has a lease; `None` without one.
    pub(super) fn lease_until(&self, slot: Slot) -> Option<Monotonic> {
        if !self.config.lease_reads {
            return None;
        }
        let shard = &self.shards[slot];
        let leading = shard.liveness.as_ref()?.leading.as_ref()?;
        let (liveness, role) = (self.liveness.as_ref()?, shard.kernel.role());
        let leads = role.role == Role::Leader && role.term == leading.lease.term();
        // It has none once it has let another lead (RULE 6), or is no voter any more.
        let membership = shard.kernel.membership();
        let votes = membership.voters.iter().any(|voter| voter.replica == shard.replica);
        let mutated = self.config.mutation.is(Mutant::LeaseAfterTimeoutNow);
        if !leads || !votes || (shard.kernel.has_handed_over() && !mutated) {
            return None;
        }
        leading.lease.until(membership, |node| liveness.held(node))
    }

    /// Lets reads of a leader with a lease go without a round.
    pub(super) fn confirm_by_lease(&mut self, now: Monotonic, slot: Slot) {
        if self.shards[slot].kernel.has_fresh_reads()
            && self.lease_until(slot).is_some_and(|until| now < until)
        {
            self.shards[slot].kernel.confirm_reads_by_lease();
        }
    }

    /// True if `replica` lives here and leads `term`, and counts `member` as a member.
    pub(super) fn leads_member(
        &self,
        slot: Slot,
        replica: ReplicaId,
        term: Term,
        member: Member,
    ) -> bool {
        let shard = &self.shards[slot];
        let role = shard.kernel.role();
        let leads = shard.replica == replica && role.role == Role::Leader && role.term == term;
        leads && shard.kernel.membership().node_of(member.replica) == Some(member.node)
    }
}
