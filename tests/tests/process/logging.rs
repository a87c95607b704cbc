//! What a node says finds no reader.

use std::time::Duration;

use quorate::NodeId;
use quorate_tests::process::{ProcessCluster, assert_serves, http_get};

use crate::{CLUSTER, turn};

const SECOND: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);
const ANSWER: Duration = Duration::from_secs(5);
/// A stop hands leaderships over first.
const STOP_MAX: Duration = Duration::from_secs(20);

/// Goal: a node whose log nobody reads any more, and one whose reader does not read, go on as if
/// nothing was: links come back, requests are served, a signal stops them. Method: node 2 logs
/// every connection into a pipe whose reader is dropped; node 1 logs everything into one that is
/// never read and soon full; node 3 is killed and started again, which both of them log.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_reader_harms_nobody() {
    let _turn = turn();
    let mut cluster = ProcessCluster::prepare(CLUSTER);
    let unread = cluster.spawn_piped(NodeId(1), "trace");
    let closed = cluster.spawn_piped(SECOND, "info");
    cluster.start_nodes(&[THIRD]).await;
    cluster.wait_ready(SECOND).await;
    drop(closed);

    cluster.kill(THIRD);
    assert_serves(&cluster.redis_without(THIRD), "two").await;
    cluster.start_nodes(&[THIRD]).await;
    for node in ProcessCluster::NODES {
        cluster.wait_ready(node).await;
    }
    assert_serves(&cluster.redis(), "all").await;

    let metrics = http_get(cluster.addresses(SECOND).admin, "/metrics", ANSWER).await;
    let metrics = metrics.expect("it answers").body;
    let dropped = metrics.lines().find(|line| line.starts_with("quorate_logged_lines_dropped"));
    let dropped = dropped.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(dropped.is_some_and(|dropped| dropped > 0), "lines were lost, and counted: {metrics}");
    for node in [NodeId(1), SECOND] {
        assert_eq!(cluster.stop(node, STOP_MAX).await, Some(0), "node {node}");
    }
    drop(unread);
}
