//! Goal: what a node has given up, and what it holds, is shown by every node. Method: real engines.

use std::time::Duration;

use quorate_types::{NodeId, ShardId};

use crate::api::engine::Engine;
use crate::status::cluster_status::{ClusterStatus, Health, ReplicaSummary, ShardState};
use crate::status::problems::Problem;
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};

const ASK: Duration = Duration::from_secs(2);
const WHAT: &str = "its data: bytes were changed";
const BROKEN: NodeId = NodeId(2);

/// The status at `engine` once `is_wanted`; panics after a long while.
async fn status_when(engine: &Engine, is_wanted: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    let end = tokio::time::Instant::now() + HANG;
    loop {
        let status = engine.cluster_status(ASK).await;
        if is_wanted(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < end, "{:?}", status.problems);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn replica_on(status: &ClusterStatus, node: NodeId) -> &ReplicaSummary {
    let shard = status.shards.iter().find(|shard| shard.shard == SHARD).expect("one shard");
    shard.replicas.iter().find(|replica| replica.node == node).expect("a replica each")
}

fn assert_told(status: &ClusterStatus) {
    assert_eq!(status.health, Health::Degraded);
    let [Problem::ReplicasDamaged { node, replicas, leaderless }] = &status.problems[..] else {
        panic!("{:?}", status.problems);
    };
    assert_eq!((*node, &leaderless[..]), (BROKEN, &[][..]));
    let [damaged] = &replicas[..] else { panic!("{replicas:?}") };
    assert_eq!((damaged.shard, damaged.replica), (SHARD, replica_on(status, BROKEN).replica));
    assert!(damaged.what.contains(WHAT), "{damaged:?}");
    let of_node = status.nodes.iter().find(|node| node.node == BROKEN).expect("it answers");
    assert_eq!(of_node.damaged, *replicas);
    assert_eq!(replica_on(status, BROKEN).damaged.as_deref(), Some(&damaged.what[..]));
    let shard = status.shards.iter().find(|shard| shard.shard == SHARD).expect("one shard");
    assert_eq!(shard.state, ShardState::UnderReplicated);
}

/// Goal: a damaged replica degrades the cluster's status at every node, by name, while its shard
/// serves; also after its node was started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_replica_is_told_by_every_node() {
    let mut cluster = TestEngines::open(3, 3).await;
    let at = cluster.engines.iter().position(|it| it.node() == BROKEN).expect("three nodes");
    let dispatch = cluster.engines[at].running.dispatch();
    let state = dispatch.shards().get(SHARD).expect("it lives here");
    dispatch.report_damage(state, WHAT.to_owned());
    let is_settled = |status: &ClusterStatus| {
        replica_on(status, BROKEN).damaged.is_some()
            && status.shards.iter().all(|shard| shard.state != ShardState::NoLeader)
            && status.problems.len() == 1
    };
    for engine in &cluster.engines {
        assert_told(&status_when(engine, is_settled).await);
    }
    cluster.engines[at].put(KEY.to_vec(), "by the others").await.expect("two of three");

    let broken = cluster.engines.remove(at);
    broken.shutdown().await;
    let back = cluster.reopen(BROKEN);
    let own = back.status().await.damaged;
    assert!(own.len() == 1 && own[0].what.contains(WHAT), "{own:?}");
    assert_told(&status_when(&cluster.engines[0], is_settled).await);
    cluster.engines.push(back);
    cluster.stop().await;
}

/// Goal: of each replica it is told how much log and data it holds, from every node; the data's size
/// only of the shard that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_data_of_replicas_are_measured() {
    const VALUES: u8 = 50;
    const VALUE_BYTES: usize = 10_000;
    const BYTES: u64 = VALUES as u64 * VALUE_BYTES as u64;
    let mut cluster = TestEngines::open(3, 3).await;
    let value: Vec<u8> = (0..VALUE_BYTES).map(|at| (at * at % 251) as u8).collect();
    for number in 0..VALUES {
        let key = [&KEY[..], &[number]].concat();
        cluster.engines[0].put(key, value.clone()).await.expect("all are up");
    }
    for engine in &cluster.engines {
        let holds = |status: &ClusterStatus| {
            let of = |node| replica_on(status, NodeId(node)).log_bytes;
            (1..=3).all(|node| of(node) > Some(BYTES))
        };
        let status = status_when(engine, holds).await;
        assert_eq!(replica_on(&status, BROKEN).data_bytes, None, "it was not asked for");
        let status = engine.cluster_status_of_shard(SHARD, ASK).await;
        for node in (1..=3).map(NodeId) {
            let replica = replica_on(&status, node);
            assert!(replica.data_bytes > Some(BYTES / 2), "{replica:?}");
            assert!(replica.base < replica.last, "{replica:?}");
        }
        let meta = status.shards.iter().find(|shard| shard.shard == ShardId(0)).expect("always");
        assert!(meta.replicas.iter().all(|replica| replica.data_bytes.is_none()));
        assert!(engine.status().await.log.held_bytes > BYTES);
    }
    cluster.stop().await;
}
