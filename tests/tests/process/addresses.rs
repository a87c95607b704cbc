//! Nodes that are reached elsewhere than before.

use quorate::NodeId;
use quorate_tests::process::{Load, ProcessCluster, READY, read_back, until};

use crate::{CLUSTER, WRITERS, turn};

/// Goal: a node is who it was, wherever it listens; also when all nodes move at once, as after the
/// restart of a whole site. Method: all addresses change between two lives of the cluster, in all
/// configurations; the new ones are announced, and what was written before is there.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_may_change_their_addresses_at_once() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    let load = Load::start("before", &cluster.redis(), WRITERS);
    load.flow(READY).await;
    let written = load.stop().await;
    for node in ProcessCluster::NODES {
        assert_eq!(cluster.stop(node, READY).await, Some(0));
    }
    let before = ProcessCluster::NODES.map(|node| cluster.addresses(node));
    cluster.change_addresses();
    cluster.start_nodes(&ProcessCluster::NODES).await;
    cluster.wait_caught_up(NodeId(1)).await;
    read_back(&cluster.redis(), &written).await;
    for (node, before) in ProcessCluster::NODES.into_iter().zip(before) {
        let now = cluster.addresses(node);
        assert_ne!(now.address, before.address);
        until("the new address is announced", READY, async || {
            let status = cluster.status(NodeId(2)).await?;
            let told =
                status.nodes.iter().find(|found| found.node == node.0).ok_or("not listed")?;
            match told.address == now.address.to_string() {
                true => Ok(()),
                false => Err(told.address.clone()),
            }
        })
        .await;
    }
    let load = Load::start("after", &cluster.redis(), WRITERS);
    load.flow(READY).await;
    let written = load.stop().await;
    read_back(&cluster.redis(), &written).await;
}
