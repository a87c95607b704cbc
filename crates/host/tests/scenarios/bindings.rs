//! A follower bound to leader 1: whom it helps, what frees it, and what a start means.

use quorate_liveness::{Control, StandingCause};
use quorate_raft::{Body, TransferOf};
use quorate_types::{Duration, Index, LogId, Monotonic, NodeId, ReplicaId, Term, limits};

use crate::driver::{BASE, Driver, bind_request, entry, standing};

const TERM: Term = Term(5);

/// Replica 2 follows leader 1 in term 5 and is bound to it.
fn bound() -> Driver {
    let mut driver = Driver::new(2, Monotonic(0));
    driver.now = Monotonic::from_millis(500);
    driver.handle(standing(1, 1, StandingCause::Given));
    let runs = vec![entry(TERM, 2)];
    driver.hear(1, TERM, Body::Append { previous: BASE, runs, commit: Index(2) });
    driver.hear_control(1, bind_request(TERM, 2));
    assert!(driver.view().is_bound);
    driver.sent.clear();
    driver
}

fn vote(pre: bool, last_term: Term, transfer: Option<TransferOf>) -> Body {
    Body::VoteRequest { pre, last: LogId::new(last_term, Index(9)), transfer }
}

fn grants(driver: &mut Driver) -> Vec<bool> {
    let granted = |body: &Body| match body {
        Body::VoteReply { granted, .. } => Some(*granted),
        _ => None,
    };
    driver.take_bodies().iter().filter_map(|(_, body)| granted(body)).collect()
}

/// Goal: a promise to a leader outlasts every timer, and no other node gets a vote meanwhile.
/// Method: an hour without a message; then a candidate with a longer log of the same term, whose
/// term is ignored.
#[test]
fn a_bound_replica_refuses_votes_and_runs_no_timer() {
    let mut driver = bound();
    driver.pass(Duration::from_secs(3_600));
    assert_eq!(driver.take_bodies(), [], "it does not campaign");
    driver.hear(3, TERM.next(), vote(true, TERM, None));
    assert_eq!(grants(&mut driver), [false]);
    driver.hear(3, TERM.next(), vote(false, TERM, None));
    assert!(!grants(&mut driver).contains(&true));
    driver.hear(3, TERM.next(), Body::HeartbeatReply { round: 0 });
    let view = driver.view();
    assert_eq!((view.role.term, view.is_bound), (TERM, true));
}

/// Goal: a late order to campaign frees no follower. Method: the override of an older term and of
/// another leader, and then the right one.
#[test]
fn only_the_order_of_the_leader_bound_to_frees_a_replica() {
    let mut driver = bound();
    let of = |leader, term| Some(TransferOf { leader: ReplicaId(leader), term });
    for wrong in [of(1, Term(4)), of(3, TERM)] {
        driver.hear(3, TERM.next(), vote(false, TERM, wrong));
        assert!(driver.view().is_bound && !grants(&mut driver).contains(&true), "{wrong:?}");
    }
    driver.hear(3, TERM.next(), vote(false, TERM, of(1, TERM)));
    assert_eq!(grants(&mut driver), [true]);
    assert!(!driver.view().is_bound);
}

/// Goal: a leader that gives up frees its followers at once. Method: its release frees one; a
/// release of an older term, of another node, or for another replica does not.
#[test]
fn a_release_frees() {
    let release =
        |from, to, term| Control::Release { from: ReplicaId(from), to: ReplicaId(to), term };
    let mut driver = bound();
    driver.hear_control(1, release(1, 2, Term(4)));
    driver.hear_control(3, release(1, 2, TERM));
    driver.hear_control(1, release(1, 102, TERM));
    assert!(driver.view().is_bound);
    driver.hear_control(1, release(1, 2, TERM));
    assert!(!driver.view().is_bound);
    driver.hear(3, TERM.next(), vote(true, TERM, None));
    assert_eq!(grants(&mut driver), [true]);
}

/// Goal: a lost release leaves nothing stuck. Method: a caller's request at the bound replica makes
/// it ask, once in a while; a node that does not lead that term, or has no such replica, answers
/// with a release.
#[test]
fn a_lost_release_is_healed_by_a_question() {
    let mut driver = bound();
    driver.read(1);
    driver.read(2);
    driver.turn();
    let (from, to) = (ReplicaId(2), ReplicaId(1));
    let question = Control::Query { from, to, term: TERM };
    assert_eq!(driver.control, [(NodeId(1), question)], "one question for both");

    let mut asked = Driver::new(1, Monotonic(0));
    asked.hear_control(2, question);
    let [(NodeId(2), release)] = asked.control[..] else { panic!("{:?}", asked.control) };
    driver.hear_control(1, release);
    assert!(!driver.view().is_bound);
}

/// Goal: the loss of a leader's node wakes the replicas bound there, sooner than an election
/// timeout. Method: its support is withdrawn.
#[test]
fn a_withdrawal_wakes() {
    let mut driver = bound();
    driver.pass(Duration::from_secs(60));
    driver.handle(standing(1, 2, StandingCause::Withdrawn));
    driver.turn();
    assert!(!driver.view().is_bound);
    driver.pass(limits::WAKE_SPREAD * 2 + Duration::from_millis(20));
    let sent = driver.take_bodies();
    let asks =
        |to| sent.iter().any(|(id, body)| *id == to && matches!(body, Body::VoteRequest { .. }));
    assert!(asks(1) && asks(3), "{sent:?}");
}

/// Goal: a node that has just started helps no candidate, since it may have been bound in its
/// former life. Method: a good candidate asks during the silence and after it; an order to campaign
/// comes during the silence.
#[test]
fn a_restarted_node_is_silent() {
    let silent_until = Monotonic(0) + limits::SUPPORT_MAX;
    let mut driver = Driver::new(2, silent_until);
    driver.hear(1, TERM, Body::Heartbeat { commit: Index(0), round: 0 });
    driver.sent.clear();
    driver.hear(1, TERM, Body::TimeoutNow);
    driver.pass(limits::SUPPORT_MAX - Duration::from_millis(1));
    for pre in [true, false] {
        driver.hear(3, TERM.next(), vote(pre, TERM, None));
    }
    assert_eq!(driver.take_bodies(), [], "it neither votes nor campaigns");
    assert_eq!(driver.view().role.term, TERM);
    driver.pass(Duration::from_millis(1));
    driver.hear(3, TERM.next(), vote(false, TERM, None));
    assert_eq!(grants(&mut driver), [true]);
}
