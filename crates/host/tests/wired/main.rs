//! Goal: hosts and node liveness together do what neither shows alone: leases, silence where nothing
//! happens, elections when a node is lost, and no shard stuck behind a lost release. Method: three
//! nodes in one loop; whoever is to fail is cut off.

mod cluster;

use bytes::Bytes;
use cluster::Cluster;
use quorate_host::{Answer, Event, Ticket};
use quorate_types::{NodeId, ShardId};

fn settled(nodes: u64, shards: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes, shards);
    cluster.run(5_000);
    for shard in cluster.shards() {
        let leader = cluster.leader(shard);
        assert!(leader.is_some(), "shard {shard} has no leader after five seconds");
    }
    cluster
}

#[test]
fn shards_with_nothing_to_do_are_silent() {
    let mut cluster = settled(3, 20);
    for shard in cluster.shards() {
        let leader = cluster.leader(shard).expect("settled");
        let view = cluster.view(leader, shard);
        assert!(view.is_quiet && view.lease_until.is_some(), "shard {shard}: {view:?}");
        for node in (1..=3).map(NodeId).filter(|node| *node != leader) {
            assert!(cluster.view(node, shard).is_bound, "shard {shard} at {node}");
        }
    }
    cluster.sent.clear();
    cluster.run(10_000);
    assert_eq!(cluster.sent, []);
}

#[test]
fn a_lease_answers_reads_without_a_message() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    cluster.sent.clear();
    cluster.tell(leader, Event::Read { shard, ticket: Ticket(1), descriptor_version: 1 });
    assert!(matches!(cluster.answers[..], [(Ticket(1), Answer::ReadAt(_))]));
    assert_eq!(cluster.sent, []);
}

#[test]
fn a_write_wakes_and_then_all_is_quiet_again() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    let before = cluster.view(leader, shard).commit;
    let (ticket, command) = (Ticket(1), Bytes::from_static(b"x"));
    let (session, progress) = (None, false);
    let write = Event::Write { shard, ticket, descriptor_version: 1, session, command, progress };
    cluster.tell(leader, write);
    assert!(!cluster.view(leader, shard).is_quiet);
    cluster.run(1_000);
    for node in (1..=3).map(NodeId) {
        assert_eq!(cluster.view(node, shard).commit, before.next(), "at {node}");
    }
    assert!(cluster.view(leader, shard).is_quiet);
}

#[test]
fn a_lost_node_is_replaced_as_leader_within_two_seconds_and_comes_back() {
    let mut cluster = settled(3, 20);
    let terms: Vec<_> = cluster.shards().map(|s| cluster.view(NodeId(2), s).role.term).collect();
    cluster.cut.insert(NodeId(1));
    cluster.run(2_000);
    for shard in cluster.shards() {
        let leader = cluster.leader(shard);
        assert!(leader.is_some(), "shard {shard} has no leader");
    }
    cluster.run(3_000);
    cluster.sent.clear();
    cluster.run(5_000);
    assert_eq!(cluster.sent, [], "quiet without the lost node too");
    cluster.cut.clear();
    cluster.run(5_000);
    for (shard, before) in cluster.shards().zip(terms) {
        let leader = cluster.leader(shard).expect("still one");
        assert!(cluster.view(leader, shard).is_quiet, "shard {shard}");
        let (one, other) = (cluster.view(NodeId(1), shard), cluster.view(leader, shard));
        assert_eq!((one.role.term, one.commit), (other.role.term, other.commit), "{shard}");
        let elections = other.role.term.0 - before.0;
        assert!(elections <= 3, "shard {shard} took {elections} elections");
    }
}

#[test]
fn a_restarted_node_ends_its_leaderships() {
    let mut cluster = settled(3, 8);
    let led: Vec<_> =
        cluster.shards().filter(|shard| cluster.leader(*shard) == Some(NodeId(1))).collect();
    assert!(!led.is_empty());
    cluster.sites.remove(&NodeId(1));
    cluster.start(NodeId(1), 2);
    cluster.run(3_000);
    for shard in cluster.shards() {
        assert!(cluster.leader(shard).is_some(), "shard {shard} has no leader");
    }
}

/// A leader resigns, and nobody hears of it: its followers stay bound to it and run no timer. The
/// audit finds that within its rounds; a request finds it at once.
#[test]
fn a_lost_release_sticks_nothing() {
    for asks in [true, false] {
        let mut cluster = settled(3, 1);
        let shard = ShardId(1);
        let leader = cluster.leader(shard).expect("settled");
        let follower = (1..=3).map(NodeId).find(|node| *node != leader).expect("three nodes");
        cluster.loses_releases = true;
        let site = cluster.sites.get_mut(&leader).expect("a site");
        site.host.resign_all(quorate_types::Monotonic(cluster.now));
        cluster.run(50);
        cluster.loses_releases = false;
        assert_eq!(cluster.leader(shard), None);
        assert!(cluster.view(follower, shard).is_bound);
        if asks {
            for node in (1..=3).map(NodeId).filter(|node| *node != leader) {
                let read = Event::Read { shard, ticket: Ticket(9), descriptor_version: 1 };
                cluster.tell(node, read);
            }
        }
        cluster.run(if asks { 4_000 } else { 25_000 });
        assert!(cluster.leader(shard).is_some(), "asked: {asks}");
    }
}
