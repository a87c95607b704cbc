//! A hung disk. Goal: a leader whose write does not become durable gives up its leadership, so that
//! a replica with a better disk can take it, and leads again once the disk is back; meanwhile
//! nothing piles up.

use quorate_host::{Answer, Event, HostRefusal, Ticket};
use quorate_raft::{Body, Role};
use quorate_types::{Duration, Index, Term, limits};

use crate::driver::{BASE, Driver, SHARD};

#[test]
fn a_leader_on_a_hung_disk_gives_up_and_comes_back() {
    let mut driver = Driver::alone();
    driver.lead();
    driver.write(1, b"v");
    driver.turn();
    assert_eq!(driver.unfinished.len(), 1, "the write is under way");
    let taken = driver.now;

    driver.pass(limits::DISK_STALL - Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Leader, false), "slow is not hung");

    let hung = taken + limits::DISK_STALL;
    assert!(driver.host.poll_timeout().is_some_and(|at| at <= hung), "it asks to be woken");
    driver.pass(Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Follower, true));
    driver.write(2, b"v");
    driver.turn();
    let refused = Answer::Refused(HostRefusal::NotLeader { leader: None });
    assert_eq!(driver.answers, [(Ticket(2), refused)], "nothing new goes to the hung disk");
    assert!(driver.applied.is_empty(), "and nothing was acknowledged");

    driver.finish_writes();
    driver.lead();
    for _ in 0..1_000 {
        if driver.applied == [Ticket(1)] {
            assert!(!driver.host.is_stalled());
            return;
        }
        driver.step();
    }
    panic!("what was proposed before is committed by the next leader: {:?}", driver.applied);
}

/// Goal: a slow disk with a long queue is not taken for a hung one, nor is a disk that was not
/// heard because the process itself stood still. Method: each write is finished two seconds after
/// it was taken, with others behind it; then the clock jumps.
#[test]
fn a_slow_disk_and_a_stopped_process_are_no_stall() {
    let mut driver = Driver::alone();
    driver.lead();
    for ticket in 1..=8 {
        driver.write(ticket, b"v");
        driver.turn();
    }
    assert_eq!(driver.unfinished.len(), 8, "a long queue");
    for _ in 0..8 {
        driver.pass(Duration::from_millis(2_000));
        assert_eq!((driver.role, driver.host.is_stalled()), (Role::Leader, false));
        let turn = driver.unfinished.remove(0);
        driver.handle(Event::Persisted { turn });
        driver.turn();
    }
    driver.write(9, b"v");
    driver.turn();
    driver.now = driver.now + Duration::from_secs(60);
    driver.turn();
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Leader, false), "it slept itself");
}

/// Goal: what waits for a hung disk stays bounded for as long as it hangs, and the newest answers
/// leave when the disk is back. Method: a new leader is heard, so that every answer to it waits;
/// then ten minutes of its heartbeats and appends, and of a reader's requests.
#[test]
fn on_a_hung_disk_the_newest_answers_wait_and_no_others() {
    let mut driver = Driver::new(3, |_| ());
    let term = Term(2);
    let beats = 6_000;
    for round in 1..=beats {
        driver.hear(2, term, Body::Heartbeat { commit: Index(0), round });
        let append = Body::Append { previous: BASE, runs: vec![], commit: BASE.index };
        driver.hear(2, term, append);
        driver.hear(3, term, Body::ReadIndex { context: round });
        driver.pass(limits::HEARTBEAT);
        let held = driver.host.view(SHARD).expect("hosted").held_messages;
        assert!(held <= limits::HELD_READ_REPLIES_MAX + 4, "{held} messages wait at beat {round}");
    }
    assert!(driver.host.is_stalled());
    assert_eq!(driver.unfinished.len(), 1);
    driver.sent.clear();
    driver.finish_writes();
    let replies: Vec<_> = driver.sent.iter().filter(|message| message.to.0 == 2).collect();
    let newest = Body::HeartbeatReply { round: beats };
    let accepted = Body::Accepted { matched: BASE.index };
    assert_eq!(
        replies.iter().map(|message| &message.body).collect::<Vec<_>>(),
        [&accepted, &newest]
    );
}

/// Goal: a replica on a hung disk takes no part in elections: each term would add a write, and
/// messages, that wait. Method: for ten minutes it hears no leader, and another replica asks it for
/// votes in ever new terms; then the disk is back.
#[test]
fn on_a_hung_disk_nobody_campaigns_or_votes() {
    let mut driver = Driver::new(3, |_| ());
    driver.hear(2, Term(2), Body::Heartbeat { commit: Index(0), round: 1 });
    assert_eq!(driver.unfinished.len(), 1, "the new term is under way");
    driver.pass(limits::DISK_STALL);
    driver.sent.clear();
    let request = |pre| Body::VoteRequest { pre, last: BASE, transfer: None };
    for second in 1..=600 {
        driver.pass(Duration::from_secs(1));
        driver.hear(3, Term(2 + second), request(true));
        driver.hear(3, Term(2 + second), request(false));
    }
    assert!(driver.sent.is_empty(), "{:?}", driver.sent);
    assert_eq!(driver.unfinished.len(), 1, "no term that can't be written is begun");
    driver.finish_writes();
    for _ in 0..100 {
        if driver.sent.iter().any(|message| matches!(message.body, Body::VoteRequest { .. })) {
            return;
        }
        driver.step();
    }
    panic!("it never campaigns again");
}
