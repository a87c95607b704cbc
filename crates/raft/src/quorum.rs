//! All quorum arithmetic of the kernel: no other file of it counts a majority.
//!
//! In joint consensus a decision needs a majority of both configurations (Raft paper, section 6).
//! Groups are small, so everything is counted in place: nothing is sorted, nothing allocated.

use quorate_types::ReplicaId;

use crate::membership::{Member, Membership};

/// The state of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A quorum said yes.
    Won,
    /// A quorum can't be reached any more.
    Lost,
    /// Answers are missing.
    Open,
}

/// The smallest number of `count` voters of which any two groups share a member.
pub(crate) fn majority(count: usize) -> usize {
    count / 2 + 1
}

/// The highest value that a quorum has reached. For matched indexes it is the index that is safe on
/// a quorum, for times the time at which a quorum was last heard. A group without voters agrees on
/// nothing, which is 0.
pub(crate) fn agreed(membership: &Membership, value: impl Fn(ReplicaId) -> u64) -> u64 {
    let incoming = agreed_in(&membership.voters, &value);
    if membership.is_joint() {
        incoming.min(agreed_in(&membership.outgoing, &value))
    } else {
        incoming
    }
}

/// The outcome of a vote in which `vote` tells each voter's answer so far.
pub(crate) fn tally(membership: &Membership, vote: impl Fn(ReplicaId) -> Option<bool>) -> Tally {
    let incoming = tally_in(&membership.voters, &vote);
    if !membership.is_joint() {
        return incoming;
    }
    match (incoming, tally_in(&membership.outgoing, &vote)) {
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        (Tally::Won, Tally::Won) => Tally::Won,
        _ => Tally::Open,
    }
}

fn agreed_in(voters: &[Member], value: &impl Fn(ReplicaId) -> u64) -> u64 {
    let reached = |goal: u64| voters.iter().filter(|m| value(m.replica) >= goal).count();
    let values = voters.iter().map(|m| value(m.replica));
    values.filter(|goal| reached(*goal) >= majority(voters.len())).max().unwrap_or(0)
}

fn tally_in(voters: &[Member], vote: &impl Fn(ReplicaId) -> Option<bool>) -> Tally {
    let count = |wanted| voters.iter().filter(|m| vote(m.replica) == wanted).count();
    let needed = majority(voters.len());
    if count(Some(true)) >= needed {
        Tally::Won
    } else if voters.len() - count(Some(false)) < needed && !voters.is_empty() {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_types::NodeId;

    fn members(bits: u16) -> Vec<Member> {
        (1..=9)
            .filter(|id| bits & (1 << (id - 1)) != 0)
            .map(|id| Member { replica: ReplicaId(id), node: NodeId(id) })
            .collect()
    }

    /// The slow twin: every set of replicas that is a quorum, by definition.
    fn quorums(membership: &Membership) -> Vec<Vec<ReplicaId>> {
        let holds_majority = |set: &[ReplicaId], voters: &[Member]| {
            let inside = voters.iter().filter(|m| set.contains(&m.replica)).count();
            voters.is_empty() || 2 * inside > voters.len()
        };
        (0u16..512)
            .map(|bits| members(bits).iter().map(|m| m.replica).collect::<Vec<_>>())
            .filter(|set| holds_majority(set, &membership.voters))
            .filter(|set| holds_majority(set, &membership.outgoing))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Goal: the arithmetic is right for n = 1..9, even and odd, plain and joint. Method: it
        /// must agree with the enumeration of all quorums.
        #[test]
        fn arithmetic_agrees_with_enumeration(
            voters in 1u16..512, outgoing in 0u16..512, joint in any::<bool>(),
            values in prop::collection::vec(0u64..6, 9),
            votes in prop::collection::vec(prop::option::of(any::<bool>()), 9),
        ) {
            let membership = Membership {
                voters: members(voters),
                outgoing: if joint { members(outgoing) } else { Vec::new() },
                learners: Vec::new(),
            };
            let value = |id: ReplicaId| values[id.0 as usize - 1];
            let vote = |id: ReplicaId| votes[id.0 as usize - 1];
            let quorums = quorums(&membership);
            let slow = quorums.iter().map(|q| q.iter().map(|id| value(*id)).min().unwrap()).max();
            prop_assert_eq!(agreed(&membership, value), slow.unwrap());
            let won = quorums.iter().any(|q| q.iter().all(|id| vote(*id) == Some(true)));
            let open = quorums.iter().any(|q| q.iter().all(|id| vote(*id) != Some(false)));
            let slow = match (won, open) {
                (true, _) => Tally::Won,
                (false, true) => Tally::Open,
                (false, false) => Tally::Lost,
            };
            prop_assert_eq!(tally(&membership, vote), slow);
        }
    }

    #[test]
    fn majorities_of_small_groups() {
        let table = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5), (9, 5)];
        for (count, needed) in table {
            assert_eq!(majority(count), needed);
        }
    }

    #[test]
    fn a_group_without_voters_decides_nothing() {
        let nobody = Membership::default();
        assert_eq!(agreed(&nobody, |_| u64::MAX), 0);
        assert_eq!(tally(&nobody, |_| Some(true)), Tally::Open);
    }
}
