//! The disks of nodes have too little room.

use std::time::Duration;

use quorate::{Health, NodeId, NodeState};
use quorate_tests::process::{
    Answer, Outcome, ProcessCluster, READY, RedisClient, Request, http_get, until,
};

use crate::{CLUSTER, turn};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest time for a node to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Goal: nodes without room say so to clients and operators, open and serve reads all the same, and
/// writes are taken where there is room. Method: floors in the files of the nodes: of none, of one, of
/// all, of none.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_room_say_so_and_serve_reads() {
    let _turn = turn();
    let mut cluster = ProcessCluster::prepare(CLUSTER);
    let one = NodeId(2);
    cluster.start_nodes(&ProcessCluster::NODES).await;
    // Half as much again as is free: below it, but not below the half of it.
    let status = cluster.status(one).await.expect("it runs");
    let resources = status.nodes[1].resources.clone().expect("it runs");
    let floor_mib = resources.disk_free_bytes.expect("Linux tells") / 2 * 3 / (1 << 20);
    restart(&mut cluster, &[one], floor_mib).await;
    assert_eq!(set(&cluster, NodeId(1), "first").await, Outcome::Answered(Answer::Done));
    assert_eq!(set(&cluster, one, "second").await, Outcome::Answered(Answer::Done));
    let told = until("node 2 is seen to lead nothing", READY, async || {
        let status = cluster.status(NodeId(1)).await?;
        let node = status.nodes.iter().find(|node| node.node == one.0).expect("listed");
        match (node.state, node.leaders) {
            (NodeState::ReadOnly, Some(0)) => Ok(node.reason.clone().unwrap_or_default()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let needed = format!("MiB left, and needs {} MiB: free some", floor_mib + 64);
    assert!(told.contains(&needed), "{told}");

    restart(&mut cluster, &ProcessCluster::NODES, floor_mib).await;
    for node in ProcessCluster::NODES {
        assert_eq!(get(&cluster, node).await.as_deref(), Some(&b"second"[..]), "node {node}");
        let refused = set(&cluster, node, "third").await;
        let Outcome::DidNotHappen(reason) = &refused else { panic!("node {node}: {refused:?}") };
        assert!(reason.starts_with("MISCONF node "), "{reason}");
        assert!(reason.contains("takes no writes: its disk has"), "{reason}");
        let metrics = http_get(cluster.addresses(node).admin, "/metrics", ANSWER).await;
        let metrics = metrics.expect("it runs").body;
        assert!(metrics.lines().any(|line| line == "quorate_disk_low 1"), "{metrics}");
    }
    let status = cluster.status(NodeId(3)).await.expect("it runs");
    assert_eq!(status.health, Health::Unavailable, "{:?}", status.problems);
    assert!(status.nodes.iter().all(|node| node.state == NodeState::ReadOnly));

    restart(&mut cluster, &[], floor_mib).await;
    for node in ProcessCluster::NODES {
        assert_eq!(set(&cluster, node, "third").await, Outcome::Answered(Answer::Done));
    }
    cluster.wait_caught_up(NodeId(1)).await;
}

/// Stops all nodes, gives those of `low` the floor, and starts all again.
async fn restart(cluster: &mut ProcessCluster, low: &[NodeId], floor_mib: u64) {
    for node in ProcessCluster::NODES {
        assert_eq!(cluster.stop(node, STOP_MAX).await, Some(0));
        let mut configuration = cluster.configuration(node);
        configuration.disk_floor_mib = low.contains(&node).then_some(floor_mib);
        configuration.write(&cluster.configuration_path(node));
    }
    cluster.start_nodes(&ProcessCluster::NODES).await;
}

async fn set(cluster: &ProcessCluster, node: NodeId, value: &'static str) -> Outcome {
    let redis = cluster.addresses(node).redis;
    let mut client = RedisClient::connect(redis, ANSWER).await.expect("it listens");
    client.call(Request::Set("key".into(), value.into())).await
}

async fn get(cluster: &ProcessCluster, node: NodeId) -> Option<bytes::Bytes> {
    let redis = cluster.addresses(node).redis;
    let mut client = RedisClient::connect(redis, ANSWER).await.expect("it listens");
    match client.call(Request::Get("key".into())).await {
        Outcome::Answered(Answer::Value(value)) => value,
        other => panic!("node {node}: {other:?}"),
    }
}
