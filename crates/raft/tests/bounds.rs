//! Goal: what a kernel holds is bounded, and what it refuses did not happen. Method: one or two
//! kernels by hand, at each bound.

mod support;

use quorate_raft::{
    Body, Config, Membership, Message, Preference, ProposeError, ReadIndexError, Reader, Run,
    Windows,
};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, Term};
use support::{BASE, Disk, Site, commands, member};

fn site(voters: u64, change: impl Fn(&mut Config)) -> Site {
    let mut config = Config::new(ReplicaId(1), 7, 0);
    change(&mut config);
    let disk = Disk::new(Membership::of_voters((1..=voters).map(member)));
    Site::new(config, disk, BASE.index, Monotonic(0))
}

/// Elects the only voter, which then has nothing left to do.
fn elect(site: &mut Site) {
    site.elect();
    site.kernel.handle_applied(site.applied);
}

#[test]
fn proposals_are_refused_while_too_many_bytes_wait() {
    let mut site = site(1, |config| config.uncommitted_bytes_max = 100);
    elect(&mut site);
    let now = site.now;
    let large = site.kernel.propose(now, commands(&[&[0; 500]]));
    let large = large.expect("the first always enters");
    let (error, draft) = site.kernel.propose(now, commands(&[b"x"])).expect_err("full");
    assert!(matches!(error, ProposeError::Full { bytes_max: 100, .. }));
    assert_eq!(site.kernel.last(), large);
    drop(site.take_ready());
    site.persist();
    let next = site.kernel.propose(now, draft).map_err(|(error, _)| error);
    assert_eq!(next, Ok(LogId::new(large.term, large.index.next())), "the draft is unharmed");
}

/// Goal: the bound is reached to the byte, and what counts is told. Method: two equal drafts fill it, the
/// first as the run that it became.
#[test]
fn proposals_fill_their_bound_exactly() {
    let draft = || commands(&[b"x"]);
    let bytes = draft().seal(Term(1), Index(1)).len_bytes();
    let bytes_max = bytes + draft().len_bytes();
    let mut site = site(1, |config| config.uncommitted_bytes_max = bytes_max);
    elect(&mut site);
    for count in 0..=2 {
        assert_eq!(site.kernel.uncommitted_bytes(), count * bytes);
        assert_eq!(site.kernel.propose(site.now, draft()).is_ok(), count < 2);
    }
    drop(site.take_ready());
    site.persist();
    assert_eq!(site.kernel.uncommitted_bytes(), 0, "they are committed");
}

#[test]
fn reads_are_refused_while_too_many_wait() {
    let mut site = site(1, |config| config.reads_pending_max = 2);
    assert_eq!(site.kernel.read(Monotonic(0)), Err(ReadIndexError::NoLeader));
    elect(&mut site);
    let now = site.now;
    assert_eq!((site.kernel.read(now), site.kernel.read(now)), (Ok(0), Ok(1)));
    assert_eq!(site.kernel.read(now), Err(ReadIndexError::Full { pending: 2 }));
    assert_eq!(site.take_ready().reads.len(), 2);
    assert_eq!(site.kernel.read(now), Ok(2), "contexts go on");
}

#[test]
fn entries_are_handed_out_within_the_apply_bound() {
    let mut site = site(1, |config| config.apply_bytes_max = 1);
    elect(&mut site);
    let now = site.now;
    for _ in 0..2 {
        assert!(site.kernel.propose(now, commands(&[b"x"])).is_ok());
    }
    drop(site.take_ready());
    site.persist();
    let first = site.take_ready().committed.expect("one run always goes").range;
    assert_eq!(first, Index(3)..Index(4));
    assert_eq!(site.take_ready().committed, None, "it is not applied yet");
    site.kernel.handle_applied(Index(3));
    assert_eq!(site.take_ready().committed.expect("the next").range, Index(4)..Index(5));
}

