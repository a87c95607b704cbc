//! When a leader may answer by its lease, and when it no longer may.

use quorate_host::{Answer, Event, Ticket};
use quorate_raft::{Body, Membership, Role};
use quorate_types::{Duration, Monotonic, NodeId, limits};

use crate::driver::{Driver, SHARD, group, member};

/// A leader on node 1 that node 2 supports for 900 ms more, and its lease.
fn leader() -> (Driver, Monotonic) {
    let mut driver = Driver::new(1, Monotonic(0));
    driver.lead(2);
    driver.obey(3);
    let until = driver.now + Duration::from_millis(1_000);
    driver.be_supported(2, until);
    assert_eq!(driver.view().lease_until, Some(until));
    driver.read(1);
    driver.turn();
    assert!(matches!(driver.answers[..], [(Ticket(1), Answer::ReadAt(_))]), "by the lease");
    driver.answers.clear();
    driver.sent.clear();
    (driver, until)
}

/// Goal: no read is answered by a lease in the turn in which the order to campaign leaves, or after
/// (RULE 6). Method: reads before and after the transfer in one turn, where the target has
/// everything; then a target that lacks an entry, where the lease ends when its acknowledgement
/// arrives.
#[test]
fn the_lease_ends_before_the_order_to_campaign_leaves() {
    let transfer =
        |ticket| Event::TransferLeader { shard: SHARD, ticket: Ticket(ticket), to: NodeId(2) };
    let is_order = |sent: &[(u64, Body)]| sent.contains(&(2, Body::TimeoutNow));

    let (mut driver, _) = leader();
    driver.read(2);
    driver.handle(transfer(3));
    driver.read(4);
    assert_eq!(driver.view().lease_until, None);
    driver.turn();
    assert!(is_order(&driver.take_bodies()));
    assert_eq!(driver.answers, [(Ticket(3), Answer::TransferBegun)], "the reads wait for a round");

    let (mut driver, until) = leader();
    driver.write(2);
    driver.turn();
    driver.handle(transfer(3));
    driver.read(4);
    driver.turn();
    assert_eq!(driver.view().lease_until, Some(until), "nobody else was let lead");
    assert!(matches!(driver.answers[..], [(Ticket(3), _), (Ticket(4), Answer::ReadAt(_))]));
    assert!(!is_order(&driver.take_bodies()));
    let (term, matched) = (driver.view().role.term, driver.view().last.index);
    driver.arrive(2, term, Body::Accepted { matched });
    assert_eq!(driver.view().lease_until, None);
    driver.read(5);
    driver.turn();
    assert!(is_order(&driver.take_bodies()));
    assert!(!driver.answers.iter().any(|(ticket, _)| *ticket == Ticket(5)));
}

/// Goal: a leader that leaves, or becomes a learner, has no lease from the entry on that says so:
/// the others may elect without it. Method: both changes, with every replica bound, and a read
/// after each in the same turn.
#[test]
fn the_lease_ends_with_the_own_vote() {
    let others = Membership::of_voters([2, 3].map(member));
    let demoted = Membership { learners: vec![member(1)], ..others.clone() };
    for target in [others, demoted] {
        let (mut driver, until) = leader();
        driver.be_supported(3, until);
        assert_eq!(driver.view().lease_until, Some(until));
        let (shard, ticket, expected) = (SHARD, Ticket(2), group());
        driver.handle(Event::ChangeMembership { shard, ticket, expected, target });
        assert!(driver.view().membership.is_joint(), "the change has begun");
        assert_eq!(driver.view().lease_until, None);
        driver.read(3);
        driver.turn();
        assert_eq!(driver.answers, [], "it waits for a round");
    }
}

/// Goal: a failed transfer does not cost the lease forever. Method: the target gets the order and
/// does nothing; the leader ends the term by its own election and has a lease in the next.
#[test]
fn a_failed_transfer_gives_the_lease_back_in_another_term() {
    let (mut driver, _) = leader();
    let term = driver.view().role.term;
    let (shard, to) = (SHARD, NodeId(2));
    driver.handle(Event::TransferLeader { shard, ticket: Ticket(2), to });
    let steps = limits::TRANSFER_TIMEOUT.as_millis() / limits::HEARTBEAT.as_millis() + 2;
    for _ in 0..steps {
        let view = driver.view();
        assert!(view.lease_until.is_none() || view.role.term > term, "{view:?}");
        driver.be_supported(2, driver.now + Duration::from_millis(1_000));
    }
    let view = driver.view();
    assert_eq!((view.role.role, view.role.term), (Role::Leader, term.next()));
    assert!(view.lease_until.is_some(), "{view:?}");
}

/// Goal: a leader that was deposed without hearing of it answers no read: neither by an expired
/// lease nor by an index that late answers confirm. Method: its support is not prolonged; reads at
/// the last moment of the lease and at its end; then answers to a round that began before the read.
#[test]
fn a_deposed_leader_with_late_answers_refuses_reads() {
    let (mut driver, until) = leader();
    driver.pass(until.since(driver.now) - Duration::from_nanos(1));
    driver.sent.clear();
    driver.read(2);
    driver.turn();
    assert!(matches!(driver.answers[..], [(Ticket(2), Answer::ReadAt(_))]), "nobody else can lead");

    driver.pass(Duration::from_nanos(1));
    driver.sent.clear();
    driver.read(3);
    driver.turn();
    assert_eq!(driver.answers.len(), 1, "the lease is over at its end, not behind it");
    let rounds: Vec<u64> = driver
        .take_bodies()
        .iter()
        .filter_map(|(_, body)| match body {
            Body::Heartbeat { round, .. } => Some(*round),
            _ => None,
        })
        .collect();
    let term = driver.view().role.term;
    assert!(!rounds.is_empty(), "it asks instead");
    for peer in [2, 3] {
        driver.hear(peer, term, Body::HeartbeatReply { round: rounds[0] - 1 });
    }
    assert_eq!(driver.answers.len(), 1, "that was sent before the read");
    driver.hear(3, term.next(), Body::HeartbeatReply { round: 0 });
    assert_eq!(driver.answers[1..], [(Ticket(3), Answer::NotConfirmed { leader: None })]);
    assert_eq!(driver.view().lease_until, None);
}
