//! A replica whose log has lost what it acknowledged: its leader tells it of a commit that the
//! replica does not know.

use bytes::Bytes;
use quorate_host::{Answer, Event, HostRefusal, Ticket};
use quorate_machine::KvCommand;
use quorate_raft::Body;
use quorate_types::{Index, Monotonic, Term};

use crate::driver::{BASE, Driver, SHARD};

/// Goal: RULE 5. A replica found to have lost something sends nothing more, not even what was
/// decided before that and waits for its sync or leaves in the same turn; callers are answered, and
/// the loss is reported once. Method: a vote request and the heartbeat that shows the loss arrive
/// in one turn; then everything that might make a replica send.
#[test]
fn a_replica_that_lost_what_it_acknowledged_falls_silent() {
    let mut driver = Driver::new(2, Monotonic(0));
    driver.hear(1, Term(2), Body::Heartbeat { commit: Index(0), round: 0 });
    let ticket = Ticket(1);
    driver.handle(Event::Read { shard: SHARD, ticket, descriptor_version: 1 });
    driver.turn();
    driver.sent.clear();
    driver.control.clear();

    driver.arrive(1, Term(2), Body::Append { previous: BASE, runs: vec![], commit: Index(1) });
    driver.arrive(1, Term(2), Body::Heartbeat { commit: Index(9), round: 1 });
    driver.turn();
    let loss = driver.losses.pop().expect("told");
    assert_eq!((loss.shard, loss.loss.acknowledged, loss.loss.last), (SHARD, Index(9), BASE));
    assert!(driver.host.view(SHARD).is_none(), "it is given up");
    assert_eq!(driver.answers.pop(), Some((ticket, Answer::NotConfirmed { leader: None })));

    let request = |pre| Body::VoteRequest { pre, last: BASE, transfer: None };
    for pre in [true, false] {
        driver.hear(3, Term(3), request(pre));
    }
    driver.hear(1, Term(2), Body::Heartbeat { commit: Index(9), round: 2 });
    driver.pass(quorate_types::limits::ELECTION_TIMEOUT * 5);
    let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
    let command = Bytes::from(put.encode());
    let (ticket, descriptor_version) = (Ticket(2), 1);
    let (session, progress) = (None, false);
    let write =
        Event::Write { shard: SHARD, ticket, descriptor_version, session, command, progress };
    driver.handle(write);
    driver.turn();
    assert_eq!(driver.answers, [(Ticket(2), Answer::Refused(HostRefusal::NoReplica))]);
    assert!(driver.sent.is_empty() && driver.control.is_empty(), "{:?}", driver.sent);
    assert!(driver.losses.is_empty(), "told once");
}
