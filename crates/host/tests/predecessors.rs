//! Goal: what was under way for a replica that is gone changes nothing, neither where nobody lives
//! now nor at the replica that came after it (RULE 3). Method: a group of one commits entries that
//! are not applied; it is removed, and the apply thread, the fetch thread and the purge report late.

use bytes::Bytes;
use quorate_host::{Event, Host, HostConfig, ReplicaInit, Ticket};
use quorate_machine::KvCommand;
use quorate_raft::{HardState, Member, Membership, Reader, Restored, Run};
use quorate_types::{
    Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
};

const SHARD: ShardId = ShardId(1);
const NODE: NodeId = NodeId(1);
const FIRST: ReplicaId = ReplicaId(1);
const SECOND: ReplicaId = ReplicaId(2);

fn add(host: &mut Host, now: Monotonic, replica: ReplicaId) {
    let base = LogId::new(Term(1), Index(1));
    let restored = Restored {
        hard_state: HardState { term: base.term, vote: None, committed: base.index },
        base,
        base_membership: Membership::of_voters([Member { replica, node: NODE }]),
        terms: vec![],
        memberships: vec![],
        last: base,
        applied: base.index,
    };
    host.add(now, ReplicaInit { shard: SHARD, replica, descriptor_version: 1, restored });
}

/// Lets the replica elect itself and commit three entries, on a disk that is instant. Returns what it
/// handed out to be applied: the last index and the runs.
fn commit_three(host: &mut Host, now: &mut Monotonic) -> (Index, Vec<Run>) {
    let (mut handed, mut runs, mut is_asked) = (Index(0), Vec::new(), false);
    while handed < Index(5) {
        *now = host.poll_timeout().unwrap_or(*now).max(*now);
        host.handle_timeouts(*now);
        let turn = host.take_turn(*now);
        if turn.roles.iter().any(|role| role.role.serving) && !is_asked {
            is_asked = true;
            for ticket in 1..=3 {
                let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
                let write = Event::Write {
                    shard: SHARD,
                    ticket: Ticket(ticket),
                    descriptor_version: 1,
                    session: None,
                    command: Bytes::from(put.encode()),
                    progress: false,
                };
                host.handle(*now, WallMillis(0), write);
            }
        }
        if let Some((turn, _)) = turn.write {
            host.handle(*now, WallMillis(0), Event::Persisted { turn });
        }
        for apply in turn.applies {
            handed = apply.committed.range.end.previous();
            runs.extend(apply.committed.runs);
        }
    }
    (handed, runs)
}

/// The late reports, by name.
fn reports(handed: Index, runs: &[Run]) -> [(&'static str, Event); 3] {
    let (shard, replica) = (SHARD, FIRST);
    let (reader, runs) = (Reader::Apply, runs.to_vec());
    [
        ("Applied", Event::Applied { shard, replica, index: handed }),
        ("Fetched", Event::Fetched { shard, replica, reader, runs }),
        ("Purge", Event::Purge { shard, replica, to: handed, kept_from: Index(u64::MAX) }),
    ]
}

#[test]
fn reports_of_a_replica_that_is_gone_do_nothing() {
    let (mut host, mut now) = (Host::new(HostConfig::new(NODE, Incarnation(1), 7)), Monotonic(0));
    add(&mut host, now, FIRST);
    let (handed, runs) = commit_three(&mut host, &mut now);
    host.remove(now, SHARD);
    host.take_turn(now);
    for (name, event) in reports(handed, &runs) {
        host.handle(now, WallMillis(0), event);
        assert!(host.take_turn(now).is_empty(), "{name} where no replica lives");
    }
}

#[test]
fn reports_of_a_predecessor_do_nothing_to_its_successor() {
    for late in 0..3 {
        let mut host = Host::new(HostConfig::new(NODE, Incarnation(1), 7));
        let mut now = Monotonic(0);
        add(&mut host, now, FIRST);
        let (handed, runs) = commit_three(&mut host, &mut now);
        host.remove(now, SHARD);
        add(&mut host, now, SECOND);
        // The successor has a log as long, and has applied less of it: a report would be believed.
        commit_three(&mut host, &mut now);
        host.take_turn(now);
        let before = host.view(SHARD).expect("it lives");
        assert!(before.applied < handed);
        let (name, event) = reports(handed, &runs).into_iter().nth(late).expect("three of them");
        host.handle(now, WallMillis(0), event);
        assert!(host.take_turn(now).is_empty(), "{name} of the replica before");
        assert_eq!(host.view(SHARD), Some(before), "{name} of the replica before");
        // Its own are believed.
        let own = Event::Applied { shard: SHARD, replica: SECOND, index: handed };
        host.handle(now, WallMillis(0), own);
        assert_eq!(host.view(SHARD).expect("it lives").applied, handed);
    }
}
