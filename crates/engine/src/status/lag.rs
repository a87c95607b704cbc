//! Finds the replicas that lag, from two looks at the same nodes.
//!
//! One look is not enough: the nodes answer one after the other, and under load a sound follower is
//! always some entries behind a leader that was asked later. So a replica that seems to be behind
//! is checked again, against the leader's commit index at the first look: a sound follower has long
//! passed it, and one that has not receives less than is written, or nothing at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId};

use crate::status::cluster_status::{Lag, Reason, ReplicaRole};
use crate::status::node_status::{ShardStatus, Status};

/// The status of every node, or why it gave none.
pub(crate) type Look = BTreeMap<NodeId, Result<Arc<Status>, Reason>>;

/// One replica as its node saw it.
pub(crate) fn view(look: &Look, shard: ShardId, node: NodeId) -> Option<&ShardStatus> {
    let status = look.get(&node)?.as_ref().ok()?;
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
    let moves = after.applied > before.applied || after.last_index > before.last_index;
    Some(if moves { Lag::CatchingUp } else { Lag::Stuck })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_router::Replica;
    use quorate_types::{Epoch, ReplicaId};

    use super::*;
    use crate::status::node_status::tests::{replica, status};

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
