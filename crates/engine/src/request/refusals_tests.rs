//! Goal: a caller whose deadline passes is told why its request was not done. Method: real engines, and
//! a clock of the caller that jumps over its pauses; the engines' own clocks are real.

use quorate_types::NodeId;

use crate::calls::read::ReadLevel;
use crate::error::{ReadError, Refusal, WriteError};
use crate::request::retry::{Next, Retry};
use crate::test_engines::{KEY, SHARD, TestEngines};

/// An unreachable node is not "no leader", and names the node.
#[tokio::test]
async fn a_leader_out_of_reach_is_named() {
    let mut cluster = TestEngines::open(2, 1).await;
    let leader = cluster.engines.remove(0);
    leader.shutdown().await;
    let asker = &cluster.engines[0];
    tokio::time::pause();
    let refusal = match asker.put(KEY.to_vec(), "x").await {
        Err(WriteError::DidNotHappen(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let names = |refusal: &Refusal| {
        matches!(refusal, Refusal::Unreachable { shard: SHARD, node: NodeId(1), .. })
    };
    assert!(names(&refusal), "{refusal:?}");
    let read = asker.get(&KEY, ReadLevel::Linearizable).await;
    assert!(matches!(&read, Err(ReadError(refusal)) if names(refusal)), "{read:?}");
    tokio::time::resume();
    cluster.stop().await;
}

/// A queue that stays full is reported as that until the deadline.
#[tokio::test]
async fn a_full_queue_is_busy() {
    let mut cluster = TestEngines::open(1, 1).await;
    let dispatch = cluster.engines[0].running.dispatch();
    let route = dispatch.route(&KEY).expect("a shard");
    tokio::time::pause();
    let mut retry = Retry::new();
    let refusal = loop {
        if let Err(refusal) = retry.prepare(dispatch, &route, Next::Busy).await {
            break refusal;
        }
    };
    assert!(matches!(refusal, Refusal::Busy { .. }), "{refusal:?}");
    tokio::time::resume();
    cluster.stop().await;
}

/// A transfer to a node without a voter says so, and one asked of a node without a replica names
/// those that have one.
#[tokio::test]
async fn a_transfer_is_refused_for_its_reason() {
    let mut cluster = TestEngines::open(2, 1).await;
    let [leader, other] = [0, 1].map(|at| cluster.engines[at].clone());
    let refusal = leader.transfer_leader(SHARD, NodeId(2)).await;
    assert_eq!(refusal, Err(Refusal::NotAVoter { shard: SHARD, node: NodeId(2) }));
    let refusal = other.transfer_leader(SHARD, NodeId(2)).await;
    assert_eq!(refusal, Err(Refusal::NotHere { shard: SHARD, nodes: vec![NodeId(1)] }));
    drop((leader, other));
    cluster.stop().await;
}
