//! Which directories may speak under a node's name: new, wiped, copied and clock-wrong ones.
//!
//! Method: three engines in one process, whose directories are emptied, copied and restored between
//! their lives, as operators do by mistake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate::{Engine, NodeId, ReadLevel, WallMillis};
use quorate_node::report::ClusterReport;
use quorate_tests::cluster::{
    ClusterSpec, READY, close, copy_directory, even, identity_error, introduce, key,
};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Goal: the replicas of a new directory are silent until every founder has met it. Method: start
/// two of three, which would be a majority, and check; then start the third.
#[tokio::test]
async fn a_cluster_is_founded_when_all_founders_have_met() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let mut engines: Vec<Engine> =
        (1..=2).map(|node| spec.open(NodeId(node)).expect("opens")).collect();
    introduce(&engines);
    let met = async {
        while engines.iter().any(|engine| engine.readiness().founders_missing != [NodeId(3)]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(READY, met).await.expect("the two meet");
    // Longer than any election would take.
    let waited = engines[0].wait_ready(Duration::from_millis(2_500)).await;
    assert!(waited.is_err(), "two founders must not elect a leader alone");
    let readiness = engines[1].readiness();
    assert!(!readiness.ready && !readiness.founded, "{readiness:?}");

    engines.push(spec.open(NodeId(3)).expect("opens"));
    introduce(&engines);
    for engine in &engines {
        engine.wait_ready(READY).await.expect("three are founded");
    }
    engines[2].put(key(1), "x").await.expect("and serve");

    // Once founded, a majority is enough forever.
    close(engines).await;
    let engines: Vec<Engine> =
        (1..=2).map(|node| spec.open(NodeId(node)).expect("opens")).collect();
    introduce(&engines);
    engines[0].wait_ready(READY).await.expect("two of three go on");
    close(engines).await;
}

/// Goal: founders with different first maps found no cluster together, and say so.
#[tokio::test]
async fn different_first_maps_found_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let mut engines: Vec<Engine> =
        (1..=2).map(|node| spec.open(NodeId(node)).expect("opens")).collect();
    let other = even(&spec.nodes, 3);
    let builder = spec.builder(NodeId(3), SocketAddr::from(LOOPBACK)).bootstrap(other);
    engines.push(builder.open().expect("opens"));
    introduce(&engines);
    let refused = async {
        loop {
            let peers = engines[2].status().await.peers;
            if peers.iter().all(|peer| peer.last_failure.is_some()) {
                return peers[1].last_failure.clone().unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reason = tokio::time::timeout(READY, refused).await.expect("refused in time");
    assert!(reason.contains("nodes 2 and 3 were made for different first maps"), "{reason}");
    assert!(engines.iter().all(|engine| !engine.readiness().founded));
    // The remedy, as given: correct it, empty the directory, start again.
    engines.pop().expect("three").shutdown().await;
    let reopened = spec.open(NodeId(3)).err().expect("made for another map");
    assert!(reopened.to_string().contains("made for"), "{reopened}");
    std::fs::remove_dir_all(directory.path().join("node-3")).expect("it was there");
    engines.push(spec.open(NodeId(3)).expect("opens"));
    introduce(&engines);
    engines[2].wait_ready(READY).await.expect("founded");
    close(engines).await;
}

/// Goal: nothing is promised before the founding, so a founder may begin again with an empty
/// directory, also one that others have met.
#[tokio::test]
async fn a_founder_may_begin_again_before_the_founding() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let mut engines: Vec<Engine> =
        (1..=2).map(|node| spec.open(NodeId(node)).expect("opens")).collect();
    introduce(&engines);
    let met = async {
        while engines.iter().any(|engine| engine.readiness().founders_missing != [NodeId(3)]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(READY, met).await.expect("the two meet");
    engines.pop().expect("two").shutdown().await;
    std::fs::remove_dir_all(directory.path().join("node-2")).expect("it was there");
    engines.extend((2..=3).map(|node| spec.open(NodeId(node)).expect("opens")));
    introduce(&engines);
    for engine in &engines {
        engine.wait_ready(READY).await.expect("founded with the new directory");
    }
    close(engines).await;
}

/// Goal: a directory that knows its cluster ignores a later bootstrap that tells it to make
/// replicas: they would be a second group under the same names.
#[tokio::test]
async fn a_later_bootstrap_makes_no_replicas() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 4);
    let mut engines = spec.open_all().await;
    let fourth = || spec.builder(NodeId(4), SocketAddr::from(LOOPBACK));
    engines.push(fourth().open().expect("a node without replicas"));
    introduce(&engines);
    engines[3].put(key(1), "x").await.expect("it forwards");
    engines.pop().expect("four").shutdown().await;
    let nodes: Vec<NodeId> = (1..=4).map(NodeId).collect();
    let changed = fourth().bootstrap(even(&nodes, 4));
    engines.push(changed.open().expect("the bootstrap is not looked at"));
    introduce(&engines);
    assert!(engines[3].status().await.shards.is_empty(), "it holds no replica");
    let value = engines[3].get(&key(1), ReadLevel::Linearizable).await.expect("forwarded");
    assert_eq!(value.as_deref(), Some(&b"x"[..]));
    close(engines).await;
}

/// Goal: a directory restored from a copy of the life just before would speak with an incarnation
/// that the peers have heard from another process; it must not speak at all (RULE 5).
#[tokio::test]
async fn a_restored_copy_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let third = directory.path().join("node-3");
    let copy = directory.path().join("copy");
    let engines = spec.open_all().await;
    close(engines).await;
    copy_directory(&third, &copy);
    let mut engines = spec.open_all().await;
    for number in 0..50 {
        engines[2].put(key(number), "kept").await.expect("up");
    }
    engines.remove(2).shutdown().await;
    std::fs::remove_dir_all(&third).expect("it was there");
    copy_directory(&copy, &third);
    engines.push(spec.open(NodeId(3)).expect("a copy opens"));
    introduce(&engines);
    let reason = identity_error(&engines[2]).await;
    assert!(reason.contains("two processes run from copies"), "{reason}");
    for number in 0..50 {
        let value = engines[0].get(&key(number), ReadLevel::Linearizable).await.expect("up");
        assert_eq!(value.as_deref(), Some(&b"kept"[..]));
    }
    close(engines).await;
}

/// Goal: a node whose clock is far off is refused by name, the others are unharmed, and once the
/// clock is right the node is let in.
#[tokio::test]
async fn a_clock_far_off_is_refused_until_it_is_set() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    close(spec.open_all().await).await;
    let mut engines: Vec<Engine> =
        (1..=2).map(|node| spec.open(NodeId(node)).expect("opens")).collect();
    let fast = Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        WallMillis(u64::try_from(since.as_millis()).expect("fits") + 3_600_000)
    });
    let builder = spec.builder(NodeId(3), SocketAddr::from(LOOPBACK)).wall_clock(fast);
    engines.push(builder.open().expect("opens"));
    introduce(&engines);
    let refused = async {
        loop {
            let peers = engines[2].status().await.peers;
            if peers.iter().all(|peer| peer.last_failure.is_some()) {
                return peers[0].last_failure.clone().unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reason = tokio::time::timeout(READY, refused).await.expect("refused in time");
    assert!(reason.contains("apart, that of node 3 is ahead"), "{reason}");
    engines[0].wait_ready(READY).await.expect("the others serve");
    engines[1].put(key(1), "x").await.expect("unharmed");
    let cluster = engines[0].cluster_status(Duration::from_secs(2)).await;
    let cluster = ClusterReport::from(&cluster);
    let told = |problem: &String| problem.contains("apart, that of node 3 is ahead");
    assert!(cluster.problems.iter().any(told), "{cluster:?}");
    engines.remove(2).shutdown().await;
    engines.push(spec.open(NodeId(3)).expect("opens"));
    introduce(&engines);
    engines[2].wait_ready(READY).await.expect("let in with a right clock");
    close(engines).await;
}
