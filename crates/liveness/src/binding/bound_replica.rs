//! A replica's binding to its leader, and what a bound replica does with each message.
//!
//! A replica that follows (t, L) binds itself to exactly that: term, leader, both replica ids, both
//! incarnations, and the epoch in which its node supports the leader's. While bound, and while the
//! epoch is not withdrawn, it runs no election timer, does not campaign, grants no vote or pre-vote
//! and raises no term. [`BoundReplica::decide`] lists all that ends a binding, except withdrawal
//! and new incarnations, which [`Standings`] hold.

use quorate_raft::{Member, TransferOf};
use quorate_types::{Incarnation, LogId, Monotonic, Mutant, ReplicaId, Term};

use crate::support::{Standings, SupportEpoch};

/// A replica's promise to a leader; also the answer that tells the leader so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The leader's term.
    pub term: Term,
    /// The leader and its node.
    pub leader: Member,
    /// Incarnation of the leader's node.
    pub leader_incarnation: Incarnation,
    /// The bound replica.
    pub replica: ReplicaId,
    /// Incarnation of the bound replica's node.
    pub incarnation: Incarnation,
    /// The epoch in which the bound replica's node supports the leader's.
    pub epoch: SupportEpoch,
}

impl Binding {
    /// True while the binding holds: neither end has restarted and its epoch was not withdrawn.
    #[must_use]
    pub fn is_upheld(&self, standings: &Standings) -> bool {
        self.incarnation == standings.incarnation()
            && standings.get(self.leader.node).is_some_and(|standing| {
                standing.incarnation == self.leader_incarnation
                    && standing.lowest <= self.epoch
                    && (standing.is_given || !standings.mutation().is(Mutant::EpochKept))
            })
    }
}

/// A leader asks a replica to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindRequest {
    /// The leader's term.
    pub term: Term,
    /// The leader; its node as the connection proves it.
    pub leader: Member,
    /// Incarnation of the leader's node.
    pub leader_incarnation: Incarnation,
    /// The replica asked.
    pub to: ReplicaId,
    /// The epoch in which the asked replica's node supports the leader's.
    pub epoch: SupportEpoch,
}

/// The leader that the replica's kernel follows, if any, and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The kernel's term.
    pub term: Term,
    /// The leader it follows in that term; `None` for a candidate, a leader, or a replica that
    /// knows none.
    pub leader: Option<ReplicaId>,
}

/// The result of a request to bind that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindGrant {
    /// The binding in force, to be told to the leader.
    pub binding: Binding,
    /// The binding that it replaced, if that was another one.
    pub replaced: Option<Binding>,
}

/// The kinds of message, as far as a binding cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// One that only an elected leader sends: append, heartbeat, snapshot, a request to bind.
    Leader,
    /// A vote or pre-vote request; the message's term is the one that is campaigned for.
    VoteRequest {
        /// The candidate's last entry.
        last: LogId,
        /// RULE 6: the leader and term that told it to campaign.
        transfer: Option<TransferOf>,
    },
    /// The order to campaign.
    TimeoutNow,
    /// The leader's release, or an answer that counts as one: "I do not lead that term", "no such
    /// replica".
    Release,
    /// Anything else: answers, questions.
    Other,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The kernel gets it.
    Pass,
    /// The binding is over, the election timer starts again, and the kernel gets the message. It
    /// must not count the leader bound to until now as alive when it decides on the message itself.
    PassUnbound(Binding),
    /// A vote request: to be answered with "no, the leader is alive", in the own term.
    Refuse,
    /// Not for the kernel, and without an answer.
    Drop,
}

/// One replica's binding, if it has one.
#[derive(Clone, Debug)]
pub struct BoundReplica {
    replica: ReplicaId,
    binding: Option<Binding>,
}

impl BoundReplica {
    /// A replica that was not bound since the start of its node.
    #[must_use]
    pub fn new(replica: ReplicaId) -> BoundReplica {
        BoundReplica { replica, binding: None }
    }

    /// The binding in force. While there is one the replica runs no election timer.
    #[must_use]
    pub fn binding(&self, standings: &Standings) -> Option<&Binding> {
        self.binding.as_ref().filter(|binding| binding.is_upheld(standings))
    }

    /// True if the replica may campaign or pre-campaign: it is not bound, and the silence after the
    /// start of its node is over.
    #[must_use]
    pub fn may_campaign(&self, now: Monotonic, standings: &Standings) -> bool {
        !standings.is_silent(now) && self.binding(standings).is_none()
    }

