//! A hung disk. Goal: a leader whose write does not become durable gives up its leadership, so that a
//! replica with a better disk can take it, and leads again once the disk is back. Method: a group of
//! one in virtual time, whose disk finishes writes when the test says so.

use bytes::Bytes;
use quorate_host::{
    Answer, Event, Host, HostConfig, KvCommand, Refusal, ReplicaInit, Ticket, Turn,
};
use quorate_raft::{HardState, Member, Membership, Restored, Role};
use quorate_types::{
    Duration, Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
    limits,
};

const SHARD: ShardId = ShardId(1);

struct Driver {
    host: Host,
    now: Monotonic,
    role: Role,
    /// Turns that the disk has not finished.
    unfinished: Vec<u64>,
    answers: Vec<(Ticket, Answer)>,
    applied: Vec<Ticket>,
}

impl Driver {
    fn new() -> Driver {
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
        Driver {
            host,
            now: Monotonic(0),
            role: Role::Follower,
            unfinished: Vec::new(),
            answers: Vec::new(),
            applied: Vec::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        self.host.handle(self.now, WallMillis(0), event);
    }

    fn turn(&mut self) {
        self.host.handle_timeouts(self.now);
        let Turn { write, applies, answers, roles, .. } = self.host.take_turn(self.now);
        self.answers.extend(answers);
        self.unfinished.extend(write.map(|(turn, _)| turn));
        for role in roles {
            self.role = role.role.role;
        }
        for apply in applies {
            self.applied.extend(apply.tickets.iter().map(|(_, ticket)| *ticket));
            let index = apply.committed.range.end.previous();
            self.handle(Event::Applied { shard: SHARD, index });
        }
    }

    /// Goes to the next timer, and lets the disk finish everything.
    fn step(&mut self) {
        self.now = self.host.poll_timeout().unwrap_or(self.now).max(self.now);
        self.turn();
        self.finish_writes();
    }

    fn finish_writes(&mut self) {
        while let Some(turn) = self.unfinished.pop() {
            self.handle(Event::Persisted { turn });
            self.unfinished.clear();
            self.turn();
        }
    }

    /// Lets time pass, with a look now and then, as heartbeats bring it about.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + limits::HEARTBEAT).min(end);
            self.turn();
        }
    }

    fn lead(&mut self) {
        for _ in 0..1_000 {
            if self.role == Role::Leader {
                return;
            }
            self.step();
        }
        panic!("a group of one leads itself");
    }

    fn write(&mut self, ticket: u64) {
        let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
        self.handle(Event::Write {
            shard: SHARD,
            ticket: Ticket(ticket),
            descriptor_version: 1,
            session: None,
            progress: false,
            command: Bytes::from(put.encode()),
        });
    }
}

#[test]
fn a_leader_on_a_hung_disk_gives_up_and_comes_back() {
    let mut driver = Driver::new();
    driver.lead();
    driver.write(1);
    driver.turn();
    assert_eq!(driver.unfinished.len(), 1, "the write is under way");
    let taken = driver.now;

    driver.pass(limits::DISK_STALL - Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Leader, false), "slow is not hung");

    let hung = taken + limits::DISK_STALL;
    assert!(driver.host.poll_timeout().is_some_and(|at| at <= hung), "it asks to be woken");
    driver.pass(Duration::from_millis(1));
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Follower, true));
    driver.write(2);
    driver.turn();
    let refused = Answer::Refused(Refusal::NotLeader { leader: None });
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

/// Goal: a slow disk with a long queue is not taken for a hung one, nor is one that could not be
/// heard because the process itself stood still. Method: each write is finished two seconds after it
/// was taken, with others behind it; then the clock jumps.
#[test]
fn a_slow_disk_and_a_stopped_process_are_no_stall() {
    let mut driver = Driver::new();
    driver.lead();
    for ticket in 1..=8 {
        driver.write(ticket);
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
    driver.write(9);
    driver.turn();
    driver.now = driver.now + Duration::from_secs(60);
    driver.turn();
    assert_eq!((driver.role, driver.host.is_stalled()), (Role::Leader, false), "it slept itself");
}
