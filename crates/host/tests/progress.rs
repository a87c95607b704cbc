//! Goal: a write that asks for it learns its place in the log on entering the log, before its end,
//! and no other write does. Method: a cluster of one whose disk is instant.

use bytes::Bytes;
use quorate_host::{Answer, Event, Host, HostConfig, HostRefusal, ReplicaInit, Ticket, Turn};
use quorate_machine::KvCommand;
use quorate_raft::{HardState, Member, Membership, Restored};
use quorate_types::{
    Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
};

const SHARD: ShardId = ShardId(1);

fn host() -> Host {
    let (replica, node) = (ReplicaId(1), NodeId(1));
    let base = LogId::new(Term(1), Index(1));
    let restored = Restored {
        hard_state: HardState { term: base.term, vote: None, committed: base.index },
        base,
        base_membership: Membership::of_voters([Member { replica, node }]),
        terms: vec![],
        memberships: vec![],
        last: base,
        applied: base.index,
    };
    let mut host = Host::new(HostConfig::new(node, Incarnation(1), 7));
    let init = ReplicaInit { shard: SHARD, replica, descriptor_version: 1, restored };
    host.add(Monotonic(0), init);
    host
}

fn write(ticket: u64, progress: bool) -> Event {
    let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
    Event::Write {
        shard: SHARD,
        ticket: Ticket(ticket),
        descriptor_version: 1,
        session: None,
        command: Bytes::from(put.encode()),
        progress,
    }
}

/// Takes the next turn and lets its write and its entries succeed.
fn step(host: &mut Host, now: &mut Monotonic) -> Turn {
    *now = host.poll_timeout().unwrap_or(*now).max(*now);
    host.handle_timeouts(*now);
    let turn = host.take_turn(*now);
    if let Some((number, _)) = &turn.write {
        host.handle(*now, WallMillis(0), Event::Persisted { turn: *number });
    }
    for apply in &turn.applies {
        let index = apply.committed.range.end.previous();
        host.handle(
            *now,
            WallMillis(0),
            Event::Applied { shard: SHARD, replica: apply.replica, index },
        );
    }
    turn
}

#[test]
fn the_place_is_told_to_those_who_ask() {
    let (mut host, mut now) = (host(), Monotonic(0));
    host.handle(now, WallMillis(0), write(1, true));
    let refused = host.take_turn(now);
    assert!(refused.accepted.is_empty(), "a refused write has no place");
    let refusal = Answer::Refused(HostRefusal::NotLeader { leader: None });
    assert_eq!(refused.answers, [(Ticket(1), refusal)]);

    while !step(&mut host, &mut now).roles.iter().any(|role| role.role.serving) {}
    for ticket in 2..7 {
        host.handle(now, WallMillis(0), write(ticket, ticket % 2 == 0));
    }
    let mut turn = step(&mut host, &mut now);
    let accepted = std::mem::take(&mut turn.accepted);
    let told: Vec<Ticket> = accepted.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(told, [Ticket(2), Ticket(4), Ticket(6)]);
    while turn.applies.is_empty() {
        turn = step(&mut host, &mut now);
        assert!(turn.accepted.is_empty(), "a place is told once");
    }
    let apply = &turn.applies[0];
    assert_eq!(apply.tickets.len(), 5);
    for (ticket, id) in accepted {
        assert!(apply.tickets.contains(&(id.index, ticket)), "{ticket:?} is not at {id}");
        let run = apply.committed.runs.iter().find(|run| run.range().contains(&id.index));
        assert_eq!(run.expect("its place is applied").term(), id.term);
    }
}
