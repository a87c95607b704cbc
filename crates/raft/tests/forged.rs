//! Goal: what no honest replica says neither stops a kernel nor moves it. Method: one forged message
//! each, at the point where it would hurt. At the end, by the same hand: what comes too late or too early.

use quorate_raft::{
    Body, Config, EntryKind, HardState, Kernel, Member, Membership, Message, Reader, Ready,
    Restored, Role, Run, RunDraft, SnapshotOutcome,
};
use quorate_types::{Duration, Index, LogId, Monotonic, NodeId, ReplicaId, Term};

const BASE: LogId = LogId::new(Term(1), Index(1));

fn kernel() -> Kernel {
    let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
    let restored = Restored {
        hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
        base: BASE,
        base_membership: Membership::of_voters((1..=3).map(member)),
        terms: Vec::new(),
        memberships: Vec::new(),
        last: BASE,
        applied: BASE.index,
    };
    Kernel::new(Config::new(ReplicaId(1), 7, 0), restored, Monotonic(0))
}

fn message(from: u64, term: u64, body: Body) -> Message {
    Message { from: ReplicaId(from), to: ReplicaId(1), term: Term(term), body }
}

fn vote(pre: bool) -> Body {
    Body::VoteReply { pre, granted: true, leader_alive: false }
}

fn blank(term: u64, index: u64) -> Run {
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Blank, &[]);
    draft.seal(Term(term), Index(index))
}

/// Does what is asked, with an instant disk; gives what was asked.
fn settle(kernel: &mut Kernel) -> Vec<Ready> {
    let step = |kernel: &mut Kernel| {
        let ready = kernel.take_ready();
        if let Some(write) = &ready.write {
            kernel.handle_persisted(write.number);
        }
        if let Some(committed) = &ready.committed {
            kernel.handle_applied(committed.range.end.previous());
        }
        ready
    };
    (0..10).map(|_| step(kernel)).collect()
}

/// A candidate of term 2 whose own vote is on its way to the disk.
fn candidate(kernel: &mut Kernel) -> Monotonic {
    let now = kernel.poll_timeout();
    kernel.handle_timeout(now);
    let _pre_votes = kernel.take_ready();
    kernel.handle_message(now, message(2, 2, vote(true)));
    now
}

fn leader(kernel: &mut Kernel) -> Monotonic {
    let now = candidate(kernel);
    settle(kernel);
    kernel.handle_message(now, message(2, 2, vote(false)));
    settle(kernel);
    assert_eq!(kernel.role().role, Role::Leader);
    now
}

#[test]
fn votes_before_the_request_left_make_no_leader() {
    let mut kernel = kernel();
    let now = candidate(&mut kernel);
    for from in [2, 3] {
        kernel.handle_message(now, message(from, 2, vote(false)));
    }
    assert_eq!(kernel.role().role, Role::Candidate);
}

#[test]
fn an_acknowledgement_below_the_base_is_ignored() {
    let mut kernel = kernel();
    let mut now = leader(&mut kernel);
    kernel.handle_message(now, message(2, 2, Body::Accepted { matched: Index(0) }));
    let asked: usize = settle(&mut kernel).iter().map(|ready| ready.fetches.len()).sum();
    assert_eq!(asked, 0, "nothing lies below the base");
    // The forger falls silent and comes back: what it is sent then must lie in the log.
    for step in 0..60 {
        now = now + Duration::from_millis(100);
        kernel.handle_timeout(now);
        let reply = || Body::HeartbeatReply { round: 0 };
        kernel.handle_message(now, message(3, 2, reply()));
        if step > 30 {
            kernel.handle_message(now, message(2, 2, reply()));
        }
        settle(&mut kernel);
    }
    assert_eq!(kernel.role().role, Role::Leader);
}

#[test]
fn an_acknowledgement_beyond_the_log_is_ignored() {
    let mut kernel = kernel();
    let now = leader(&mut kernel);
    let last = kernel.last().index;
    kernel.handle_message(now, message(2, 2, Body::Accepted { matched: last.next() }));
    settle(&mut kernel);
    let known = (kernel.commit(), kernel.acknowledged());
    assert_eq!(known, (BASE.index, Index(0)), "nobody has the entry for sure but the leader");
    kernel.handle_message(now, message(2, 2, Body::Accepted { matched: last }));
    assert_eq!((kernel.commit(), kernel.acknowledged()), (last, last));
}

