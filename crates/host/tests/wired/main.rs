//! Goal: hosts and node liveness together do what neither shows alone: leases, silence where
//! nothing happens, elections when a node is lost, and no shard stuck behind a lost release.
//! Method: three nodes in one loop; a node that is to fail is cut off.

mod cluster;
mod disk;

use bytes::Bytes;
use cluster::Cluster;
use quorate_host::{Answer, Event, Ticket};
use quorate_raft::{Membership, Role};
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
        assert!(view.is_quiesced && view.lease_until.is_some(), "shard {shard}: {view:?}");
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
fn a_write_wakes_and_then_all_is_quiesced_again() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    let before = cluster.view(leader, shard).commit;
    let (ticket, command) = (Ticket(1), Bytes::from_static(b"x"));
    let (session, progress) = (None, false);
    let write = Event::Write { shard, ticket, descriptor_version: 1, session, command, progress };
    cluster.tell(leader, write);
    assert!(!cluster.view(leader, shard).is_quiesced);
    cluster.run(1_000);
    for node in (1..=3).map(NodeId) {
        assert_eq!(cluster.view(node, shard).commit, before.next(), "at {node}");
    }
    assert!(cluster.view(leader, shard).is_quiesced);
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
    assert_eq!(cluster.sent, [], "quiesced without the lost node too");
    cluster.cut.clear();
    cluster.run(5_000);
    for (shard, before) in cluster.shards().zip(terms) {
        let leader = cluster.leader(shard).expect("still one");
        assert!(cluster.view(leader, shard).is_quiesced, "shard {shard}");
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

/// A leader steps down, and no follower hears of it: they stay bound to it and run no timer. The
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
        site.host.step_down_all(quorate_types::Monotonic(cluster.now));
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

/// The membership without one of its followers, and that one's node.
fn without_a_follower(cluster: &Cluster, shard: ShardId) -> (Membership, Membership, NodeId) {
    let leader = cluster.leader(shard).expect("settled");
    let expected = cluster.view(leader, shard).membership;
    let gone = *expected.voters.iter().find(|voter| voter.node != leader).expect("a follower");
    let kept = expected.voters.iter().copied().filter(|voter| *voter != gone);
    (expected.clone(), Membership::of_voters(kept), gone.node)
}

/// A quiesced leader that has heard from no node for long checks before it refuses.
#[test]
fn a_quiesced_shard_changes_its_members() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    assert!(cluster.view(leader, shard).is_quiesced);
    let (expected, target, _) = without_a_follower(&cluster, shard);
    let ticket = Ticket(1);
    cluster.tell(leader, Event::ChangeMembership { shard, ticket, expected, target });
    assert!(matches!(cluster.changes[..], [Ok(_)]), "{:?}", cluster.changes);
}

/// The leader still leads: it says so, and loses nothing by being asked.
#[test]
fn a_question_costs_no_lease() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    for node in (1..=3).map(NodeId).filter(|node| *node != leader) {
        cluster.tell(node, Event::Read { shard, ticket: Ticket(1), descriptor_version: 1 });
    }
    for _ in 0..10 {
        cluster.run(1);
        assert!(cluster.view(leader, shard).lease_until.is_some());
    }
}

/// The leader removes a follower that does not hear it, and forgets it. The follower is bound, so
/// it waits in vain; its question frees it.
#[test]
fn a_removed_follower_is_not_bound_for_ever() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    let (expected, target, gone) = without_a_follower(&cluster, shard);
    cluster.deaf = Some(gone);
    let ticket = Ticket(1);
    cluster.tell(leader, Event::ChangeMembership { shard, ticket, expected, target });
    cluster.run(3_000);
    cluster.deaf = None;
    assert!(cluster.view(gone, shard).is_bound);
    cluster.tell(gone, Event::Read { shard, ticket: Ticket(2), descriptor_version: 1 });
    cluster.run(100);
    assert!(!cluster.view(gone, shard).is_bound);
}

/// Support lapses at the leader alone, since answers came late; then its replica goes, and the
/// releases are lost. What the audit knew of the bindings there has to go too.
#[test]
fn the_audit_finds_what_a_leader_without_support_left_behind() {
    let mut cluster = settled(3, 1);
    let shard = ShardId(1);
    let leader = cluster.leader(shard).expect("settled");
    for peer in (1..=3).map(NodeId).filter(|node| *node != leader) {
        cluster.tell(leader, Event::Support { node: peer, held: None });
    }
    cluster.loses_releases = true;
    let now = quorate_types::Monotonic(cluster.now);
    cluster.sites.get_mut(&leader).expect("a site").host.remove(now, shard);
    cluster.run(50);
    cluster.loses_releases = false;
    cluster.run(25_000);
    let leads =
        |node: u64| NodeId(node) != leader && cluster.view(NodeId(node), shard).role.serving;
    assert!((1..=3).any(leads));
}

/// A wake that comes when another replica leads already disturbs nothing.
#[test]
fn a_late_wake_leaves_a_new_leader_alone() {
    let mut cluster = settled(3, 100);
    let led: Vec<_> =
        cluster.shards().filter(|shard| cluster.leader(*shard) == Some(NodeId(1))).collect();
    cluster.cut.insert(NodeId(1));
    // Followers of the new leaders stay unbound: nothing else keeps them from waking.
    cluster.loses_bind_requests = true;
    for _ in 0..3_000 {
        cluster.run(1);
        for shard in &led {
            let Some(leader) = cluster.leader(*shard) else { continue };
            let follower = if leader == NodeId(2) { NodeId(3) } else { NodeId(2) };
            let role = cluster.view(follower, *shard).role;
            let is_old = role.term < cluster.view(leader, *shard).role.term;
            assert!(is_old || role.role == Role::Follower, "{shard}: {role:?} under a leader");
        }
    }
}
