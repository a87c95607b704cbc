//! What a node logs: when nobody reads it, and how much about other nodes that come and go.

use std::time::Duration;

use quorate::NodeId;
use quorate_tests::process::{NodeProcess, ProcessCluster, READY, assert_serves, http_get, until};

use crate::{CLUSTER, PROGRAM, turn};

const SECOND: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);
const ANSWER: Duration = Duration::from_secs(5);
/// A node that stops hands over its leaderships first.
const STOP_MAX: Duration = Duration::from_secs(20);
/// A connection ends after five seconds of silence.
const GONE: Duration = Duration::from_secs(30);
/// Lets the dial attempts of two nodes pile up at a node that sleeps.
const SLEEP: Duration = Duration::from_secs(5);

/// Goal: a node whose log has lost its reader, and one whose reader does not read, continue as if
/// nothing had happened: links come back, requests are served, a signal stops them. Method: node 2
/// logs every connection into a pipe whose reader is dropped; node 1 logs everything into one that
/// is never read and soon full; node 3 is killed and started again, which both of them log.
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

/// Waits until each of the other nodes has logged `times` times that node 3 is gone, or back.
async fn wait_told(cluster: &ProcessCluster, words: &str, times: usize) {
    for node in [NodeId(1), SECOND] {
        let told = || {
            let said = cluster.process(node).said();
            said.lines().filter(|line| line.contains(words) && line.contains("peer=3")).count()
        };
        until(&format!("node {node} says {words:?}"), GONE, async || match told() {
            found if found >= times => Ok(()),
            _ => Err(cluster.process(node).said_last()),
        })
        .await;
        assert_eq!(told(), times, "{}", cluster.process(node).said_last());
    }
}

/// Goal: when a node dies or sleeps, the others log one line when it goes and one when it comes
/// back; the sleeper that wakes up suspects no certificates. Method: the default log of real
/// processes; node 3 is killed and started again, then stopped for longer than connections last.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_and_comes_back_is_a_line_each() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    cluster.kill(THIRD);
    wait_told(&cluster, "the peer is gone", 1).await;
    cluster.start_nodes(&[THIRD]).await;
    wait_told(&cluster, "the peer is back", 1).await;

    cluster.process(THIRD).pause();
    wait_told(&cluster, "the peer is gone", 2).await;
    tokio::time::sleep(SLEEP).await;
    cluster.process(THIRD).resume();
    wait_told(&cluster, "the peer is back", 2).await;
    cluster.wait_ready(THIRD).await;
    let said = cluster.process(THIRD).said();
    assert!(!said.contains("authority"), "nobody's certificate is wrong: {said}");
}

/// Goal: a demo that is asked to stop stops without a warning. Method: its own process and a
/// signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_stopped_warns_of_nothing() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let words = ["demo", "--shards", "4", "--redis-port", "0", "--admin-port", "0"];
    let output = directory.path().join("demo.txt");
    let mut demo = NodeProcess::run("demo", PROGRAM, &words, &output);
    demo.wait_said("Ctrl-C ends it.", READY).await;
    assert_eq!(demo.stop(STOP_MAX).await, Some(0));
    let said = demo.said();
    let (_, after) = said.split_once("Stopping.").expect("it says so");
    assert!(!after.contains("WARN"), "{said}");
}
