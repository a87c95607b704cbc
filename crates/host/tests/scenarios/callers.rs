//! What a caller is told when the host can't finish its write or read.

use bytes::Bytes;
use quorate_host::{Answer, Event, HostRefusal, Ticket};
use quorate_machine::KvCommand;
use quorate_raft::{Body, InstallError};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, Term};

use crate::driver::{BASE, Driver, SHARD, entry, group};

/// A leader on node 1 with one write that no other node has, and the write's id.
fn leader_with_a_write() -> (Driver, LogId) {
    let mut driver = Driver::new(1, Monotonic(0));
    driver.lead(2);
    driver.write(1);
    driver.turn();
    let last = driver.view().last;
    assert_eq!(driver.answers, []);
    (driver, last)
}

/// The last entry before `id` that both logs hold.
fn before(driver: &Driver, id: LogId) -> LogId {
    let index = id.index.previous();
    LogId::new(driver.host.term_at(SHARD, index).expect("held"), index)
}

/// Goal: a caller that waits for an index does not take another entry at it for its own. Method:
/// the next leader commits its own entry at the place of the write.
#[test]
fn a_write_waits_for_its_term_and_index() {
    let (mut driver, own) = leader_with_a_write();
    let term = own.term.next();
    let runs = vec![entry(term, own.index.0)];
    let previous = before(&driver, own);
    driver.hear(2, term, Body::Append { previous, runs, commit: own.index });
    assert_eq!(driver.view().applied, own.index, "something is applied there");
    assert_eq!(driver.applied, [], "which is not the caller's");
    assert_eq!(driver.answers, [(Ticket(1), Answer::Overwritten)]);
}

/// Goal: a write that may still be committed is not reported as failed when leadership is lost.
/// Method: the next leader holds the entry and commits it: the caller gets its reply from the
/// applied entry.
#[test]
fn a_write_of_a_deposed_leader_may_still_happen() {
    let (mut driver, own) = leader_with_a_write();
    let term = own.term.next();
    driver.hear(2, term, Body::HeartbeatReply { round: 0 });
    assert_eq!(driver.answers, [], "nobody knows yet");
    driver.write(2);
    driver.turn();
    let refused = Answer::Refused(HostRefusal::NotLeader { leader: None });
    assert_eq!(driver.answers, [(Ticket(2), refused)], "that one entered no log");
    let (next, runs) = (own.index.next(), vec![entry(term, own.index.0 + 1)]);
    driver.hear(2, term, Body::Append { previous: own, runs, commit: next });
    assert_eq!(driver.applied, [Ticket(1)]);
    assert_eq!(driver.answers.len(), 1);
}

/// Goal: a snapshot answers the callers whose entries it may hold. Method: a leader is deposed and
/// gets a snapshot that reaches beyond its write. Whether it includes the write is not known here.
#[test]
fn an_install_ends_waits_with_an_unknown_outcome() {
    let (mut driver, own) = leader_with_a_write();
    let term = own.term.next();
    driver.hear(2, term, Body::Heartbeat { commit: Index(0), round: 0 });
    let base = LogId::new(term, Index(own.index.0 + 5));
    let install = |from, term, base| Event::Install {
        shard: SHARD,
        to: ReplicaId(1),
        from: ReplicaId(from),
        term,
        base,
        membership: group(),
        descriptor_version: 2,
    };
    driver.handle(install(3, own.term, LogId::new(own.term, base.index)));
    driver.turn();
    assert!(matches!(driver.installs[..], [Err(InstallError::Superseded { .. })]));
    assert_eq!(driver.answers, [], "that one was sent in an older term");

    driver.handle(install(2, term, base));
    driver.turn();
    assert_eq!(driver.installs[1..], [Ok(base)]);
    assert_eq!(driver.answers, [(Ticket(1), Answer::OutcomeUnknown)]);
    assert!(driver.view().applied < base.index, "its data is not in force yet");
    driver.handle(Event::Applied { shard: SHARD, replica: ReplicaId(1), index: base.index });
    driver.turn();
    assert_eq!((driver.view().applied, driver.view().waiting), (base.index, 0));
    driver.write(2);
    driver.turn();
    let stale = Answer::Refused(HostRefusal::StaleVersion { current: 2 });
    assert_eq!(driver.answers[1..], [(Ticket(2), stale)], "the descriptor came along");
}