    /// Binds, if the replica follows exactly the leader that asks, in exactly that term, and its
    /// node supports the leader's in exactly that incarnation and epoch. Asked again, it answers
    /// again.
    pub fn handle_bind_request(
        &mut self,
        request: &BindRequest,
        followed: Followed,
        standings: &Standings,
    ) -> Option<BindGrant> {
        let leader = request.leader;
        let is_followed = followed.term == request.term && followed.leader == Some(leader.replica);
        if !is_followed
            || request.to != self.replica
            || !standings.is_given(leader.node, request.leader_incarnation, request.epoch)
        {
            return None;
        }
        let binding = Binding {
            term: request.term,
            leader,
            leader_incarnation: request.leader_incarnation,
            replica: self.replica,
            incarnation: standings.incarnation(),
            epoch: request.epoch,
        };
        let old = self.binding.replace(binding);
        Some(BindGrant { binding, replaced: old.filter(|old| *old != binding) })
    }

    /// Forgets a binding that no longer holds, because its epoch was withdrawn or the leader's node
    /// restarted: to be called for each shard that such a change wakes. The election timer starts.
    pub fn take_void(&mut self, standings: &Standings) -> Option<Binding> {
        self.binding.take_if(|binding| !binding.is_upheld(standings))
    }

    /// Forgets the binding in any case: the replica is being removed or was found to have lost what
    /// it promised (RULE 5), and never votes again.
    pub fn take(&mut self) -> Option<Binding> {
        self.binding.take()
    }

