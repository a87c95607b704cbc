//! One shard of the cluster's status, from what the nodes of its replicas report.

use quorate_router::{Replica, ShardDescriptor};

use crate::status::cluster_status::{ReplicaSummary, ShardState, ShardSummary};
use crate::status::lag::{self, Look};

/// The shard at the last look, `heard`; the first look, if there were two, shows which replicas lag.
pub(crate) fn summarise(
    descriptor: &ShardDescriptor,
    heard: &Look,
    first: Option<&Look>,
) -> ShardSummary {
    let views = || {
        let seen = |member: &Replica| lag::view(heard, descriptor.shard, member.node);
        descriptor.members.iter().filter_map(seen)
    };
    let replica = |member| replica(descriptor, member, heard, first);
    let mut replicas: Vec<ReplicaSummary> = descriptor.members.iter().map(replica).collect();
    let longest = replicas.iter().filter_map(|replica| replica.last).max();
    for replica in &mut replicas {
        replica.behind = longest.zip(replica.last).map(|(longest, last)| longest.0 - last.0);
    }
    let leader = lag::leader(heard, descriptor);
    let is_unseen = |replica: &ReplicaSummary| replica.role.is_none() && replica.damaged.is_none();
    let follows = |replica: &ReplicaSummary| replica.role.is_some() && replica.lag.is_none();
    ShardSummary {
        shard: descriptor.shard,
        state: match leader {
            _ if replicas.iter().all(is_unseen) => ShardState::Unknown,
            None => ShardState::NoLeader,
            Some(_) if replicas.iter().all(follows) => ShardState::Healthy,
            Some(_) => ShardState::UnderReplicated,
        },
        start: descriptor.start.clone(),
        end: descriptor.end.clone(),
        epoch: descriptor.epoch,
        term: views().map(|view| view.term).max().unwrap_or_default(),
        leader: leader.and_then(|view| view.leader),
        replicas,
    }
}

/// One replica; how far it is behind the others is found later.
fn replica(
    descriptor: &ShardDescriptor,
    member: &Replica,
    heard: &Look,
    first: Option<&Look>,
) -> ReplicaSummary {
    let view = lag::view(heard, descriptor.shard, member.node);
    let lag = first.and_then(|first| lag::lag(descriptor, member.node, first, heard));
    let damaged = lag::answer(heard, member.node).and_then(|status| {
        let is_this = (descriptor.shard, member.replica);
        status.damaged.iter().find(|damaged| (damaged.shard, damaged.replica) == is_this)
    });
    ReplicaSummary {
        role: view.map(|view| view.role),
        last: view.map(|view| view.last_index),
        commit: view.map(|view| view.commit),
        applied: view.map(|view| view.applied),
        base: view.and_then(|view| view.base),
        log_bytes: view.and_then(|view| view.log_bytes),
        lag,
        catch_up: lag::catch_up(descriptor, member, heard, lag),
        snapshot: lag::snapshot_to(descriptor, member, heard),
        damaged: damaged.map(|damaged| damaged.what.clone()),
        ..ReplicaSummary::unseen(member.replica, member.node)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

    use super::*;
    use crate::state::shards::DamagedReplica;
    use crate::status::cluster_status::{Reason, ReplicaRole};
    use crate::status::node_status::Status;
    use crate::status::node_status::tests::{replica, status};

    const SHARD: u64 = 4;

    fn descriptor() -> ShardDescriptor {
        let member = |node| Replica { replica: ReplicaId(node), node: NodeId(node) };
        ShardDescriptor {
            shard: ShardId(SHARD),
            start: Bytes::new(),
            end: None,
            epoch: Epoch { membership: 1, version: 1 },
            members: (1..=3).map(member).collect(),
        }
    }

    /// Node 2, which has given up this replica of the shard.
    fn damaged(replica: u64) -> Status {
        let what = "its data: flipped".to_owned();
        let (shard, replica) = (ShardId(SHARD), ReplicaId(replica));
        let damaged = vec![DamagedReplica::for_good(shard, replica, what)];
        Status { damaged, ..status(2, Vec::new()) }
    }

    fn state(answers: Vec<Status>) -> (ShardState, Vec<ReplicaSummary>) {
        let mut look: Look =
            (1..=3).map(|node| (NodeId(node), Err(Reason::NotConnectedYet))).collect();
        for answer in answers {
            look.insert(answer.node, Ok(Arc::new(answer)));
        }
        let summary = summarise(&descriptor(), &look, None);
        (summary.state, summary.replicas)
    }

    /// Goal: a damaged replica is told from one that is not seen: its shard lacks it, and was seen
    /// even if no other replica was; a damaged one that was replaced says nothing of its successor.
    #[test]
    fn a_damaged_replica_is_seen_and_lacking() {
        let leader = || status(1, vec![replica(SHARD, ReplicaRole::Leader, Some(1), 90)]);
        let follower = || status(3, vec![replica(SHARD, ReplicaRole::Follower, Some(1), 70)]);
        let (found, replicas) = state(vec![leader(), damaged(2), follower()]);
        assert_eq!(found, ShardState::UnderReplicated);
        let told: Vec<_> = replicas.iter().map(|replica| replica.damaged.as_deref()).collect();
        assert_eq!(told, [None, Some("its data: flipped"), None]);
        let behind: Vec<_> = replicas.iter().map(|replica| replica.behind).collect();
        assert_eq!(behind, [Some(0), None, Some(20)]);

        assert_eq!(state(vec![damaged(2)]).0, ShardState::NoLeader);
        assert_eq!(state(vec![status(2, Vec::new())]).0, ShardState::Unknown);
        let (_, replicas) = state(vec![leader(), damaged(9), follower()]);
        assert!(replicas.iter().all(|replica| replica.damaged.is_none()));
    }
}
