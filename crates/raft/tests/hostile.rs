//! Goal: no message, however senseless, makes a kernel panic or break its contract. Method: random
//! messages with small and with extreme numbers, at kernels in every role. Most entries follow one
//! history, so that logs grow and commit; the others contradict it, committed or not. What single
//! forgeries must not move is in forged.rs.

mod support;

use proptest::prelude::*;
use quorate_raft::{Body, Config, EntryKind, Membership, Message, Run, RunDraft, TransferOf};
use quorate_types::{Index, LogId, Monotonic, ReplicaId, Term};
use support::{BASE, Disk, Site, member};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0u64..9, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => Just(u64::MAX / 2)]
}

fn log_id() -> impl Strategy<Value = LogId> {
    let any = (number(), number()).prop_map(|(term, index)| LogId::new(Term(term), Index(index)));
    let known = (1u64..9).prop_map(|index| LogId::new(term_of(index), Index(index)));
    prop_oneof![any, known]
}

/// Terms by which an entry runs ahead of the one history: mostly none.
fn deviation() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(0u64), 1 => 1u64..4]
}

/// The one history: two entries per term.
fn term_of(index: u64) -> Term {
    Term(1 + index / 2)
}

/// The same, as told by who deviates from it.
fn term_told(index: u64, deviation: u64) -> Term {
    Term(term_of(index).0 + deviation)
}

/// A run, contiguous with the others or not; at times with bytes for a membership that are none.
fn run() -> impl Strategy<Value = Run> {
    let kind = prop::sample::select(vec![0u8, 1, 1, 1, 1, 2, 3]);
    (2u64..12, deviation(), kind).prop_map(|(index, deviation, kind)| {
        let mut draft = RunDraft::new();
        match kind {
            0 => draft.push(EntryKind::Blank, &[]),
            1 => draft.push(EntryKind::Command, &[b"x"]),
            2 => draft.push(EntryKind::Membership, &[b"no membership"]),
            _ => {
                // Sound or not: some have an id twice, or one that is not above all others.
                let voters = [1, index % 4, index].map(member).to_vec();
                let membership = Membership { voters, ..Membership::default() };
                draft.push(EntryKind::Membership, &[&membership.encode()]);
            }
        }
        draft.seal(term_told(index, deviation), Index(index))
    })
}

fn contiguous_append() -> impl Strategy<Value = Body> {
    let deviations = (deviation(), deviation());
    (1u64..9, 0u64..5, number(), deviations).prop_map(
        |(previous, count, commit, (before, after))| {
            let run = |index| {
                let mut draft = RunDraft::new();
                draft.push(EntryKind::Command, &[b"x"]);
                draft.seal(term_told(index, after), Index(index))
            };
            Body::Append {
                previous: LogId::new(term_told(previous, before), Index(previous)),
                runs: (previous + 1..=previous + count).map(run).collect(),
                commit: Index(commit),
            }
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let transfer = (number(), number())
        .prop_map(|(leader, term)| TransferOf { leader: ReplicaId(leader), term: Term(term) });
    let runs = prop::collection::vec(run(), 0..4);
    prop_oneof![
        (any::<bool>(), log_id(), prop::option::of(transfer))
            .prop_map(|(pre, last, transfer)| Body::VoteRequest { pre, last, transfer }),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(pre, granted, leader_alive)| {
            Body::VoteReply { pre, granted, leader_alive }
        }),
        (log_id(), runs, number()).prop_map(|(previous, runs, commit)| Body::Append {
            previous,
            runs,
            commit: Index(commit)
        }),
        contiguous_append(),
        contiguous_append(),
        number().prop_map(|matched| Body::Accepted { matched: Index(matched) }),
        (log_id(), log_id()).prop_map(|(previous, hint)| Body::Rejected { previous, hint }),
        (number(), number())
            .prop_map(|(commit, round)| Body::Heartbeat { commit: Index(commit), round }),
        number().prop_map(|round| Body::HeartbeatReply { round }),
        number().prop_map(|context| Body::ReadIndex { context }),
        (number(), prop::option::of(number()))
            .prop_map(|(context, index)| Body::ReadIndexReply { context, index: index.map(Index) }),
        Just(Body::TimeoutNow),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (1u64..6, number(), body()).prop_map(|(from, term, body)| Message {
        from: ReplicaId(from),
        to: ReplicaId(1),
        term: Term(term),
        body,
    })
}

/// Does what a kernel wants; `Site` checks the contract on the way.
fn settle(site: &mut Site) {
    loop {
        let ready = site.take_ready();
        if ready.is_empty() && site.flights.is_empty() {
            return;
        }
        for fetch in &ready.fetches {
            site.serve(fetch);
        }
        if !site.flights.is_empty() {
            site.persist();
        }
        site.kernel.handle_applied(site.applied);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_message_breaks_a_kernel(
        steps in prop::collection::vec((message(), 0u64..100, any::<bool>()), 1..60),
        voters in 0u64..4,
    ) {
        let ids = if voters > 0 { 1..=voters } else { 2..=4 };
        let disk = Disk::new(Membership::of_voters(ids.map(member)));
        let mut site = Site::new(Config::new(ReplicaId(1), 7, 0), disk, BASE.index, Monotonic(0));
        for (message, dice, lazy) in steps {
            let now = site.now;
            site.kernel.handle_message(now, message);
            match dice {
                0..20 => {
                    site.now = site.kernel.poll_timeout();
                    site.kernel.handle_timeout(site.now);
                }
                20..25 => drop(site.kernel.read(now)),
                25..30 => drop(site.kernel.transfer_leader(now, ReplicaId(2))),
                30..35 => site.kernel.evict_below(Index(u64::MAX)),
                35..38 => site.kernel.step_down(now),
                38..50 => {
                    let in_force = site.kernel.membership().clone();
                    let mut target = in_force.clone();
                    match dice {
                        38..42 => drop(target.voters.pop()),
                        42..46 => target.learners.push(member(dice)),
                        _ => target.voters.append(&mut target.learners),
                    }
                    drop(site.kernel.change_membership(now, &in_force, &target));
                }
                _ => {}
            }
            if !lazy {
                settle(&mut site);
            }
        }
    }
}
