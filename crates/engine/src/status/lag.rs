//! Finds the replicas that lag, from two looks at the same nodes.
//!
//! One look is not enough: the nodes answer one after the other, and under load a sound follower is
//! always some entries behind a leader that was asked later. So a replica that seems to be behind
//! is checked again, against the leader's commit index at the first look: a sound follower has long
//! passed it, and one that has not receives less than is written, or nothing at all.
//!
//! A replica that gets a snapshot stands still until it is in force: whether it comes nearer shows in
//! the bytes of snapshots that arrive.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{NodeId, ShardId};

use crate::status::cluster_status::{CatchUp, Lag, Reason, ReplicaRole};
use crate::status::node_status::{ShardStatus, Status};
use crate::status::snapshots::{IncomingSnapshot, SnapshotDirection};

/// The status of every node, or why it gave none.
pub(crate) type Look = BTreeMap<NodeId, Result<Arc<Status>, Reason>>;

/// The status of `node`, if it answered.
pub(crate) fn answer(look: &Look, node: NodeId) -> Option<&Status> {
    look.get(&node)?.as_ref().ok().map(|status| &**status)
}

/// One replica as its node saw it.
pub(crate) fn view(look: &Look, shard: ShardId, node: NodeId) -> Option<&ShardStatus> {
    let status = answer(look, node)?;
    // Ascending, as `Status` says.
    let place = status.shards.binary_search_by_key(&shard, |view| view.shard).ok()?;
    status.shards.get(place)
}

/// The view of the leader of the newest term that was seen.
pub(crate) fn leader<'a>(look: &'a Look, descriptor: &ShardDescriptor) -> Option<&'a ShardStatus> {
    let views = descriptor.members.iter().filter_map(|m| view(look, descriptor.shard, m.node));
    views.filter(|view| view.role == ReplicaRole::Leader).max_by_key(|view| view.term)
}

/// Whether a second look may find a replica that lags.
pub(crate) fn is_suspicious(descriptor: &ShardDescriptor, look: &Look) -> bool {
    let Some(leader) = leader(look, descriptor) else {
        return false;
    };
    let mut views = descriptor.members.iter().filter_map(|m| view(look, leader.shard, m.node));
    views.any(|view| view.leader.is_none() || view.applied < leader.commit)
}

/// How the replica on `node` lags; `None` if it does not, or is not known to.
pub(crate) fn lag(
    descriptor: &ShardDescriptor,
    node: NodeId,
    first: &Look,
    second: &Look,
) -> Option<Lag> {
    let shard = descriptor.shard;
    let (before, after) = (view(first, shard, node)?, view(second, shard, node)?);
    let leads = leader(second, descriptor)?;
    // From the leader of the first look, which may have been deposed since: what it knew to be
    // committed stays committed.
    let goal = leader(first, descriptor).map_or(leads.commit.min(before.commit), |l| l.commit);
    if before.leader.is_none() && after.leader.is_none() {
        return Some(Lag::Leaderless);
    }
    if after.applied >= goal {
        return None;
    }
    let moves = after.applied > before.applied
        || after.last_index > before.last_index
        || snapshot_moves(descriptor, node, first, second);
    Some(if moves { Lag::CatchingUp } else { Lag::Stuck })
}

/// The snapshot that `member` is about to get: as its own node reports it, or else the sender.
pub(crate) fn snapshot_to(
    descriptor: &ShardDescriptor,
    member: &Replica,
    look: &Look,
) -> Option<IncomingSnapshot> {
    let (shard, replica) = (descriptor.shard, member.replica);
    let find = |node, direction| answer(look, node)?.snapshots.find(direction, shard, replica);
    if let Some(found) = find(member.node, SnapshotDirection::Receiving) {
        return Some(IncomingSnapshot { from: found.peer, progress: found.progress });
    }
    descriptor.members.iter().find_map(|sender| {
        let found = find(sender.node, SnapshotDirection::Sending)?;
        Some(IncomingSnapshot { from: sender.node, progress: found.progress })
    })
}

/// What brings `member` up to its leader, if it has this `lag`, or lacks what the leader's log no
/// longer holds.
pub(crate) fn catch_up(
    descriptor: &ShardDescriptor,
    member: &Replica,
    look: &Look,
    lag: Option<Lag>,
) -> Option<CatchUp> {
    if snapshot_to(descriptor, member, look).is_some() {
        return Some(CatchUp::Snapshot);
    }
    let leader = leader(look, descriptor)?;
    let replica = view(look, descriptor.shard, member.node)?;
    if leader.base.is_some_and(|base| replica.last_index < base) {
        return Some(CatchUp::SnapshotAwaited);
    }
    matches!(lag, Some(Lag::CatchingUp | Lag::Stuck)).then_some(CatchUp::Log)
}

