//! Drills for rules that a world can't break: one kernel is put into exactly the situation.

use quorate_raft::{
    Body, Config, EntryKind, HardState, Kernel, Member, Membership, Message, Ready, Restored, Role,
    RunDraft,
};
use quorate_types::{Index, LogId, Monotonic, Mutation, NodeId, ReplicaId, Term};

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
