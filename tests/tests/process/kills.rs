//! One node after another is killed under load.

use std::time::{Duration, Instant};

use quorate::NodeId;
use quorate_tests::process::{Load, ProcessCluster, READY, busiest_leader, meta_leader, read_back};

use crate::{CLUSTER, WRITERS, chaos, turn};

/// Longest wait of a client for one write, all tries included: the other nodes notice after five
/// seconds without a packet that a forwarded write will not be answered.
const OUTAGE_MAX: Duration = Duration::from_secs(10);

/// Goal: when one of three nodes is killed, even the leader of the meta shard or of most shards,
/// writes continue within seconds, no acknowledged write is lost, and the node catches up when it
/// is back. Method: kills in turn under load; the longest write is measured.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_costs_seconds_and_no_acknowledged_write() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    let load = Load::start("load", &cluster.redis(), WRITERS);
    println!("longest write before any kill: {:?}", load.flow(READY).await);
    let ends = Instant::now() + chaos(Duration::ZERO);
    let mut killed = Vec::new();
    while killed.len() < 3 || Instant::now() < ends {
        let (victim, why) = next_victim(&cluster, &killed).await;
        load.flow(READY).await;
        cluster.kill(victim);
        let outage = load.flow(READY).await;
        println!("kill -9 of node {victim}, {why}: longest write {outage:?}");
        assert!(outage < OUTAGE_MAX, "writes stood still for {outage:?}");
        let began = Instant::now();
        cluster.start_nodes(&[victim]).await;
        println!("node {victim} is ready again after {:?}", began.elapsed());
        killed.push(victim);
    }
    let written = load.stop().await;
    cluster.wait_caught_up(killed[0]).await;
    println!(
        "{} kills, {} writes acknowledged, {} unknown, {} refused and tried again",
        killed.len(),
        written.sets.len(),
        written.unknown,
        written.refused
    );
    read_back(&cluster.redis(), &written).await;
}

/// First the leader of the meta shard, then that of most shards, then the node spared longest.
async fn next_victim(cluster: &ProcessCluster, killed: &[NodeId]) -> (NodeId, String) {
    let status = cluster.wait_led(NodeId(1)).await;
    if let (0, Some(leader)) = (killed.len(), meta_leader(&status)) {
        return (leader, "the leader of the meta shard".to_owned());
    }
    if let (1, Some((leader, count))) = (killed.len(), busiest_leader(&status)) {
        return (leader, format!("the leader of {count} of {} shards", status.shards.len()));
    }
    let last_time = |node: &NodeId| killed.iter().rposition(|victim| victim == node);
    let spared = ProcessCluster::NODES.into_iter().min_by_key(last_time);
    (spared.expect("three nodes"), "spared longest".to_owned())
}
