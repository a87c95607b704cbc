//! Node liveness in a host: bindings, leases, and who is told of them. See [`crate::liveness`] for
//! the rules; this is where they meet the kernels.
//!
//! Every message goes by the binding of its shard before a kernel sees it. A leader asks its
//! followers to bind, at its heartbeats and whenever a peer is back; while a quorum is bound and
//! supports this node it answers reads by its lease, and where everything is held it falls quiet.

use std::collections::BTreeMap;

use quorate_raft::{Attendance, Body, Member, Message, Role, RoleState};
use quorate_types::{Incarnation, Monotonic, Mutant, NodeId, ReplicaId, ShardId, Term, limits};

use crate::host::Host;
use crate::liveness::{
    BindRequest, Binding, BoundReplica, ChangeNumber, Control, Followed, Heard, Judgement,
    LeaderFacts, LeaderWatch, Lease, LeaseEnd, LivenessNote, StandingChange, Standings,
    SupportHeld, Wake, WakeIndex, mix,
};

/// What a host knows of nodes.
pub(crate) struct HostLiveness {
    pub(crate) standings: Standings,
    /// The support that this node holds, as the host was told; no entry for a peer never heard.
    held: BTreeMap<NodeId, Option<SupportHeld>>,
    pub(crate) wakes: WakeIndex,
}

impl HostLiveness {
    pub(crate) fn new(standings: Standings, seed: u64) -> HostLiveness {
        HostLiveness { standings, held: BTreeMap::new(), wakes: WakeIndex::new(seed) }
    }

    fn held(&self, node: NodeId) -> Option<SupportHeld> {
        self.held.get(&node).copied().flatten()
    }
}

/// A replica's part in it.
pub(crate) struct ShardLiveness {
    bound: BoundReplica,
    leading: Option<Led>,
    /// When it last asked whether its leader still leads.
    asked_at: Option<Monotonic>,
}

/// While it leads.
struct Led {
    lease: Lease,
    watch: LeaderWatch,
    /// Was quiet when last looked at: what the watch saw before says nothing of now.
    was_quiet: bool,
}

impl ShardLiveness {
    pub(crate) fn new(replica: ReplicaId) -> ShardLiveness {
        ShardLiveness { bound: BoundReplica::new(replica), leading: None, asked_at: None }
    }
}

