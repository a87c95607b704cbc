//! A node is asked to stop.

use std::time::{Duration, Instant};

use quorate::{NodeId, limits};
use quorate_tests::process::{Load, ProcessCluster, READY, busiest_leader, read_back};

use crate::{CLUSTER, WRITERS, turn};

/// Longest time from the signal to the end: some seconds to hand over, two to end what runs.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Longest wait of a client for one write, connecting to another node included. Measured: 30 ms, and
/// 8 ms before the stop. Below the shortest election timeout, so that no election can hide in it.
const OUTAGE_MAX: Duration = Duration::from_millis(750);
const _: () = assert!(OUTAGE_MAX.as_millis() < limits::ELECTION_TIMEOUT.as_millis());

/// Goal: a node that is asked to stop hands its leaderships over first, so that clients hardly
/// notice, and its exit code is 0. Method: SIGTERM to the leader of most shards under load; the
/// longest write is measured.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_stop_hands_over_first() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    let load = Load::start("load", &cluster.redis(), WRITERS);
    load.flow(READY).await;
    for _ in 0..2 {
        let status = cluster.wait_led(NodeId(1)).await;
        let (leaver, led) = busiest_leader(&status).expect("somebody leads");
        println!("longest write before: {:?}", load.flow(READY).await);
        let began = Instant::now();
        let code = cluster.stop(leaver, STOP_MAX).await;
        let stopped = began.elapsed();
        let outage = load.flow(READY).await;
        println!(
            "node {leaver}, leader of {led}: stopped in {stopped:?}, longest write {outage:?}"
        );
        assert_eq!(code, Some(0));
        assert!(outage < OUTAGE_MAX, "writes stood still for {outage:?}");
        cluster.start_nodes(&[leaver]).await;
    }
    let written = load.stop().await;
    println!("{} unknown, {} refused and tried again", written.unknown, written.refused);
    cluster.wait_caught_up(NodeId(1)).await;
    read_back(&cluster.redis(), &written).await;
}
