//! All nodes are killed at once.

use std::time::{Duration, Instant};

use quorate_tests::process::{Load, ProcessCluster, READY, read_back};

use crate::{CLUSTER, WRITERS, chaos, turn};

/// Goal: an outage of all nodes loses nothing that was acknowledged. Method: kill them under load,
/// start them again, read everything through every port.
#[tokio::test(flavor = "multi_thread")]
async fn all_killed_at_once_come_back_with_every_acknowledged_write() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    let ends = Instant::now() + chaos(Duration::ZERO);
    let mut round = 0;
    while round < 2 || Instant::now() < ends {
        round += 1;
        let load = Load::start(&format!("round-{round}"), &cluster.redis(), WRITERS);
        load.flow(READY).await;
        load.flow(READY).await;
        ProcessCluster::NODES.into_iter().for_each(|node| cluster.kill(node));
        let written = load.stop().await;
        assert!(!written.sets.is_empty());
        let began = Instant::now();
        cluster.start_nodes(&ProcessCluster::NODES).await;
        println!(
            "round {round}: ready {:?} after the start, {} writes acknowledged, {} unknown",
            began.elapsed(),
            written.sets.len(),
            written.unknown
        );
        read_back(&cluster.redis(), &written).await;
    }
}