#[test]
fn an_append_against_committed_entries_is_dropped() {
    let mut kernel = kernel();
    let append =
        |previous, run, commit| Body::Append { previous, runs: vec![run], commit: Index(commit) };
    kernel.handle_message(Monotonic(1), message(2, 5, append(BASE, blank(5, 2), 2)));
    settle(&mut kernel);
    assert_eq!((kernel.last(), kernel.commit()), (LogId::new(Term(5), Index(2)), Index(2)));
    // Replaces the committed entry.
    kernel.handle_message(Monotonic(2), message(3, 6, append(BASE, blank(6, 2), 2)));
    // Follows another entry than the committed one, with a term that would fall.
    let other = LogId::new(Term(2), Index(2));
    kernel.handle_message(Monotonic(3), message(3, 6, append(other, blank(3, 3), 3)));
    settle(&mut kernel);
    assert_eq!((kernel.last(), kernel.commit()), (LogId::new(Term(5), Index(2)), Index(2)));
    // An honest leader goes on.
    let held = LogId::new(Term(5), Index(2));
    kernel.handle_message(Monotonic(4), message(3, 6, append(held, blank(6, 3), 3)));
    settle(&mut kernel);
    assert_eq!((kernel.last(), kernel.commit()), (LogId::new(Term(6), Index(3)), Index(3)));
}

/// One end is enough, the first or the last: what is committed here has two terms, what comes has one.
#[test]
fn a_run_with_one_end_against_committed_entries_is_dropped() {
    let mut kernel = kernel();
    let append = |runs| Body::Append { previous: BASE, runs, commit: Index(3) };
    kernel.handle_message(Monotonic(1), message(2, 3, append(vec![blank(2, 2), blank(3, 3)])));
    settle(&mut kernel);
    assert_eq!(kernel.commit(), Index(3));
    for term in [2, 3] {
        let mut draft = RunDraft::new();
        (0..2).for_each(|_| draft.push(EntryKind::Blank, &[]));
        let run = draft.seal(Term(term), Index(2));
        kernel.handle_message(Monotonic(2), message(2, 3, append(vec![run])));
        assert!(kernel.take_ready().is_empty(), "of term {term}: it is not acknowledged");
    }
}

#[test]
fn an_append_that_is_no_log_is_dropped() {
    let forgeries = [
        ("a gap", BASE, vec![blank(2, 3)]),
        ("a term that falls", BASE, vec![blank(3, 2), blank(2, 3)]),
        ("an entry of a term ahead of the leader's", BASE, vec![blank(6, 2)]),
        ("one before it", LogId::new(Term(6), Index(1)), vec![blank(6, 2)]),
    ];
    for (what, previous, runs) in forgeries {
        let mut kernel = kernel();
        let body = Body::Append { previous, runs, commit: BASE.index };
        kernel.handle_message(Monotonic(1), message(2, 5, body));
        let role = kernel.role();
        assert_eq!((kernel.last(), role.term, role.leader), (BASE, BASE.term, None), "{what}");
    }
}

#[test]
fn a_jump_to_the_end_of_terms_is_ignored() {
    let mut kernel = kernel();
    let request = || Body::VoteRequest { pre: false, last: BASE, transfer: None };
    let furthest = BASE.term.0 + (1 << 32);
    for term in [u64::MAX, u64::MAX / 2, furthest + 1] {
        kernel.handle_message(Monotonic(1), message(2, term, request()));
        settle(&mut kernel);
        assert_eq!(kernel.role().term, BASE.term, "moved by {term}");
    }
    kernel.handle_message(Monotonic(1), message(2, furthest, request()));
    assert_eq!(kernel.role().term, Term(furthest));
}

/// A voter that is counted twice is a majority of its own.
#[test]
fn a_membership_that_no_group_may_have_is_dropped() {
    let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
    let sound = Membership::of_voters([1, 2, 4].map(member));
    let doubled = Membership { voters: [1, 2, 2].map(member).to_vec(), ..Membership::default() };
    for (membership, is_taken) in [(doubled, false), (Membership::default(), false), (sound, true)]
    {
        let mut kernel = kernel();
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Membership, &[&membership.encode()]);
        let runs = vec![draft.seal(Term(2), Index(2))];
        let body = Body::Append { previous: BASE, runs, commit: BASE.index };
        kernel.handle_message(Monotonic(1), message(2, 2, body));
        assert_eq!(*kernel.membership() == membership, is_taken);
        assert_eq!(kernel.last().index == Index(2), is_taken);
    }
}

