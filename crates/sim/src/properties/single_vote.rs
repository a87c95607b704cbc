//! A replica votes for one candidate per term, forever, whatever restarts come between. A vote is
//! seen in the message that gives it, in a candidate's own request, and in durable hard states.

use std::collections::BTreeMap;

use quorate_raft::{Body, HardState, Message};
use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::{Broken, broken};

/// Checks that each replica votes once per term; keeps all votes seen.
#[derive(Default)]
pub(crate) struct SingleVote {
    votes: BTreeMap<(ShardId, ReplicaId, Term), ReplicaId>,
}

impl SingleVote {
    pub(crate) fn hard_state(
        &mut self,
        node: NodeId,
        shard: ShardId,
        voter: ReplicaId,
        state: &HardState,
    ) -> Result<(), Broken> {
        match state.vote {
            Some(candidate) => self.vote(node, (shard, voter, state.term), candidate),
            None => Ok(()),
        }
    }

    pub(crate) fn sent(
        &mut self,
        node: NodeId,
        shard: ShardId,
        message: &Message,
    ) -> Result<(), Broken> {
        let place = (shard, message.from, message.term);
        match message.body {
            Body::VoteReply { pre: false, granted: true, .. } => self.vote(node, place, message.to),
            Body::VoteRequest { pre: false, .. } => self.vote(node, place, message.from),
            _ => Ok(()),
        }
    }

    fn vote(
        &mut self,
        node: NodeId,
        place: (ShardId, ReplicaId, Term),
        candidate: ReplicaId,
    ) -> Result<(), Broken> {
        let first = *self.votes.entry(place).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        let (shard, voter, term) = place;
        let what = format!(
            "replica {voter} of shard {shard} votes in term {term} for replicas {first} and \
             {candidate}"
        );
        Err(broken("single_vote", shard, [node], what))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, breaks, id, restored, write};
    use super::*;

    fn grant() -> Body {
        Body::VoteReply { pre: false, granted: true, leader_alive: false }
    }

    #[test]
    fn one_vote_per_term_may_be_told_again_after_a_restart() {
        let mut bench = Bench::new();
        let vote = write(1).vote(2, 3).build();
        bench.durable(1, &vote).expect("the vote");
        bench.send(1, 3, 2, grant()).expect("told");
        let state = vote.hard_state.expect("a hard state");
        let again = quorate_raft::Restored { hard_state: state, ..restored() };
        bench.add(1, &again).expect("restored as it was");
        bench.send(1, 3, 2, grant()).expect("told again");
    }

    #[test]
    fn a_second_candidate_is_found_in_messages_and_on_disk() {
        let mut bench = Bench::new();
        bench.durable(1, &write(1).vote(2, 3).build()).expect("the vote");
        breaks(bench.durable(1, &write(2).vote(2, 2).build()), "single_vote");
        breaks(bench.send(1, 2, 2, grant()), "single_vote");
        let request = Body::VoteRequest { pre: false, last: id(1, 1), transfer: None };
        breaks(bench.send(1, 2, 2, request), "single_vote");
    }
}
