//! Drills for rules that a world can't break: one kernel is put into exactly the situation.

use quorate_raft::{
    Body, Config, EntryKind, HardState, Install, Kernel, Member, Membership, Message, Ready,
    Restored, Role, Run, RunDraft, Write,
};
use quorate_types::{Index, LogId, Monotonic, Mutation, NodeId, ReplicaId, Term, WriteNumber};

use crate::world::data_store::SpaceId;
use crate::world::log_replica::LogReplica;

const OWN: ReplicaId = ReplicaId(1);
const PEER: ReplicaId = ReplicaId(2);
const BASE: LogId = LogId::new(Term(1), Index(1));
const WINDOW_MESSAGES_MAX: usize = 4;

fn member(replica: ReplicaId) -> Member {
    Member { replica, node: NodeId(replica.0) }
}

/// A replica of a group of three.
fn kernel(mutation: Mutation) -> Kernel {
    let mut config = Config::new(OWN, 7, 0);
    config.mutation = mutation;
    config.window_messages_max = WINDOW_MESSAGES_MAX;
    let restored = Restored {
        hard_state: HardState { term: Term(1), vote: None, committed: BASE.index },
        base: BASE,
        base_membership: Membership::of_voters([OWN, PEER, ReplicaId(3)].map(member)),
        terms: Vec::new(),
        memberships: Vec::new(),
        last: BASE,
        applied: BASE.index,
    };
    Kernel::new(config, restored, Monotonic(0))
}

fn hear(kernel: &mut Kernel, term: Term, body: Body) {
    let now = Monotonic::from_millis(5_000);
    kernel.handle_message(now, Message { from: PEER, to: OWN, term, body });
}

fn take(kernel: &mut Kernel) -> Ready {
    let ready = kernel.take_ready();
    if let Some(write) = &ready.write {
        kernel.handle_persisted(write.number);
    }
    ready
}

/// A leader whose follower answers nothing sends no more than its window.
pub(super) fn window_bounded(mutation: Mutation) -> Result<(), String> {
    let mut leader = kernel(mutation);
    leader.handle_timeout(Monotonic::from_millis(5_000));
    for pre in [true, false] {
        take(&mut leader);
        hear(&mut leader, Term(2), Body::VoteReply { pre, granted: true, leader_alive: false });
    }
    assert_eq!(leader.role().role, Role::Leader);
    take(&mut leader);
    let matched = leader.last().index;
    hear(&mut leader, Term(2), Body::Accepted { matched });
    take(&mut leader);
    let mut sent = 0;
    for _ in 0..3 * WINDOW_MESSAGES_MAX {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Command, &[b"x"]);
        let proposed = leader.propose(Monotonic::from_millis(5_000), draft);
        assert!(proposed.is_ok());
        let to_peer = |(_, message): &&(NodeId, Message)| {
            message.to == PEER && matches!(message.body, Body::Append { .. })
        };
        sent += take(&mut leader).send_now.iter().filter(to_peer).count();
    }
    let is_bounded = sent <= WINDOW_MESSAGES_MAX;
    is_bounded.then_some(()).ok_or(format!("{sent} appends are under way to a silent follower"))
}

/// A follower that installs a later leader's snapshot acknowledges nothing to its former leader. No
/// world can break this: a snapshot goes only to a replica that has answered its leader in that
/// term, and has made the term durable before.
pub(super) fn install_takes_term(mutation: Mutation) -> Result<(), String> {
    let mut follower = kernel(mutation);
    hear(&mut follower, Term(2), Body::Heartbeat { commit: Index(0), round: 0 });
    take(&mut follower);
    let (base, membership) = (LogId::new(Term(2), Index(9)), follower.membership().clone());
    let now = Monotonic::from_millis(5_000);
    let installed = follower.install(now, Term(3), base, membership);
    assert_eq!(installed, Ok(()));
    let ready = take(&mut follower);
    let all = ready.send_now.iter().chain(&ready.send_after_sync);
    match all.map(|(_, message)| message).find(|message| message.term < Term(3)) {
        Some(message) => Err(format!("after an install in term 3 it says {message:?}")),
        None => Ok(()),
    }
}

fn run(term: u64, first: u64, entries: u64) -> Run {
    let mut draft = RunDraft::new();
    (0..entries).for_each(|_| draft.push(EntryKind::Command, &[b"x"]));
    draft.seal(Term(term), Index(first))
}

fn write(number: u64, truncate_from: Option<u64>, run: Run) -> Write {
    let (number, truncate_from) = (WriteNumber(number), truncate_from.map(Index));
    Write { number, install: None, hard_state: None, truncate_from, runs: vec![run] }
}

/// A log that holds entries 2 to 5 of term 1 as one run, in the simulated log disk.
fn log(mutation: Mutation) -> LogReplica {
    let membership = Membership::of_voters([member(OWN)]);
    let mut log = LogReplica::new(OWN, BASE, membership, SpaceId(1));
    log.apply(&write(1, None, run(1, 2, 4)), None, mutation);
    log
}

fn ends_with(log: &LogReplica, expected: LogId) -> Result<(), String> {
    let last = log.stored().last;
    let is_right = last == expected && !log.stored().has_gap;
    is_right.then_some(()).ok_or(format!("the stored log ends with {last}, written was {expected}"))
}

/// A cut inside a run leaves nothing that a purge of what replaced it could bring back. No world cuts
/// inside a run: they are replicated and committed whole.
pub(super) fn cut_tail_is_gone(mutation: Mutation) -> Result<(), String> {
    let mut log = log(mutation);
    log.apply(&write(2, Some(4), run(2, 4, 1)), None, mutation);
    let last = LogId::new(Term(2), Index(4));
    ends_with(&log, last)?;
    log.purge(last, Membership::of_voters([member(OWN)]));
    ends_with(&log, last)
}

/// An install whose base the log holds keeps the runs beyond it. A world hardly gets there: a snapshot
/// goes to a follower whose log does not reach so far, as its leader knows it.
pub(super) fn install_keeps_runs(mutation: Mutation) -> Result<(), String> {
    let mut log = log(mutation);
    let (base, membership) = (LogId::new(Term(1), Index(3)), Membership::of_voters([member(OWN)]));
    let install = Some(Install { base, membership, keeps_log: true });
    let write = Write { install, ..write(2, None, run(1, 6, 1)) };
    log.apply(&write, Some(SpaceId(2)), mutation);
    ends_with(&log, LogId::new(Term(1), Index(6)))
}
