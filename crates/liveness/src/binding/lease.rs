//! A leader's lease of its shard: until when nobody else can have been elected.
//!
//! It holds until the latest time for which all of some quorum of the membership in the leader's
//! log is bound and supporting; the leader counts forever where it votes. Any later election needs
//! a vote of one of that quorum, and none of them votes before its node has withdrawn. It is
//! computed again at each use, since log, bindings and support change under it.

use std::collections::BTreeMap;

use quorate_raft::{Member, Membership};
use quorate_types::{Incarnation, Monotonic, Mutant, Mutation, NodeId, ReplicaId, Term};

use super::bound_replica::{BindRequest, Binding};
use super::quorum::latest_of_quorum;
use crate::support::SupportHeld;

/// Why a lease ended for the rest of its term. Each comes before the message that lets another lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// TimeoutNow is about to be sent (RULE 6). If the transfer fails, the leader ends the term by
    /// an election of its own.
    HandedOver,
    /// The leader is about to propose its own removal or demotion.
    Leaving,
    /// The leader heard a higher term, or steps down and is about to release its followers.
    SteppingDown,
}

/// The lease of one term of one leader.
#[derive(Clone, Debug)]
pub struct Lease {
    own: Member,
    incarnation: Incarnation,
    term: Term,
    is_own_term_committed: bool,
    end: Option<LeaseEnd>,
    bound: BTreeMap<ReplicaId, Binding>,
    mutation: Mutation,
}

impl Lease {
    /// The lease of a leader just elected in `term`, whose node runs in `incarnation`.
    #[must_use]
    pub fn new(own: Member, incarnation: Incarnation, term: Term) -> Lease {
        Lease {
            own,
            incarnation,
            term,
            is_own_term_committed: false,
            end: None,
            bound: BTreeMap::new(),
            mutation: Mutation::NONE,
        }
    }

    /// The same with a deliberate bug, for the simulator.
    #[must_use]
    pub fn with_mutation(self, mutation: Mutation) -> Lease {
        Lease { mutation, ..self }
    }

    /// An entry of the leader's own term is committed. Before that it does not know what is
    /// committed, and has no lease.
    pub fn handle_own_term_committed(&mut self) {
        self.is_own_term_committed = true;
    }

    /// Gives the lease up for the rest of the term. The first reason is kept.
    pub fn end(&mut self, end: LeaseEnd) {
        self.end.get_or_insert(end);
        self.bound.clear();
    }

