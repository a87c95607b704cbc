//! Goal: a log begins anew, or gives up its head, without a trace of what it was. Method: one kernel by
//! hand, at the moments that the model does not reach: before a write, in a campaign, in a fetch.

mod support;

use quorate_raft::{Body, Config, Fetch, InstallError, Membership, Message, Reader, Role, Run};
use quorate_types::{Index, LogId, Monotonic, ReplicaId, Term};
use support::{BASE, Disk, Site, commands, member};

/// The term in which all snapshots here were sent.
const SENT_IN: Term = Term(4);

fn site(voters: u64) -> Site {
    let disk = Disk::new(Membership::of_voters((1..=voters).map(member)));
    Site::new(Config::new(ReplicaId(1), 7, 0), disk, BASE.index, Monotonic(0))
}

/// A second snapshot comes before the first is written. What the first dropped is still on the disk,
/// and the log in memory holds the second's base: the disk must drop everything all the same.
#[test]
fn a_second_install_keeps_nothing_that_the_first_dropped() {
    let mut site = site(3);
    let membership = Membership::of_voters((1..=3).map(member));
    let id = |index| LogId::new(Term(4), Index(index));
    let install = |site: &mut Site, index| {
        site.kernel.install(site.now, SENT_IN, id(index), membership.clone())
    };
    assert_eq!(install(&mut site, 9), Ok(()));
    let runs = vec![commands(&[b"x", b"y"]).seal(Term(4), Index(10))];
    let body = Body::Append { previous: id(9), runs, commit: Index(9) };
    let append = Message { from: ReplicaId(2), to: ReplicaId(1), term: Term(4), body };
    site.kernel.handle_message(Monotonic(0), append);
    assert_eq!(install(&mut site, 10), Ok(()));
    assert!(matches!(install(&mut site, 10), Err(InstallError::Obsolete { .. })));
    let ready = site.kernel.take_ready();
    let written = ready.write.expect("goes with the install");
    let install = written.install.expect("it was asked for");
    assert_eq!((install.base, install.keeps_log), (id(10), false));
    assert_eq!(written.runs.iter().map(Run::range).collect::<Vec<_>>(), [Index(11)..Index(12)]);
    assert!(written.hard_state.is_some_and(|state| state.committed == Index(10)));
}

/// A snapshot that contradicts what this replica is changes nothing.
#[test]
fn a_leader_installs_nothing() {
    let mut site = site(1);
    let base = LogId::new(Term(4), Index(9));
    let nobody = site.kernel.install(Monotonic(0), SENT_IN, base, Membership::default());
    assert!(matches!(nobody, Err(InstallError::Unsound { .. })));
    site.elect();
    let membership = site.kernel.membership().clone();
    assert_eq!(
        site.kernel.install(site.now, SENT_IN, base, membership),
        Err(InstallError::Leading)
    );
}

/// The candidate asked for votes with another log, and by another membership.
#[test]
fn an_install_ends_a_campaign() {
    let mut site = site(3);
    let membership = Membership::of_voters((1..=3).map(member));
    site.now = site.kernel.poll_timeout();
    site.kernel.handle_timeout(site.now);
    assert_eq!(site.kernel.role().role, Role::PreCandidate);
    let base = LogId::new(Term(1), Index(9));
    assert_eq!(site.kernel.install(site.now, SENT_IN, base, membership), Ok(()));
    assert_eq!(site.kernel.role().role, Role::Follower);
}

/// Entries are being read back to be applied when a snapshot makes them superfluous.
#[test]
fn what_was_read_back_before_an_install_is_dropped() {
    let mut site = site(3);
    let runs = vec![commands(&[b"x", b"y"]).seal(Term(2), Index(2))];
    let body = Body::Append { previous: BASE, runs: runs.clone(), commit: Index(3) };
    let append = Message { from: ReplicaId(2), to: ReplicaId(1), term: Term(2), body };
    site.kernel.handle_message(Monotonic(0), append);
    drop(site.take_ready());
    site.persist();
    // A start: what is committed has to be read back.
    site.restart(0, BASE.index);
    let heartbeat = Body::Heartbeat { commit: Index(3), round: 0 };
    let told = Message { from: ReplicaId(2), to: ReplicaId(1), term: Term(2), body: heartbeat };
    site.kernel.handle_message(Monotonic(0), told);
    let fetches: Vec<Fetch> = site.take_ready().fetches;
    assert_eq!(fetches.len(), 1);
    let membership = Membership::of_voters((1..=3).map(member));
    assert_eq!(site.install(Term(2), LogId::new(Term(2), Index(9)), membership), Ok(()));
    site.kernel.handle_fetched(Reader::Apply, runs);
    assert_eq!(site.take_ready().committed, None);
}

/// Data that is not applied yet has no other place than the log.
#[test]
fn a_purge_stops_at_what_is_applied() {
    let membership = Membership { learners: vec![member(2)], ..Membership::of_voters([member(1)]) };
    let config = Config::new(ReplicaId(1), 7, 0);
    let mut site = Site::new(config, Disk::new(membership), BASE.index, Monotonic(0));
    site.elect();
    let last = site.kernel.last();
    let body = Body::Accepted { matched: last.index };
    let accepted = Message { from: ReplicaId(2), to: ReplicaId(1), term: last.term, body };
    site.kernel.handle_message(site.now, accepted);
    assert_eq!(site.applied, last.index, "handed out");
    assert_eq!(site.kernel.purge(last.index, Index(0)), BASE, "and not applied");
    site.kernel.handle_applied(last.index);
    assert_eq!(site.kernel.purge(Index(u64::MAX), Index(0)), last);
    assert_eq!(site.kernel.log_needed_from(Index(0)), last.index.next());
}