/// What a message of Raft is to a binding.
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
    pub(crate) fn lets_pass(&mut self, now: Monotonic, slot: usize, message: &Message) -> bool {
        self.judge(now, slot, message.from, message.term, heard(message)) != Judgement::Drop
    }

    /// What to do with something that `from` says in `term`. Where that frees the replica, it is free
    /// afterwards. A vote that the binding refuses is refused by the kernel too, which knows that it
    /// is bound and has the words for it.
    pub(crate) fn judge(
        &mut self,
        now: Monotonic,
        slot: usize,
        from: ReplicaId,
        term: Term,
        heard: Heard,
    ) -> Judgement {
        let Some(liveness) = &self.liveness else { return Judgement::Pass };
        let Some(replica) = &mut self.shards[slot].liveness else { return Judgement::Pass };
        let judgement = replica.bound.judge(now, from, term, heard, &liveness.standings);
        if let Judgement::PassUnbound(binding) = judgement {
            self.unbind(now, slot, &binding);
        }
        judgement
    }

    /// The binding is gone already; the kernel and the others are told.
    fn unbind(&mut self, now: Monotonic, slot: usize, binding: &Binding) {
        let Some(liveness) = &mut self.liveness else { return };
        let (shard, leader) = (self.shards[slot].id, binding.leader.node);
        liveness.wakes.unbind(shard, leader);
        self.turn.notes.push(LivenessNote::Unbound { leader, shard });
        self.shards[slot].kernel.handle_unbound(now);
        self.mark(slot);
        self.arm(slot);
    }

    /// A message about a binding arrived.
    pub(crate) fn handle_control(
        &mut self,
        now: Monotonic,
        from: NodeId,
        shard: ShardId,
        control: Control,
    ) {
        let slot = self.slot(shard).filter(|slot| self.shards[*slot].liveness.is_some());
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
                    self.judge(now, slot, replica, term, Heard::Release);
                }
            }
            (Control::BindRequest(_), Some(_)) => {}
        }
    }

    fn release(
        &mut self,
        to_node: NodeId,
        shard: ShardId,
        from: ReplicaId,
        to: ReplicaId,
        term: Term,
    ) {
        self.turn.control.push((to_node, shard, Control::Release { from, to, term }));
    }

    fn handle_bind_request(&mut self, now: Monotonic, slot: usize, request: &BindRequest) {
        let (from, term) = (request.leader.replica, request.term);
        if self.judge(now, slot, from, term, Heard::Leader) == Judgement::Drop {
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
        self.mark(slot);
    }

    /// A follower has bound itself to the leader here, if there is one.
    fn handle_bound(
        &mut self,
        now: Monotonic,
        from: NodeId,
        slot: usize,
        binding: &Binding,
        change: ChangeNumber,
    ) {
        let shard = self.shards[slot].id;
        let (leader, member) =
            (binding.leader.replica, Member { replica: binding.replica, node: from });
        // One that was removed is free too: nobody will ever tell it anything else.
        if !self.leads_member(slot, leader, binding.term, member) {
            self.release(from, shard, leader, member.replica, binding.term);
            return;
        }
        let (Some(liveness), Some(led)) = (&mut self.liveness, self.shards[slot].led()) else {
            return;
        };
        led.lease.handle_bound(member, binding);
        if led.lease.binding_of(member.replica) == Some(binding) {
            liveness.wakes.lead(shard, from, true);
            let note = LivenessNote::Recorded { peer: from, shard, binding: *binding, change };
            self.turn.notes.push(note);
        }
        self.tell_attendance(now, slot);
    }

    /// The support given to a peer stands otherwise.
    pub(crate) fn handle_standing(&mut self, now: Monotonic, change: &StandingChange) {
        let Some(liveness) = &mut self.liveness else { return };
        liveness.standings.handle_change(change);
        if !change.cause.voids_bindings() {
            return;
        }
        let lost: Vec<ShardId> = liveness.wakes.bound_to(change.node).collect();
        // Wakes first: it empties the index of those that are freed below.
        let (by_id, shards) = (&self.by_id, &self.shards);
        liveness
            .wakes
            .handle_lost(now, change.node, |shard| shards[by_id[&shard]].rank(change.node));
        for shard in lost {
            let slot = self.slot(shard).expect("the index holds hosted shards");
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
    pub(crate) fn handle_support(
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
            let slot = self.slot(shard).expect("the index holds hosted shards");
            self.tell_attendance(now, slot);
        }
    }

    /// Two nodes do not agree on a binding.
    pub(crate) fn handle_differs(&mut self, now: Monotonic, shard: ShardId, peer: NodeId) {
        let Some(slot) = self.slot(shard) else { return };
        if self.binding(slot).is_some_and(|binding| binding.leader.node == peer) {
            self.ask_leader(now, slot);
        }
        if self.shards[slot].led().is_some() {
            self.seek_binding_anew(now, slot, peer);
        }
    }

    /// Asks the leader that the replica is bound to whether it still leads.
    fn ask_leader(&mut self, now: Monotonic, slot: usize) {
        let Some(binding) = self.binding(slot) else { return };
        if let Some(replica) = &mut self.shards[slot].liveness {
            replica.asked_at = Some(now);
        }
        let (shard, node) = (self.shards[slot].id, binding.leader.node);
        let (from, to, term) = (binding.replica, binding.leader.replica, binding.term);
        self.turn.control.push((node, shard, Control::Query { from, to, term }));
    }

    /// A caller asks something of a replica here. If that is bound to a leader that gave up, and the
    /// release was lost, this is how it comes out.
    pub(crate) fn handle_request(&mut self, now: Monotonic, slot: usize) {
        let Some(replica) = &self.shards[slot].liveness else { return };
        let asked = |at| now.since(at) < limits::ELECTION_TIMEOUT;
        let is_idle = self.config.mutation.is(Mutant::AuditOff);
        if !replica.asked_at.is_some_and(asked) && !is_idle {
            self.ask_leader(now, slot);
        }
    }

    /// What the kernel's role is now, for the lease.
    pub(crate) fn follow_role(&mut self, now: Monotonic, slot: usize, role: &RoleState) {
        let Some(liveness) = &mut self.liveness else { return };
        let incarnation = liveness.standings.incarnation();
        if self.shards[slot].liveness.is_none() {
            return;
        }
        let leads = role.role == Role::Leader;
        let is_same =
            |led: &mut Led| leads && led.lease.term() == role.term && led.lease.ended().is_none();
        if self.shards[slot].led().is_some_and(|led| !is_same(led)) {
            let term = self.shards[slot].led().expect("looked at just now").lease.term();
            if !leads || term != role.term {
                self.end_lease(slot);
            }
        }
        if leads && self.shards[slot].led().is_none() {
            self.begin_lease(now, slot, role.term, incarnation);
        }
        if let Some(led) = self.shards[slot].led()
            && role.serving
        {
            led.lease.handle_own_term_committed();
        }
    }

    fn begin_lease(&mut self, now: Monotonic, slot: usize, term: Term, incarnation: Incarnation) {
        let own = Member { replica: self.shards[slot].replica, node: self.config.node };
        let lease = Lease::new(own, incarnation, term).with_mutation(self.config.mutation);
        let watch = LeaderWatch::new(now);
        if let Some(replica) = &mut self.shards[slot].liveness {
            replica.leading = Some(Led { lease, watch, was_quiet: false });
        }
        self.seek_bindings(now, slot);
        self.tell_attendance(now, slot);
    }

    /// Leads no more: everybody bound here is free, and told so. By now no read is answered by the
    /// lease any more.
    pub(crate) fn end_lease(&mut self, slot: usize) {
        let shard = self.shards[slot].id;
        let leading = self.shards[slot].liveness.as_mut().and_then(|l| l.leading.take());
        let (Some(mut led), Some(liveness)) = (leading, &mut self.liveness) else { return };
        led.lease.end(LeaseEnd::SteppingDown);
        let own = self.shards[slot].replica;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        for peer in liveness.wakes.lead_no_more_anywhere(shard) {
            self.turn.notes.push(LivenessNote::Forgotten { peer, shard });
        }
        for member in members.into_iter().filter(|member| member.replica != own) {
            self.release(member.node, shard, own, member.replica, led.lease.term());
        }
    }

    /// At a leader's heartbeat: asks who is not bound, tells the kernel who attends, and looks
    /// whether it still should lead.
    pub(crate) fn attend(&mut self, now: Monotonic, slot: usize) {
        if self.shards[slot].led().is_none() {
            return;
        }
        self.seek_bindings(now, slot);
        self.tell_attendance(now, slot);
        let kernel = &self.shards[slot].kernel;
        let (acknowledged, last) = (kernel.acknowledged(), kernel.last().index);
        let (membership, is_quiet) = (kernel.membership().clone(), kernel.is_quiet());
        let own = Member { replica: self.shards[slot].replica, node: self.config.node };
        let (Some(liveness), Some(led)) = (&self.liveness, self.shards[slot].led()) else { return };
        if std::mem::replace(&mut led.was_quiet, is_quiet) {
            led.watch = LeaderWatch::new(now);
        }
        let held = |node| liveness.held(node);
        let supported_until = LeaderWatch::supported_until(own, &membership, held);
        let facts = LeaderFacts { supported_until, acknowledged, last };
        if !is_quiet && led.watch.handle_facts(now, facts).is_some() {
            self.shards[slot].kernel.resign(now);
            self.mark(slot);
        }
    }

    /// Asks every member that could be bound and is not.
    fn seek_bindings(&mut self, now: Monotonic, slot: usize) {
        let shard = self.shards[slot].id;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        let own = self.shards[slot].replica;
        let (Some(liveness), Some(led)) = (&mut self.liveness, self.shards[slot].led()) else {
            return;
        };
        for member in members.into_iter().filter(|member| member.replica != own) {
            let held = liveness.held(member.node);
            let is_bound = held.is_some_and(|held| led.lease.is_bound(member, held));
            liveness.wakes.lead(shard, member.node, is_bound);
            if let Some(request) = led.lease.bind_request(now, member, held) {
                self.turn.control.push((member.node, shard, Control::BindRequest(request)));
            }
        }
    }

    /// Asks the replica at `peer` as if it had never answered.
    fn seek_binding_anew(&mut self, now: Monotonic, slot: usize, peer: NodeId) {
        let shard = self.shards[slot].id;
        let members = self.shards[slot].kernel.membership().members();
        let Some(member) = members.into_iter().find(|member| member.node == peer) else { return };
        let (Some(liveness), Some(led)) = (&mut self.liveness, self.shards[slot].led()) else {
            return;
        };
        led.lease.handle_unbound(member.replica);
        liveness.wakes.lead(shard, peer, false);
        self.turn.notes.push(LivenessNote::Forgotten { peer, shard });
        self.ask_to_bind(now, slot, member);
        self.tell_attendance(now, slot);
    }

    /// Asks `member` to bind, whatever is known of it. What it is bound to stays so meanwhile.
    fn ask_to_bind(&mut self, now: Monotonic, slot: usize, member: Member) {
        let shard = self.shards[slot].id;
        let (Some(liveness), Some(led)) = (&self.liveness, self.shards[slot].led()) else { return };
        let held = liveness.held(member.node);
        if let Some(request) = led.lease.bind_request_anew(now, member, held) {
            self.turn.control.push((member.node, shard, Control::BindRequest(request)));
        }
    }

    /// Tells the kernel who is bound and who is down.
    fn tell_attendance(&mut self, now: Monotonic, slot: usize) {
        let own = self.shards[slot].replica;
        let members: Vec<Member> = self.shards[slot].kernel.membership().members().collect();
        for member in members.into_iter().filter(|member| member.replica != own) {
            let (Some(liveness), Some(led)) = (&self.liveness, self.shards[slot].led()) else {
                return;
            };
            let attendance = match liveness.held.get(&member.node) {
                None => Attendance::Awake,
                Some(None) => Attendance::Down,
                Some(Some(held)) if held.until > now && led.lease.is_bound(member, *held) => {
                    Attendance::Bound
                }
                Some(Some(_)) => Attendance::Awake,
            };
            self.shards[slot].kernel.handle_attendance(now, member.replica, attendance);
        }
        self.mark(slot);
        self.arm(slot);
    }

    /// Wakes what is due.
    pub(crate) fn take_wakes(&mut self, now: Monotonic) {
        while let Some((shard, wake)) =
            self.liveness.as_mut().and_then(|liveness| liveness.wakes.take_wake(now))
        {
            let Some(slot) = self.slot(shard) else { continue };
            match wake {
                // Bound again meanwhile, or led by another: the kernel sees to that.
                Wake::Lost if self.binding(slot).is_none() => {
                    self.shards[slot].kernel.handle_leader_lost(now);
                    self.mark(slot);
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

    /// Until when the leader of `slot` has a lease; `None` without one.
    pub(crate) fn lease_until(&self, slot: usize) -> Option<Monotonic> {
        let shard = &self.shards[slot];
        let led = shard.liveness.as_ref()?.leading.as_ref()?;
        let (liveness, role) = (self.liveness.as_ref()?, shard.kernel.role());
        let leads = role.role == Role::Leader && role.term == led.lease.term();
        // Not once it has let another lead (RULE 6), nor once it is none who would be asked.
        let membership = shard.kernel.membership();
        let votes = membership.voters.iter().any(|voter| voter.replica == shard.replica);
        let is_rash = self.config.mutation.is(Mutant::LeaseAfterTimeoutNow);
        if !leads || !votes || (shard.kernel.has_handed_over() && !is_rash) {
            return None;
        }
        led.lease.until(membership, |node| liveness.held(node))
    }

    /// Lets reads of a leader with a lease go without a round.
    pub(crate) fn confirm_by_lease(&mut self, now: Monotonic, slot: usize) {
        if self.config.lease_reads
            && self.shards[slot].kernel.has_fresh_reads()
            && self.lease_until(slot).is_some_and(|until| now < until)
        {
            self.shards[slot].kernel.confirm_reads_by_lease();
        }
    }

    /// True if `replica` lives here and leads `term`, and `member` is a member to it.
    fn leads_member(&self, slot: usize, replica: ReplicaId, term: Term, member: Member) -> bool {
        let shard = &self.shards[slot];
        let role = shard.kernel.role();
        let leads = shard.replica == replica && role.role == Role::Leader && role.term == term;
        leads && shard.kernel.membership().node_of(member.replica) == Some(member.node)
    }

    /// The binding of the replica here that is in force.
    pub(crate) fn binding(&self, slot: usize) -> Option<Binding> {
        let liveness = self.liveness.as_ref()?;
        let replica = self.shards[slot].liveness.as_ref()?;
        replica.bound.binding(&liveness.standings).copied()
    }

    /// The replica goes: nothing is bound by it or to it any more.
    pub(crate) fn forget_liveness(&mut self, now: Monotonic, slot: usize) {
        self.end_lease(slot);
        let binding = self.shards[slot].liveness.as_mut().and_then(|l| l.bound.take());
        if let Some(binding) = binding {
            self.unbind(now, slot, &binding);
        }
    }
}

impl crate::shard::Shard {
    /// How many other voters are to campaign before this one when the leader at `lost` is lost. The
    /// order differs by shard, so that the shards of one node are spread over those that are left.
    fn rank(&self, lost: NodeId) -> u32 {
        let place = |replica: ReplicaId| mix(self.id.0 ^ mix(replica.0));
        let voters = self.kernel.membership().voters.iter().filter(|voter| voter.node != lost);
        let before = voters.filter(|voter| place(voter.replica) < place(self.replica)).count();
        u32::try_from(before).expect("groups are small")
    }

    fn led(&mut self) -> Option<&mut Led> {
        self.liveness.as_mut()?.leading.as_mut()
    }
}
