//! What leaves a node as a promise is durable there (RULE 2), and a restart finds all of it.
//!
//! Compared with a mirror of each replica's disk:
//!
//! - `Accepted` through an index: the log is durable through it, and equals there the log of that
//!   term's leader;
//! - a vote given, and a candidate's request: that vote is durable, in that term;
//! - any other answer, and what a leader sends: its term is durable.
//!
//! Pre-votes promise nothing, and neither do questions to the leader. An answer may leave after later
//! writes have become durable too, so votes of earlier terms count, and an answer in a term before
//! the log was cut may speak of the log before the cut.

use quorate_raft::{Body, HardState, Message, Restored};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use super::known::{Known, Replica};
use super::log_terms::LogTerms;
use super::state_machine_safety::StateMachineSafety;
use super::{Broken, broken};

const NAME: &str = "sync_before_promise";

/// Checks a message that leaves its node.
pub(crate) fn sent(
    known: &Known,
    machines: &StateMachineSafety,
    from: NodeId,
    shard: ShardId,
    message: &Message,
) -> Result<(), Broken> {
    let Some(replica) = known.get(shard, message.from) else { return Ok(()) };
    // It is proven to be no member any more, and its end has overtaken what it writes: it says things
    // that nobody counts on.
    if replica.is_ended && !is_member(known, shard, message.from) {
        return Ok(());
    }
    let (sender, term) = (message.from, message.term);
    let fail = |what: String| {
        let what = format!("replica {sender} of shard {shard}, term {term}: {what}");
        Err(broken(NAME, shard, [from], what))
    };
    // A durable term beyond that of the vote is enough too: no other candidate gets a vote in the
    // old term.
    let votes_for =
        |candidate| replica.votes.get(&term) == Some(&candidate) || replica.durable_term > term;
    match message.body {
        Body::VoteReply { pre: true, granted: true, .. }
        | Body::VoteRequest { pre: true, .. }
        | Body::ReadIndex { .. } => return Ok(()),
        Body::VoteReply { pre: false, granted: true, .. } if !votes_for(message.to) => {
            let durable = replica.votes.get(&term);
            return fail(format!("its vote for {} left, durable is {durable:?}", message.to));
        }
        Body::VoteRequest { pre: false, .. } if !votes_for(sender) => {
            let durable = replica.votes.get(&term);
            return fail(format!("it asks for votes, its own that is durable is {durable:?}"));
        }
        Body::Accepted { matched } => accepted(known, machines, replica, (shard, term), matched)
            .or_else(|what| fail(format!("{matched:?} accepted, but {what}")))?,
        _ => {}
    }
    if replica.durable_term < term {
        let durable = replica.durable_term;
        return fail(format!("the term left while {durable:?} is durable"));
    }
    Ok(())
}

/// Whether a replica is in the newest membership that is known to be committed.
fn is_member(known: &Known, shard: ShardId, replica: ReplicaId) -> bool {
    let membership = known.memberships.get(&shard);
    membership.is_none_or(|(_, membership)| membership.node_of(replica).is_some())
}

fn accepted(
    known: &Known,
    machines: &StateMachineSafety,
    replica: &Replica,
    (shard, term): (ShardId, Term),
    matched: Index,
) -> Result<(), String> {
    let now = agrees(known, machines, &replica.durable, (shard, term), matched);
    match &replica.before_cut {
        Some((until, log)) if now.is_err() && term <= *until => {
            agrees(known, machines, log, (shard, term), matched)
        }
        _ => now,
    }
}

/// Whether a log holds at `matched` what the leader of `term` has there.
fn agrees(
    known: &Known,
    machines: &StateMachineSafety,
    log: &LogTerms,
    (shard, term): (ShardId, Term),
    matched: Index,
) -> Result<(), String> {
    if matched <= log.base().index {
        return Ok(());
    }
    let Some(own) = log.term_at(matched) else {
        return Err(format!("durable is {} only", log.last()));
    };
    // An entry of the leader's own term is the leader's: only it makes such entries, and by log
    // matching all entries before it are the leader's too.
    if own == term {
        return Ok(());
    }
    if own > term {
        return Err(format!("the entry durable there is of {own:?}"));
    }
    let Some((leader, its_log)) = known.leaders.get(&(shard, term)) else {
        return Err("nobody leads that term".to_owned());
    };
    let theirs = its_log.term_at(matched).or_else(|| {
        let is_below = matched < its_log.base().index;
        machines.truth(shard, matched).filter(|_| is_below).map(|truth| truth.term)
    });
    let is_unknown = matched < its_log.base().index && machines.is_forgotten(shard, matched);
    if theirs == Some(own) || is_unknown {
        return Ok(());
    }
    let own = LogId::new(own, matched);
    Err(format!("durable there is {own}, and leader {leader} has {theirs:?}"))
}

