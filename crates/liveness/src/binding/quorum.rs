//! The quorum arithmetic of a lease: the latest time that every member of some quorum reaches.

use quorate_raft::{Member, Membership};
use quorate_types::Monotonic;

/// The latest time that all members of some quorum reach: a majority of the voters and, in joint
/// consensus, one of the outgoing voters too. `time` gives each voter's time; a voter that does not
/// count has time 0. A group without voters has no quorum, which is 0 too.
#[must_use]
pub fn latest_of_quorum(membership: &Membership, time: impl Fn(Member) -> Monotonic) -> Monotonic {
    let incoming = latest_of_majority(&membership.voters, &time);
    if membership.is_joint() {
        // A quorum is a union of two majorities, chosen independently: the earlier one decides.
        incoming.min(latest_of_majority(&membership.outgoing, &time))
    } else {
        incoming
    }
}

/// Counted in place, as groups are small: nothing is sorted or allocated.
fn latest_of_majority(voters: &[Member], time: &impl Fn(Member) -> Monotonic) -> Monotonic {
    let majority = voters.len() / 2 + 1;
    let reached = |goal: Monotonic| voters.iter().filter(|m| time(**m) >= goal).count();
    let times = voters.iter().map(|member| time(*member));
    times.filter(|goal| reached(*goal) >= majority).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use quorate_types::{NodeId, ReplicaId};

    fn members(bits: u16) -> Vec<Member> {
        let ids = (1..=9u64).filter(|id| bits & (1 << (id - 1)) != 0);
        ids.map(|id| Member { replica: ReplicaId(id), node: NodeId(id + 20) }).collect()
    }

    /// The slow twin: of every set that is a quorum by definition, the member that fails first; of
    /// all sets, the one that fails last.
    fn slow(membership: &Membership, time: impl Fn(Member) -> Monotonic) -> Monotonic {
        let holds_majority = |set: &[Member], voters: &[Member]| {
            2 * voters.iter().filter(|member| set.contains(member)).count() > voters.len()
        };
        let mut latest = Monotonic(0);
        for bits in 1..512 {
            let set = members(bits);
            let is_quorum = holds_majority(&set, &membership.voters)
                && (membership.outgoing.is_empty() || holds_majority(&set, &membership.outgoing));
            if is_quorum {
                let first = set.iter().map(|member| time(*member)).min();
                latest = latest.max(first.expect("a set has members"));
            }
        }
        latest
    }

    /// Goal: the arithmetic is right for n = 1..9, even and odd, plain and joint. Method: it must
    /// agree with the enumeration of all quorums; the seed is fixed.
    #[test]
    fn agrees_with_the_enumeration_of_quorums() {
        let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let mut runner = TestRunner::new_with_rng(config, random);
        let times = prop::collection::vec(0u64..5, 9);
        let inputs = (1u16..512, prop::option::of(1u16..512), times);
        let result = runner.run(&inputs, |(voters, outgoing, times)| {
            let outgoing = outgoing.map_or(Vec::new(), members);
            let membership =
                Membership { voters: members(voters), outgoing, learners: members(511) };
            let time = |member: Member| Monotonic(times[member.replica.0 as usize - 1]);
            prop_assert_eq!(latest_of_quorum(&membership, time), slow(&membership, time));
            Ok(())
        });
        result.expect("the two agree");
    }

    #[test]
    fn nobody_is_no_quorum() {
        let nobody = Membership::default();
        assert_eq!(latest_of_quorum(&nobody, |_| Monotonic(5)), Monotonic(0));
    }
}