/// Not a forgery, but a log that lost what a follower lacks: a snapshot is asked for once, and again
/// only after one has failed, at a growing distance.
#[test]
fn a_range_that_is_gone_is_replaced_by_a_snapshot() {
    let mut kernel = kernel();
    let mut now = leader(&mut kernel);
    let opening = kernel.last();
    // Replica 3 makes the quorum; replica 2 lacks what then leaves the memory.
    kernel.handle_message(now, message(3, 2, Body::Accepted { matched: opening.index }));
    settle(&mut kernel);
    assert_eq!(kernel.commit(), opening.index);
    kernel.evict_below(opening.index.next());
    let mut beats_before = 0;
    for failures in 0..3 {
        kernel.handle_message(now, message(2, 2, Body::Accepted { matched: BASE.index }));
        let fetches: Vec<_> = (0..100).flat_map(|_| fetch_nothing(&mut kernel)).collect();
        let expected = [Asked::Fetch(ReplicaId(2)), Asked::Snapshot(ReplicaId(2), opening.index)];
        assert_eq!(fetches, expected, "nothing is asked for again at once");
        kernel.handle_snapshot_report(ReplicaId(2), SnapshotOutcome::Failed);
        let mut beats = 0;
        loop {
            now = kernel.poll_timeout();
            kernel.handle_timeout(now);
            beats += 1;
            kernel.handle_message(now, message(3, 2, Body::HeartbeatReply { round: 0 }));
            assert!(!is_probed(&kernel.take_ready()), "no answer, no probe");
            kernel.handle_message(now, message(2, 2, Body::HeartbeatReply { round: 0 }));
            if is_probed(&kernel.take_ready()) {
                break;
            }
        }
        assert!(beats > beats_before, "{beats} beats after {failures} failures");
        beats_before = beats;
    }
}

/// Not a message at all, but a timer that fires early, or late as on a busy machine.
#[test]
fn a_leader_beats_once_it_is_time() {
    let mut kernel = kernel();
    leader(&mut kernel);
    let due = kernel.poll_timeout();
    let mut beats = |now| {
        kernel.handle_timeout(now);
        let is_beat = |body: &Body| matches!(body, Body::Heartbeat { .. });
        let sent = kernel.take_ready().send_now;
        sent.iter().filter(|(_, message)| is_beat(&message.body)).count()
    };
    assert_eq!(beats(Monotonic(due.0 - 1)), 0);
    assert_eq!(beats(due + Duration::from_millis(50)), 2);
}

/// Not a forgery either, but an acknowledgement that overtakes what is read back, or found to be gone.
#[test]
fn what_comes_back_for_who_has_it_meanwhile_is_dropped() {
    for runs in [vec![], vec![blank(2, 2)]] {
        let mut kernel = kernel();
        let now = leader(&mut kernel);
        let opening = kernel.last().index;
        kernel.handle_message(now, message(3, 2, Body::Accepted { matched: opening }));
        settle(&mut kernel);
        kernel.evict_below(opening.next());
        kernel.handle_message(now, message(2, 2, Body::Accepted { matched: BASE.index }));
        let fetches = kernel.take_ready().fetches;
        assert_eq!(fetches.len(), 1);
        kernel.handle_message(now, message(2, 2, Body::Accepted { matched: opening }));
        kernel.handle_fetched(fetches[0].reader, runs);
        let ready = kernel.take_ready();
        assert!(ready.snapshots.is_empty() && !is_probed(&ready), "{ready:?}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Fetch(ReplicaId),
    Snapshot(ReplicaId, Index),
}

/// Answers every fetch with nothing; gives what was asked for.
fn fetch_nothing(kernel: &mut Kernel) -> Vec<Asked> {
    let ready = kernel.take_ready();
    let snapshots =
        ready.snapshots.iter().map(|request| Asked::Snapshot(request.to, request.at_least));
    let mut asked: Vec<Asked> = snapshots.collect();
    for fetch in ready.fetches {
        kernel.handle_fetched(fetch.reader, Vec::new());
        let Reader::Follower(replica) = fetch.reader else { panic!("nothing to apply") };
        asked.push(Asked::Fetch(replica));
    }
    asked
}

/// True if replica 2 is sent an append.
fn is_probed(ready: &Ready) -> bool {
    let is_append = |message: &Message| matches!(message.body, Body::Append { .. });
    ready.send_now.iter().any(|(_, message)| message.to == ReplicaId(2) && is_append(message))
}

/// A leader's append may begin with what is held and conflict further behind; an honest one seldom
/// does, since it asks first where the logs match.
#[test]
fn a_conflict_in_the_middle_of_an_append_is_cut_there() {
    let mut kernel = kernel();
    let append = |runs| Body::Append { previous: BASE, runs, commit: Index(1) };
    let held = vec![blank(2, 2), blank(3, 3), blank(3, 4), blank(3, 5)];
    kernel.handle_message(Monotonic(1), message(2, 3, append(held)));
    settle(&mut kernel);
    let other = vec![blank(2, 2), blank(3, 3), blank(4, 4)];
    kernel.handle_message(Monotonic(2), message(3, 4, append(other)));
    let ready = kernel.take_ready();
    let write = ready.write.expect("it conflicts");
    assert_eq!(write.truncate_from, Some(Index(4)), "what is equal stays");
    assert_eq!(kernel.last(), LogId::new(Term(4), Index(4)), "the rest of the old log is gone");
    assert_eq!(kernel.term_at(Index(3)), Some(Term(3)));
}