/// Goal: a host knows what is handed out, from when it is read back until it is applied, and who waits for
/// nothing but its room. Method: room for nothing, then for all; a restart, after which all is read back.
#[test]
fn what_is_handed_out_counts_until_it_is_applied() {
    let mut site = site(1, |config| config.apply_bytes_max = 1_000);
    elect(&mut site);
    assert!(site.kernel.propose(site.now, commands(&[b"x"])).is_ok());
    drop(site.take_ready());
    site.persist();
    let state = |site: &Site| (site.kernel.apply_bytes(), site.kernel.awaits_apply_room());
    assert_eq!(state(&site), (0, false));
    let ready = site.kernel.take_ready_within(&mut Windows::new(0), 0);
    assert_eq!((ready.committed, state(&site)), (None, (0, true)));
    let committed = site.take_ready().committed.expect("there is room");
    let bytes = |runs: &[Run]| runs.iter().map(Run::len_bytes).sum::<usize>();
    assert_eq!(state(&site), (bytes(&committed.runs), false));
    site.kernel.handle_applied(site.applied);
    assert_eq!(state(&site), (0, false));

    site.restart(0, BASE.index);
    site.elect();
    assert_eq!(state(&site), (1_000, false), "as much as may come back");
    let runs = site.disk.read(&(Index(2)..Index(4)), 1_000);
    site.kernel.handle_fetched(Reader::Apply, runs.clone());
    assert_eq!(state(&site), (bytes(&runs), false));
    assert_eq!(site.take_ready().committed.expect("it is here").runs, runs);
    assert_eq!(state(&site), (bytes(&runs), false));
}

/// A candidate may have been admitted by entries that the voter has not got: it is answered once
/// its node is known from the connection.
#[test]
fn an_unknown_candidate_is_answered() {
    let mut site = site(3, |_| {});
    let last = LogId::new(Term(4), Index(9));
    let body = Body::VoteRequest { pre: false, last, transfer: None };
    let request = Message { from: ReplicaId(9), to: ReplicaId(1), term: Term(5), body };
    site.kernel.handle_message(Monotonic(0), request.clone());
    drop(site.take_ready());
    assert!(site.persist().held.is_empty(), "nobody knows where it lives");
    site.kernel.handle_address(ReplicaId(9), NodeId(90));
    site.kernel.handle_message(Monotonic(0), request);
    let ready = site.take_ready();
    let (node, reply) = &ready.send_after_sync[0];
    assert_eq!((*node, reply.term), (NodeId(90), Term(5)));
    assert!(matches!(reply.body, Body::VoteReply { pre: false, granted: true, .. }));
}

/// Goal: strangers are answered where they were heard last, and the newest sixteen are kept. Method:
/// pre-votes, which leave nothing behind; one stranger moves, and then there is one too many.
#[test]
fn the_newest_addresses_of_strangers_are_kept() {
    let mut site = site(3, |_| {});
    let hear = |site: &mut Site, id, node| {
        site.kernel.handle_address(ReplicaId(id), NodeId(node));
    };
    let answered_at = |site: &mut Site, id| {
        let last = LogId::new(Term(4), Index(9));
        let body = Body::VoteRequest { pre: true, last, transfer: None };
        let request = Message { from: ReplicaId(id), to: ReplicaId(1), term: Term(5), body };
        site.kernel.handle_message(Monotonic(0), request);
        site.take_ready().send_now.first().map(|(node, _)| node.0)
    };
    for id in 10..26 {
        hear(&mut site, id, id);
    }
    hear(&mut site, 11, 91);
    assert_eq!([10, 11, 25].map(|id| answered_at(&mut site, id)), [Some(10), Some(91), Some(25)]);
    hear(&mut site, 26, 26);
    let answers = [10, 11, 12, 26].map(|id| answered_at(&mut site, id));
    assert_eq!(answers, [None, Some(91), Some(12), Some(26)], "the oldest went");
}

/// The longest wait of a normal replica ends before the shortest of a reluctant one.
#[test]
fn a_reluctant_replica_waits_for_every_normal_one() {
    for seed in 0..100 {
        let wait = |preference| {
            let site = site(3, |config| (config.seed, config.preference) = (seed, preference));
            site.kernel.poll_timeout().since(Monotonic(0))
        };
        let timeout = Config::new(ReplicaId(1), 0, 0).election_timeout;
        assert!(wait(Preference::Normal) < timeout * 2);
        assert!(wait(Preference::Reluctant) >= timeout * 2);
    }
}