    /// Why the lease is over for this term, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<LeaseEnd> {
        self.end
    }

    /// What to ask of `to`, a member: nothing if its node does not support this one, if it is bound
    /// in that support already, or if the lease is over.
    #[must_use]
    pub fn bind_request(
        &self,
        now: Monotonic,
        to: Member,
        held: Option<SupportHeld>,
    ) -> Option<BindRequest> {
        let is_bound = held.is_some_and(|held| self.is_bound(to, held));
        self.bind_request_anew(now, to, held).filter(|_| !is_bound)
    }

    /// The same, even if it is bound already: it is asked to say so again.
    #[must_use]
    pub fn bind_request_anew(
        &self,
        now: Monotonic,
        to: Member,
        held: Option<SupportHeld>,
    ) -> Option<BindRequest> {
        let held = held.filter(|held| held.until > now)?;
        let is_wanted = self.end.is_none() && to.replica != self.own.replica;
        is_wanted.then_some(BindRequest {
            term: self.term,
            leader: self.own,
            leader_incarnation: self.incarnation,
            to: to.replica,
            epoch: held.epoch,
        })
    }

    /// `from` has bound itself. True if that is news: neither old, nor for another leader, term or
    /// life of this node.
    pub fn handle_bound(&mut self, from: Member, binding: &Binding) -> bool {
        let is_ours = binding.term == self.term
            && binding.leader == self.own
            && binding.leader_incarnation == self.incarnation
            && binding.replica == from.replica;
        if !is_ours || self.end.is_some() {
            return false;
        }
        let age = |binding: &Binding| (binding.incarnation, binding.epoch);
        let is_news = self.bound.get(&from.replica).is_none_or(|old| age(old) < age(binding));
        if is_news {
            self.bound.insert(from.replica, *binding);
        }
        is_news
    }

    /// The binding that counts for `replica`, as that replica told it.
    #[must_use]
    pub fn binding_of(&self, replica: ReplicaId) -> Option<&Binding> {
        self.bound.get(&replica)
    }

    /// The term that it is of.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The audit found that `replica` is not bound: it will be asked again.
    pub fn handle_unbound(&mut self, replica: ReplicaId) {
        self.bound.remove(&replica);
    }

    /// Until when the lease holds: before this time, on the own clock. `None` without one.
    /// `held` tells what support each node gives.
    #[must_use]
    pub fn until(
        &self,
        membership: &Membership,
        held: impl Fn(NodeId) -> Option<SupportHeld>,
    ) -> Option<Monotonic> {
        let may_serve = self.is_own_term_committed || self.mutation.is(Mutant::LeaseBeforeOwnTerm);
        if !may_serve || self.end.is_some() {
            return None;
        }
        let until = latest_of_quorum(membership, |member| {
            if member == self.own {
                return Monotonic(u64::MAX);
            }
            let held = held(member.node).filter(|held| self.is_bound(member, *held));
            held.map_or(Monotonic(0), |held| held.until)
        });
        (until > Monotonic(0)).then_some(until)
    }

    /// True while the lease holds.
    #[must_use]
    pub fn holds(
        &self,
        now: Monotonic,
        membership: &Membership,
        held: impl Fn(NodeId) -> Option<SupportHeld>,
    ) -> bool {
        self.until(membership, held).is_some_and(|until| until > now)
    }

    /// True if `member` is bound and its binding's parts are those of the support.
    #[must_use]
    pub fn is_bound(&self, member: Member, held: SupportHeld) -> bool {
        self.bound.get(&member.replica).is_some_and(|binding| {
            let is_same_life = binding.incarnation == held.incarnation;
            (is_same_life || self.mutation.is(Mutant::IncarnationIgnored))
                && binding.epoch == held.epoch
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::SupportEpoch;

    fn member(id: u64) -> Member {
        Member { replica: ReplicaId(id), node: NodeId(id + 10) }
    }

    fn held(epoch: u64, until_ms: u64) -> SupportHeld {
        let until = Monotonic::from_millis(until_ms);
        SupportHeld { incarnation: Incarnation(9), epoch: SupportEpoch(epoch), until }
    }

    fn answer(request: BindRequest) -> Binding {
        Binding {
            term: request.term,
            leader: request.leader,
            leader_incarnation: request.leader_incarnation,
            replica: request.to,
            incarnation: Incarnation(9),
            epoch: request.epoch,
        }
    }

    fn bind(lease: &mut Lease, id: u64, held: SupportHeld) {
        let request = lease.bind_request(Monotonic(0), member(id), Some(held)).expect("wanted");
        assert!(lease.handle_bound(member(id), &answer(request)));
        assert_eq!(lease.bind_request(Monotonic(0), member(id), Some(held)), None);
    }

    /// Goal: each condition of the lease is needed. Method: three voters, one condition at a time.
    #[test]
    fn a_lease_needs_commit_binding_and_support() {
        let group = Membership::of_voters([1, 2, 3].map(member));
        let mut lease = Lease::new(member(1), Incarnation(4), Term(5));
        let support = |node: NodeId| (node == NodeId(12)).then_some(held(3, 900));
        bind(&mut lease, 2, held(3, 900));
        assert_eq!(lease.until(&group, support), None, "nothing of its term is committed");
        lease.handle_own_term_committed();
        assert_eq!(lease.until(&group, support), Some(Monotonic::from_millis(900)));
        assert!(!lease.holds(Monotonic::from_millis(900), &group, support));
        assert!(lease.holds(Monotonic::from_millis(899), &group, support));
        assert_eq!(lease.until(&group, |_| None), None, "no support");
        assert_eq!(lease.until(&group, |_| Some(held(4, 900))), None, "bound in an older epoch");
        let other_life = |_| Some(SupportHeld { incarnation: Incarnation(8), ..held(3, 900) });
        assert_eq!(lease.until(&group, other_life), None, "bound in another life");
        let five = Membership::of_voters([1, 2, 3, 4, 5].map(member));
        assert_eq!(lease.until(&five, support), None, "two of five");
        lease.end(LeaseEnd::HandedOver);
        assert_eq!(lease.until(&group, support), None, "for the rest of the term");
        assert_eq!(lease.bind_request(Monotonic(0), member(3), Some(held(1, 900))), None);
    }

    #[test]
    fn joint_groups_need_both_majorities_and_leaders_who_vote_count_themselves() {
        let mut lease = Lease::new(member(1), Incarnation(4), Term(5));
        lease.handle_own_term_committed();
        bind(&mut lease, 2, held(3, 900));
        let support = |node: NodeId| Some(held(3, if node == NodeId(12) { 900 } else { 700 }));
        let mut group = Membership::of_voters([2, 3, 4].map(member));
        assert_eq!(lease.until(&group, support), None, "the leader does not vote");
        bind(&mut lease, 3, held(3, 700));
        assert_eq!(lease.until(&group, support), Some(Monotonic::from_millis(700)));
        group.outgoing = [1, 2, 5].map(member).to_vec();
        assert_eq!(lease.until(&group, support), Some(Monotonic::from_millis(700)));
        group.outgoing = [1, 5, 6].map(member).to_vec();
        assert_eq!(lease.until(&group, support), None);
        let alone = Membership::of_voters([member(1)]);
        assert_eq!(lease.until(&alone, support), Some(Monotonic(u64::MAX)));
    }

    #[test]
    fn answers_of_others_and_old_ones_are_no_news() {
        let mut lease = Lease::new(member(1), Incarnation(4), Term(5));
        bind(&mut lease, 2, held(3, 900));
        let good = Binding {
            term: Term(5),
            leader: member(1),
            leader_incarnation: Incarnation(4),
            replica: ReplicaId(2),
            incarnation: Incarnation(9),
            epoch: SupportEpoch(4),
        };
        let bad = [
            Binding { term: Term(4), ..good },
            Binding { leader: member(3), ..good },
            Binding { leader_incarnation: Incarnation(3), ..good },
            Binding { replica: ReplicaId(3), ..good },
            Binding { epoch: SupportEpoch(2), ..good },
            Binding { incarnation: Incarnation(8), ..good },
        ];
        for binding in bad {
            assert!(!lease.handle_bound(member(2), &binding), "{binding:?}");
        }
        assert!(lease.handle_bound(member(2), &good));
    }
}