/// Whether the replica on `node` needs a snapshot, and comes nearer to it: all of it has arrived, or
/// bytes of snapshots come to its node, or leave its leader's, where the others wait for their turn.
fn snapshot_moves(descriptor: &ShardDescriptor, node: NodeId, first: &Look, second: &Look) -> bool {
    let Some(member) = descriptor.members.iter().find(|member| member.node == node) else {
        return false;
    };
    let grows = |node, bytes: fn(&Status) -> u64| {
        let of = |look| answer(look, node).map(bytes);
        matches!((of(first), of(second)), (Some(before), Some(after)) if after > before)
    };
    let needs_one = matches!(
        catch_up(descriptor, member, second, None),
        Some(CatchUp::Snapshot | CatchUp::SnapshotAwaited)
    );
    let has_arrived =
        || snapshot_to(descriptor, member, second).is_some_and(|found| found.progress.has_arrived);
    let is_sent = || {
        let leader = leader(second, descriptor).and_then(|leader| leader.leader);
        leader.is_some_and(|leader| grows(leader, |status| status.counters.snapshot_bytes_sent))
    };
    let arrives = || grows(node, |status| status.counters.snapshot_bytes_received);
    needs_one && (has_arrived() || arrives() || is_sent())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_router::Replica;
    use quorate_types::{Epoch, Index, ReplicaId};

    use super::*;
    use crate::status::node_status::tests::{replica, status};
    use crate::status::snapshots::{SnapshotProgress, SnapshotStatus};

    fn descriptor() -> ShardDescriptor {
        let member = |node| Replica { replica: ReplicaId(node), node: NodeId(node) };
        ShardDescriptor {
            shard: ShardId(4),
            start: Bytes::new(),
            end: None,
            epoch: Epoch { membership: 1, version: 1 },
            members: (1..=3).map(member).collect(),
        }
    }

    /// Node 1 leads and is committed to `commit`; nodes 2 and 3 are as given.
    fn look(commit: u64, others: [(Option<u64>, u64); 2]) -> Look {
        let leader = replica(4, ReplicaRole::Leader, Some(1), commit);
        let mut look: Look = BTreeMap::new();
        look.insert(NodeId(1), Ok(Arc::new(status(1, vec![leader]))));
        for (node, (leader, applied)) in (2..).zip(others) {
            let follower = replica(4, ReplicaRole::Follower, leader, applied);
            look.insert(NodeId(node), Ok(Arc::new(status(node, vec![follower]))));
        }
        look
    }

    /// Goal: a follower that is a moment behind is sound; one that has not reached the leader's
    /// position of a second ago is catching up or gets nothing; one that knows no leader is cut
    /// off, however little is written. Method: a table of two looks.
    #[test]
    fn what_the_second_look_tells() {
        let heard = |applied| (Some(1), applied);
        let sound = (Some(1), 900);
        for (before, after, expected) in [
            (heard(100), heard(100), None),
            (heard(60), heard(100), None),
            (heard(60), heard(99), Some(Lag::CatchingUp)),
            (heard(60), heard(60), Some(Lag::Stuck)),
            ((None, 100), (None, 100), Some(Lag::Leaderless)),
            ((None, 60), (None, 60), Some(Lag::Leaderless)),
            ((None, 60), heard(900), None),
            (heard(100), (None, 100), None),
        ] {
            let (first, second) = (look(100, [sound, before]), look(900, [sound, after]));
            let found = lag(&descriptor(), NodeId(3), &first, &second);
            assert_eq!(found, expected, "{before:?}, {after:?}");
            assert_eq!(lag(&descriptor(), NodeId(2), &first, &second), None);
        }
        assert!(is_suspicious(&descriptor(), &look(100, [sound, heard(99)])));
        assert!(is_suspicious(&descriptor(), &look(100, [sound, (None, 100)])));
        assert!(!is_suspicious(&descriptor(), &look(100, [sound, heard(100)])));
    }

    /// A snapshot for the replica on node 3, as one end of it sees it.
    fn snapshot(direction: SnapshotDirection, peer: u64, has_arrived: bool) -> SnapshotStatus {
        let progress = SnapshotProgress {
            base: Index(80),
            bytes_done: 10,
            bytes_total: 100,
            bytes_left: if has_arrived { 0 } else { 90 },
            bytes_per_second: 0,
            seconds_left: None,
            running_ms: 1,
            has_arrived,
        };
        let (shard, replica, peer) = (ShardId(4), ReplicaId(3), NodeId(peer));
        SnapshotStatus { direction, shard, replica, peer, progress }
    }

    fn change(look: &mut Look, node: u64, change: impl FnOnce(&mut Status)) {
        let answer = look.get_mut(&NodeId(node)).expect("a node").as_mut().expect("it answered");
        change(Arc::make_mut(answer));
    }

    /// Goal: a replica that stands still because it waits for a snapshot, or gets one, is catching up
    /// as long as bytes of snapshots arrive, and stands still otherwise; and it is told what it gets.
    /// Method: two looks at a replica that ends at 60, where its leader's log begins after 80.
    #[test]
    fn who_gets_a_snapshot_is_judged_by_its_bytes() {
        let member = descriptor().members[2];
        let both = || {
            let sound = (Some(1), 900);
            let mut looks = [look(100, [sound, (Some(1), 60)]), look(900, [sound, (Some(1), 60)])];
            let cut = |status: &mut Status| status.shards[0].base = Some(Index(80));
            looks.iter_mut().for_each(|look| change(look, 1, cut));
            looks
        };
        let found = |[first, second]: &[Look; 2]| {
            let lag = lag(&descriptor(), NodeId(3), first, second);
            let snapshot = snapshot_to(&descriptor(), &member, second);
            (lag, catch_up(&descriptor(), &member, second, lag), snapshot.map(|it| it.from))
        };

        let nothing_moves = both();
        let expected = (Some(Lag::Stuck), Some(CatchUp::SnapshotAwaited), None);
        assert_eq!(found(&nothing_moves), expected);

        let mut others_are_sent = both();
        change(&mut others_are_sent[1], 1, |status| status.counters.snapshot_bytes_sent = 7);
        let expected = (Some(Lag::CatchingUp), Some(CatchUp::SnapshotAwaited), None);
        assert_eq!(found(&others_are_sent), expected);

        for (node, direction, peer) in
            [(1, SnapshotDirection::Sending, 3), (3, SnapshotDirection::Receiving, 1)]
        {
            let mut stands = both();
            let of = |has_arrived| vec![snapshot(direction, peer, has_arrived)];
            change(&mut stands[1], node, |status| status.snapshots.under_way = of(false));
            let expected = (Some(Lag::Stuck), Some(CatchUp::Snapshot), Some(NodeId(1)));
            assert_eq!(found(&stands), expected);
            let mut arrives = stands.clone();
            change(&mut arrives[1], 3, |status| status.counters.snapshot_bytes_received = 7);
            let expected = (Some(Lag::CatchingUp), Some(CatchUp::Snapshot), Some(NodeId(1)));
            assert_eq!(found(&arrives), expected);
            let mut is_installed = stands.clone();
            change(&mut is_installed[1], node, |status| status.snapshots.under_way = of(true));
            assert_eq!(found(&is_installed), expected);
        }

        let mut by_log = both();
        by_log
            .iter_mut()
            .for_each(|look| change(look, 1, |it| it.shards[0].base = Some(Index(60))));
        assert_eq!(found(&by_log), (Some(Lag::Stuck), Some(CatchUp::Log), None));
        // An older version does not say where its log begins.
        by_log.iter_mut().for_each(|look| change(look, 1, |it| it.shards[0].base = None));
        change(&mut by_log[1], 1, |status| status.counters.snapshot_bytes_sent = 7);
        assert_eq!(found(&by_log), (Some(Lag::Stuck), Some(CatchUp::Log), None));
    }

    /// Goal: nothing is said of a replica that was not seen twice.
    #[test]
    fn who_is_not_seen_twice_is_not_judged() {
        let seen = look(100, [(Some(1), 900), (Some(1), 60)]);
        let mut unseen = seen.clone();
        unseen.insert(NodeId(3), Err(Reason::Stopping));
        assert_eq!(lag(&descriptor(), NodeId(3), &seen, &unseen), None);
        assert_eq!(lag(&descriptor(), NodeId(3), &unseen, &seen), None);
        assert!(!is_suspicious(&descriptor(), &unseen));
    }
}
