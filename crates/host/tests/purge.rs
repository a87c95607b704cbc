//! Goal: a purge waits for a follower that is alive and slow, but only from the index on that the
//! driver keeps entries from; one that was passed gets a snapshot. Method: the leader of three; one
//! peer acknowledges everything, the other answers heartbeats only.

use bytes::Bytes;
use quorate_host::{Event, Host, HostConfig, ReplicaInit, ShardPurge, ShardSnapshot, Ticket, Turn};
use quorate_machine::KvCommand;
use quorate_raft::{Body, HardState, Member, Membership, Message, Restored, Run};
use quorate_types::{
    Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis, limits,
};

const SHARD: ShardId = ShardId(1);
const BASE: LogId = LogId::new(Term(1), Index(1));
const SLOW: u64 = 3;

struct Leader {
    host: Host,
    now: Monotonic,
    /// The slow follower takes entries too.
    is_slow_healed: bool,
    /// The last entry of the slow follower's log.
    slow_holds: LogId,
    applied: Index,
    is_serving: bool,
    purges: Vec<ShardPurge>,
    snapshots: Vec<ShardSnapshot>,
}

impl Leader {
    fn new() -> Leader {
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let restored = Restored {
            hard_state: HardState { term: BASE.term, vote: None, committed: BASE.index },
            base: BASE,
            base_membership: Membership::of_voters((1..=3).map(member)),
            terms: vec![],
            memberships: vec![],
            last: BASE,
            applied: BASE.index,
        };
        let mut config = HostConfig::new(NodeId(1), Incarnation(1), 7);
        config.sends_snapshots = true;
        let (replica, descriptor_version) = (ReplicaId(1), 1);
        let mut host = Host::new(config);
        host.add(Monotonic(0), ReplicaInit { shard: SHARD, replica, descriptor_version, restored });
        let mut leader = Leader {
            host,
            now: Monotonic(0),
            is_slow_healed: true,
            slow_holds: BASE,
            applied: BASE.index,
            is_serving: false,
            purges: Vec::new(),
            snapshots: Vec::new(),
        };
        leader.settle();
        for _ in 0..1_000 {
            if !leader.is_serving {
                leader.pass_to_timer();
            }
        }
        assert!(leader.is_serving, "nobody else campaigns");
        leader
    }

    fn handle(&mut self, event: Event) {
        self.host.handle(self.now, WallMillis(0), event);
        self.settle();
    }

    fn pass_to_timer(&mut self) {
        self.now = self.host.poll_timeout().expect("timers run").max(self.now);
        self.host.handle_timeouts(self.now);
        self.settle();
    }

    /// Carries turns out until nothing is left to do: the disk, the state machine and the peers are
    /// instant.
    fn settle(&mut self) {
        loop {
            let turn = self.host.take_turn(self.now);
            if turn.is_empty() {
                return;
            }
            self.carry_out(turn);
        }
    }

    fn carry_out(&mut self, turn: Turn) {
        let (now, wall) = (self.now, WallMillis(0));
        self.is_serving |= turn.roles.iter().any(|role| role.role.serving);
        self.purges.extend(turn.purges);
        self.snapshots.extend(turn.snapshots);
        if let Some((turn, _)) = turn.write {
            self.host.handle(now, wall, Event::Persisted { turn });
        }
        for apply in turn.applies {
            self.applied = apply.committed.range.end.previous();
            let (replica, index) = (apply.replica, self.applied);
            self.host.handle(now, wall, Event::Applied { shard: SHARD, replica, index });
        }
        for (node, messages) in turn.send {
            for (shard, message) in messages {
                let Some(body) = self.answer(node, message.body) else { continue };
                let (from, to) = (ReplicaId(node.0), ReplicaId(1));
                let message = Message { from, to, term: message.term, body };
                self.host.handle(now, wall, Event::Message { from: node, shard, message });
            }
        }
    }

    fn answer(&mut self, node: NodeId, body: Body) -> Option<Body> {
        let is_slow = node == NodeId(SLOW);
        let (granted, leader_alive) = (true, false);
        Some(match body {
            Body::VoteRequest { pre, .. } => Body::VoteReply { pre, granted, leader_alive },
            Body::Append { .. } if is_slow && !self.is_slow_healed => return None,
            Body::Append { previous, .. } if is_slow && self.slow_holds.index < previous.index => {
                Body::Rejected { previous, hint: self.slow_holds }
            }
            Body::Append { previous, runs, .. } => {
                let last = runs.last().map_or(previous, Run::last_id);
                if is_slow {
                    self.slow_holds = last;
                }
                Body::Accepted { matched: last.index }
            }
            Body::Heartbeat { round, .. } => Body::HeartbeatReply { round },
            _ => return None,
        })
    }

    fn write(&mut self, ticket: u64) {
        let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
        self.handle(Event::Write {
            shard: SHARD,
            ticket: Ticket(ticket),
            descriptor_version: 1,
            session: None,
            command: Bytes::from(put.encode()),
            progress: false,
        });
    }

    /// The base that a purge gives the log, if it moves.
    fn purge(&mut self, kept_from: Index) -> Option<LogId> {
        let (shard, replica, to) = (SHARD, ReplicaId(1), self.applied);
        self.handle(Event::Purge { shard, replica, to, kept_from });
        let purge = self.purges.pop();
        assert!(self.purges.is_empty());
        purge.map(|purge| purge.base)
    }
}

#[test]
fn a_purge_waits_for_a_live_slow_follower_within_the_bound_only() {
    let mut leader = Leader::new();
    leader.write(1);
    let everywhere = leader.applied;
    assert_eq!(leader.purge(Index(0)).map(|base| base.index), Some(everywhere));
    leader.is_slow_healed = false;
    for ticket in 2..10 {
        leader.write(ticket);
    }
    // It stays alive: its heartbeats are answered for much longer than the silent are waited for.
    let began = leader.now;
    while leader.now.since(began) < 5 * limits::ELECTION_TIMEOUT {
        leader.pass_to_timer();
    }
    assert!(leader.applied > everywhere);
    assert_eq!(leader.purge(Index(0)), None, "it is waited for");
    let kept_from = Index(leader.applied.0 - 3);
    let base = leader.purge(kept_from).map(|base| base.index);
    assert_eq!(base, Some(kept_from.previous()), "beyond the bound it is not");
    assert_eq!(leader.snapshots, []);
    leader.is_slow_healed = true;
    for _ in 0..1_000 {
        if leader.snapshots.is_empty() {
            leader.pass_to_timer();
        }
    }
    let ShardSnapshot { to, at_least, .. } = leader.snapshots[0];
    assert_eq!((to, at_least), (ReplicaId(SLOW), kept_from.previous()));
}