/// Goal: a caller that was routed by another version of the descriptor is told so, whatever it
/// wants, and nothing is begun for it (RULE 11). Method: an older and a newer version than the one
/// in force.
#[test]
fn who_was_routed_by_another_version_is_refused() {
    let (mut driver, _) = leader_with_a_write();
    driver.sent.clear();
    let last = driver.view().last;
    for version in [0, 2] {
        let (ticket, descriptor_version) = (Ticket(10 + version), version);
        driver.handle(Event::Read { shard: SHARD, ticket, descriptor_version });
        let command = Bytes::from(KvCommand::Delete { key: Bytes::from("k") }.encode());
        let (ticket, session, progress) = (Ticket(20 + version), None, false);
        driver.handle(Event::Write {
            shard: SHARD,
            ticket,
            descriptor_version,
            session,
            command,
            progress,
        });
        driver.turn();
        let stale = Answer::Refused(HostRefusal::StaleVersion { current: 1 });
        let told = [(Ticket(10 + version), stale), (Ticket(20 + version), stale)];
        assert_eq!(std::mem::take(&mut driver.answers), told);
    }
    assert!(driver.sent.is_empty(), "no round of heartbeats is asked for: {:?}", driver.sent);
    assert_eq!((driver.view().last, driver.view().waiting), (last, 1));
}

/// Goal: when a replica ends, no caller keeps waiting, and each is told what is known. Method: a
/// write in the log, a read under way, a write and a read that the next turn would have taken.
#[test]
fn a_removal_answers_every_caller() {
    let (mut driver, _) = leader_with_a_write();
    driver.read(2);
    driver.turn();
    driver.write(3);
    driver.read(4);
    driver.host.remove(driver.now, SHARD);
    driver.turn();
    driver.answers.sort_by_key(|(ticket, _)| *ticket);
    let unconfirmed = Answer::NotConfirmed { leader: None };
    let told = [
        (Ticket(1), Answer::OutcomeUnknown),
        (Ticket(2), unconfirmed),
        (Ticket(3), Answer::Refused(HostRefusal::NoReplica)),
        (Ticket(4), unconfirmed),
    ];
    assert_eq!(driver.answers, told);
    driver.write(5);
    driver.turn();
    assert_eq!(driver.answers[4..], [(Ticket(5), Answer::Refused(HostRefusal::NoReplica))]);
    driver.hear(2, Term(9), Body::Heartbeat { commit: Index(0), round: 0 });
    assert!(driver.host.view(SHARD).is_none() && driver.sent.iter().all(|m| m.term < Term(9)));
    let to = NodeId(2);
    driver.handle(Event::TransferLeader { shard: SHARD, ticket: Ticket(6), to });
    driver.turn();
    assert_eq!(driver.answers[5..], [(Ticket(6), Answer::Refused(HostRefusal::NoReplica))]);
}

/// Goal: RULE 5. A replica that is given up in the middle of a turn leaves nothing in it: no
/// acknowledgement that waited for the disk, and no install that nobody would carry out. Method: a
/// follower's write becomes durable and a snapshot arrives, both in the turn of its removal; without
/// the removal, the same turn has both.
#[test]
fn a_replica_that_is_given_up_does_nothing_more() {
    let term = BASE.term.next();
    let install = || Event::Install {
        shard: SHARD,
        to: ReplicaId(1),
        from: ReplicaId(2),
        term,
        base: LogId::new(term, Index(9)),
        membership: group(),
        descriptor_version: 2,
    };
    for is_given_up in [false, true] {
        let mut driver = Driver::new(1, Monotonic(0));
        let runs = vec![entry(term, BASE.index.0 + 1)];
        driver.arrive(2, term, Body::Append { previous: BASE, runs, commit: BASE.index });
        let written = driver.host.take_turn(driver.now).write.expect("an entry and a term").0;
        driver.handle(Event::Persisted { turn: written });
        driver.handle(install());
        if is_given_up {
            driver.host.remove(driver.now, SHARD);
        }
        let turn = driver.host.take_turn(driver.now);
        let found = (turn.send.len(), turn.installs.len(), turn.roles.len());
        assert_eq!(found, if is_given_up { (0, 0, 0) } else { (1, 1, 0) });
        assert_eq!(turn.write.is_some(), !is_given_up);
    }
}