    /// Decides on a message of replica `from` in `term`, before the kernel sees it. While bound in term
    /// t to L, only these end the binding or let the term rise:
    ///
    /// - a message that only an elected leader sends, of a term above t: its election proves that a
    ///   quorum was not bound;
    /// - a vote request of a term above t whose transfer override names (L, t), or, at the target,
    ///   L's own TimeoutNow: L gave its lease up before it sent that;
    /// - a vote or pre-vote request of a term above t from L itself, which proves that it no longer
    ///   leads t; one of term t or below proves nothing, it is an old duplicate;
    /// - such a request from any replica whose last entry has a term above t: a leader was elected
    ///   there;
    /// - L's release for t.
    ///
    /// Other vote requests are refused, and all else of a higher term is dropped. In the silence
    /// after a start no request for a vote and no order to campaign passes, whoever sends it.
    pub fn decide(
        &mut self,
        now: Monotonic,
        from: ReplicaId,
        term: Term,
        heard: Heard,
        standings: &Standings,
    ) -> Decision {
        let is_election = matches!(heard, Heard::VoteRequest { .. } | Heard::TimeoutNow);
        if is_election && standings.is_silent(now) {
            return Decision::Drop;
        }
        let Some(binding) = self.binding(standings).copied() else {
            // A release is for the binding only; the kernel knows no such message.
            return if heard == Heard::Release { Decision::Drop } else { Decision::Pass };
        };
        let is_leader = from == binding.leader.replica;
        let frees = match heard {
            Heard::Leader => term > binding.term,
            Heard::VoteRequest { last, transfer } => {
                let of = TransferOf { leader: binding.leader.replica, term: binding.term };
                let broken = standings.mutation();
                let is_proof = is_leader || transfer == Some(of) || last.term > binding.term;
                let is_news = term > binding.term;
                (is_news || (is_leader && broken.is(Mutant::OldRequestUnbinds)))
                    && (is_proof || broken.is(Mutant::VoteRequestUnbinds))
            }
            Heard::TimeoutNow | Heard::Release => is_leader && term == binding.term,
            Heard::Other => false,
        };
        if frees {
            self.binding = None;
            return Decision::PassUnbound(binding);
        }
        match heard {
            Heard::VoteRequest { .. } => Decision::Refuse,
            Heard::Release => Decision::Drop,
            _ if term > binding.term => Decision::Drop,
            _ => Decision::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Standing, StandingCause, StandingChange};
    use quorate_types::{Index, NodeId};

    const LEADER: Member = Member { replica: ReplicaId(1), node: NodeId(11) };
    const OWN: ReplicaId = ReplicaId(2);
    const OTHER: ReplicaId = ReplicaId(3);
    const NOW: Monotonic = Monotonic::from_millis(5_000);

    fn standings(incarnation: u64, lowest: u64, is_given: bool) -> Standings {
        let mut standings = Standings::new(Incarnation(7), Monotonic::from_millis(1_000));
        let standing = Standing {
            incarnation: Incarnation(incarnation),
            lowest: SupportEpoch(lowest),
            is_given,
        };
        let (node, cause) = (LEADER.node, StandingCause::Given);
        standings.handle_change(&StandingChange { node, standing, cause });
        standings
    }

    fn request() -> BindRequest {
        BindRequest {
            term: Term(5),
            leader: LEADER,
            leader_incarnation: Incarnation(4),
            to: OWN,
            epoch: SupportEpoch(3),
        }
    }

    const FOLLOWED: Followed = Followed { term: Term(5), leader: Some(LEADER.replica) };

    fn bound() -> BoundReplica {
        let mut replica = BoundReplica::new(OWN);
        let bound = replica.handle_bind_request(&request(), FOLLOWED, &standings(4, 3, true));
        assert!(bound.is_some_and(|bound| bound.replaced.is_none()));
        replica
    }

    fn votes(last_term: u64, transfer: Option<(ReplicaId, u64)>) -> Heard {
        let transfer = transfer.map(|(leader, term)| TransferOf { leader, term: Term(term) });
        Heard::VoteRequest { last: LogId::new(Term(last_term), Index(9)), transfer }
    }

    /// Goal: exactly the listed messages unbind. Method: one line per message and its neighbours.
    #[test]
    fn what_frees_a_bound_replica() {
        let (pass, refuse, drop) = ("pass", "refuse", "drop");
        let free = "free";
        let table = [
            (LEADER.replica, 5, Heard::Leader, pass),
            (OTHER, 6, Heard::Leader, free),
            (OTHER, 4, Heard::Leader, pass),
            (OTHER, 6, votes(5, None), refuse),
            (OTHER, 9, votes(6, None), free),
            (OTHER, 5, votes(6, None), refuse),
            (LEADER.replica, 6, votes(5, None), free),
            (LEADER.replica, 5, votes(4, None), refuse),
            (LEADER.replica, 4, votes(3, None), refuse),
            (OTHER, 6, votes(5, Some((LEADER.replica, 5))), free),
            (OTHER, 6, votes(5, Some((LEADER.replica, 4))), refuse),
            (OTHER, 6, votes(5, Some((OTHER, 5))), refuse),
            (LEADER.replica, 5, Heard::TimeoutNow, free),
            (OTHER, 5, Heard::TimeoutNow, pass),
            (LEADER.replica, 4, Heard::TimeoutNow, pass),
            (LEADER.replica, 6, Heard::TimeoutNow, drop),
            (LEADER.replica, 5, Heard::Release, free),
            (LEADER.replica, 4, Heard::Release, drop),
            (OTHER, 5, Heard::Release, drop),
            (OTHER, 6, Heard::Other, drop),
            (OTHER, 5, Heard::Other, pass),
        ];
        let standings = standings(4, 3, true);
        for (from, term, heard, wanted) in table {
            let mut replica = bound();
            let decision = replica.decide(NOW, from, Term(term), heard, &standings);
            let found = match decision {
                Decision::Pass => pass,
                Decision::PassUnbound(_) => free,
                Decision::Refuse => refuse,
                Decision::Drop => drop,
            };
            assert_eq!(found, wanted, "{heard:?} of {from:?} in term {term}");
            assert_eq!(replica.binding(&standings).is_none(), wanted == free);
            assert_eq!(replica.may_campaign(NOW, &standings), wanted == free);
        }
    }

    /// Goal: a binding needs every one of its parts. Method: one part wrong at a time.
    #[test]
    fn binding_needs_all_its_parts() {
        let given = standings(4, 3, true);
        let strangers = [
            BindRequest { term: Term(4), ..request() },
            BindRequest { leader: Member { replica: OTHER, ..LEADER }, ..request() },
            BindRequest { leader: Member { node: NodeId(12), ..LEADER }, ..request() },
            BindRequest { leader_incarnation: Incarnation(3), ..request() },
            BindRequest { to: OTHER, ..request() },
            BindRequest { epoch: SupportEpoch(2), ..request() },
            BindRequest { epoch: SupportEpoch(4), ..request() },
        ];
        for request in strangers {
            let mut replica = BoundReplica::new(OWN);
            assert_eq!(replica.handle_bind_request(&request, FOLLOWED, &given), None);
        }
        for withdrawn in [standings(4, 4, false), standings(5, 3, true)] {
            let mut replica = bound();
            assert!(replica.binding(&given).is_some());
            assert!(replica.binding(&withdrawn).is_none());
            assert_eq!(replica.decide(NOW, OTHER, Term(6), votes(5, None), &withdrawn), PASS);
            assert!(replica.take_void(&given).is_none());
            assert!(replica.take_void(&withdrawn).is_some());
        }
    }

    const PASS: Decision = Decision::Pass;

    #[test]
    fn nobody_votes_in_the_silence() {
        let standings = standings(4, 3, true);
        let early = Monotonic::from_millis(999);
        for mut replica in [BoundReplica::new(OWN), bound()] {
            assert!(!replica.may_campaign(early, &standings));
            for heard in [votes(9, None), Heard::TimeoutNow] {
                let decision = replica.decide(early, LEADER.replica, Term(5), heard, &standings);
                assert_eq!(decision, Decision::Drop);
            }
        }
    }
}
