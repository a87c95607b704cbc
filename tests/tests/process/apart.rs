//! Two nodes that can't reach each other.

use std::time::Duration;

use quorate::NodeId;
use quorate_tests::link::Link;
use quorate_tests::process::{NodeProcess, ProcessCluster, assert_serves, until};

use crate::{CLUSTER, PROGRAM, turn};

const FIRST: NodeId = NodeId(1);
const THIRD: NodeId = NodeId(3);
/// A connection ends after five seconds of silence, and then replicas look for leaders in vain.
const NOTICED: Duration = Duration::from_secs(40);
const EXIT: Duration = Duration::from_secs(20);

/// The output of `quorate status` when node 2 is asked: its exit code, and its text.
async fn status(cluster: &ProcessCluster, round: usize) -> (Option<i32>, String) {
    let admin = format!("http://{}", cluster.addresses(NodeId(2)).admin);
    let output = cluster.path().join(format!("status-{round}.txt"));
    let words = ["status", "--admin", &admin];
    let mut asking = NodeProcess::run("status", PROGRAM, &words, &output);
    (asking.wait_exit(EXIT).await, asking.said())
}

/// Goal: when nodes 1 and 3 lose each other, and node 2 hears both, every Redis port still takes
/// every write, and an operator who asks node 2 is told which pair it is and what to do, with exit
/// code 1. Method: the datagrams of nodes 1 and 3 pass through the test's own sockets.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lost_each_other_serve_and_are_named() {
    let _turn = turn();
    let mut cluster = ProcessCluster::prepare(CLUSTER);
    let (first, third) = (cluster.addresses(FIRST).address, cluster.addresses(THIRD).address);
    let link = Link::between(first, third).await;
    for (node, other, way) in [(FIRST, THIRD, link.second()), (THIRD, FIRST, link.first())] {
        let mut configuration = cluster.configuration(node);
        let entry = configuration.nodes.iter_mut().find(|(id, _)| *id == other);
        entry.expect("one of the cluster").1.address = way;
        configuration.write(&cluster.configuration_path(node));
    }
    cluster.start_nodes(&ProcessCluster::NODES).await;
    assert_serves(&cluster.redis(), "whole").await;

    link.cut();
    let mut round = 0;
    let said = until("the status names the pair", NOTICED, async || {
        round += 1;
        let (code, said) = status(&cluster, round).await;
        match said.contains("nodes 1 and 3 do not hear each other") {
            true if code == Some(1) => Ok(said),
            _ => Err(format!("exit code {code:?}: {said}")),
        }
    })
    .await;
    assert!(said.contains("let UDP pass both ways"), "the remedy: {said}");
    assert!(said.starts_with("DEGRADED"), "{said}");
    assert_serves(&cluster.redis(), "apart").await;

    link.mend();
    until("all is well again", NOTICED, async || {
        round += 1;
        let (code, said) = status(&cluster, round).await;
        if code == Some(0) { Ok(()) } else { Err(said) }
    })
    .await;
}