/// Checks a replica restored from its disk; `before` is what was known of it.
pub(crate) fn restored(
    before: &Replica,
    node: NodeId,
    shard: ShardId,
    id: ReplicaId,
    restored: &Restored,
) -> Result<(), Broken> {
    let fail = |what: String| {
        let what = format!("replica {id} of shard {shard} restarts: {what}");
        Err(broken(NAME, shard, [node], what))
    };
    if before.node != node {
        return fail(format!("it lived on node {}", before.node));
    }
    if before.is_ended {
        return fail("it has ended forever".to_owned());
    }
    let HardState { term, vote, .. } = restored.hard_state;
    let (term_before, vote_before) = (before.durable_term, before.votes.get(&before.durable_term));
    if term != term_before || vote.as_ref() != vote_before {
        return fail(format!(
            "it finds {term:?} and vote {vote:?}, durable were {term_before:?} and {vote_before:?}"
        ));
    }
    let found = LogTerms::of(restored);
    if found.last() != before.durable.last() && found.base().index < before.durable.last().index {
        let (found, durable) = (found.last(), before.durable.last());
        return fail(format!("its log ends with {found}, durable was {durable}"));
    }
    match found.differs_from(&before.durable) {
        Some(index) => fail(format!("its log differs at {index:?} from what was durable")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Role;

    use super::super::samples::{Bench, breaks, id, restored, write};
    use super::*;

    fn grant() -> Body {
        Body::VoteReply { pre: false, granted: true, leader_alive: false }
    }

    fn ask(pre: bool) -> Body {
        Body::VoteRequest { pre, last: id(1, 1), transfer: None }
    }

    /// Replica 1 leads term 2 and has written two entries; replica 2 has its term.
    fn led() -> Bench {
        let mut bench = Bench::new();
        bench.durable(1, &write(1).vote(2, 1).build()).expect("its own vote");
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.durable(1, &write(2).run(2, 2, 2).build()).expect("its entries");
        bench.durable(2, &write(1).vote(2, 1).build()).expect("a vote");
        bench
    }

    #[test]
    fn what_is_durable_may_be_told() {
        let mut bench = led();
        bench.send(2, 1, 2, grant()).expect("the vote is durable");
        bench.send(3, 1, 2, ask(true)).expect("a pre-vote promises nothing");
        bench.durable(2, &write(2).run(2, 2, 2).build()).expect("the entries");
        bench.send(2, 1, 2, Body::Accepted { matched: Index(3) }).expect("durable");
        // The next leader cuts the entries off, and the earlier answer leaves only now.
        bench.durable(3, &write(1).vote(3, 3).build()).expect("its own vote");
        bench.role(3, Role::Leader, 3).expect("elected");
        bench.durable(2, &write(3).vote(3, 3).cut(3).run(3, 3, 1).build()).expect("cut");
        bench.send(2, 1, 2, Body::Accepted { matched: Index(3) }).expect("it was durable");
        bench.send(2, 1, 2, grant()).expect("so was the vote");
    }

    #[test]
    fn what_is_only_written_may_not() {
        let mut bench = led();
        bench.written(2, &write(2).run(2, 2, 2).build()).expect("under way");
        breaks(bench.send(2, 1, 2, Body::Accepted { matched: Index(3) }), NAME);
        breaks(bench.send(3, 1, 2, grant()), NAME);
        breaks(bench.send(3, 1, 3, ask(false)), NAME);
        breaks(bench.send(2, 1, 5, Body::HeartbeatReply { round: 0 }), NAME);
    }

    #[test]
    fn an_entry_that_the_leader_lacks_is_not_accepted() {
        let mut bench = led();
        bench.durable(3, &write(1).vote(3, 3).build()).expect("its own vote");
        bench.role(3, Role::Leader, 3).expect("elected without the entries");
        bench.durable(2, &write(2).vote(3, 3).run(2, 2, 2).build()).expect("of the old leader");
        breaks(bench.send(2, 3, 3, Body::Accepted { matched: Index(3) }), NAME);
    }

    #[test]
    fn a_restart_finds_what_was_durable() {
        let mut bench = led();
        let sound = Restored {
            hard_state: HardState { term: Term(2), vote: Some(ReplicaId(1)), committed: Index(1) },
            last: id(2, 3),
            terms: vec![(Index(2), Term(2))],
            ..restored()
        };
        bench.add(1, &sound).expect("all of it");
        let cut = Restored { last: id(2, 2), ..sound.clone() };
        breaks(bench.add(1, &cut), NAME);
        breaks(bench.add(1, &Restored { hard_state: restored().hard_state, ..sound }), NAME);
    }
}
