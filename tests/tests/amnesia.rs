//! Directories that have forgotten their node's promises stay out, whatever is tried with them.
//!
//! Method: three engines in one process, whose directories are rolled back, or lose one of their
//! two stores, as happens by operators, backups and unmounted volumes (RULES 4, 5 and 17).

use std::path::Path;

use quorate::{Engine, NodeId, OpenFault, ReadLevel};
use quorate_tests::cluster::{
    ClusterSpec, READY, close, copy_directory, identity_error, introduce, key,
};

const SECOND: NodeId = NodeId(2);
const THIRD: NodeId = NodeId(3);

/// Why `node` does not open.
fn refusal(spec: &ClusterSpec, node: NodeId) -> OpenFault {
    let mut error = spec.open(node).err().expect("this directory must not open");
    assert_eq!(error.faults.len(), 1, "{error}");
    error.faults.remove(0)
}

async fn take(engines: &mut Vec<Engine>, node: NodeId) {
    let at = engines.iter().position(|engine| engine.node() == node).expect("it runs");
    engines.remove(at).shutdown().await;
}

fn add(spec: &ClusterSpec, engines: &mut Vec<Engine>, node: NodeId) {
    engines.push(spec.open(node).expect("opens"));
    introduce(engines);
}

fn restore(copy: &Path, to: &Path) {
    std::fs::remove_dir_all(to).expect("it was there");
    copy_directory(copy, to);
}

async fn value(engine: &Engine, number: u64, level: ReadLevel) -> Option<Vec<u8>> {
    engine.get(&key(number), level).await.expect("served").map(|value| value.to_vec())
}

/// Goal: no number of starts lets a rolled-back directory in, and what was acknowledged while it
/// was current stays. Method: node 2 is restored to the state before its last life, in which it and
/// node 1 acknowledged a write; both others refuse it once, then it is started again and again,
/// also when the only node up is one that missed that write.
#[tokio::test]
async fn a_rolled_back_directory_stays_out() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let (second, copy) = (directory.path().join("node-2"), directory.path().join("copy"));
    let mut engines = spec.open_all().await;
    engines[0].put(key(1), "a").await.expect("up");
    take(&mut engines, SECOND).await;
    copy_directory(&second, &copy);
    add(&spec, &mut engines, SECOND);
    engines[2].wait_ready(READY).await.expect("three nodes");
    take(&mut engines, THIRD).await;
    engines[0].put(key(1), "b").await.expect("acknowledged by 1 and 2");
    take(&mut engines, SECOND).await;
    restore(&copy, &second);

    add(&spec, &mut engines, THIRD);
    add(&spec, &mut engines, SECOND);
    let reason = identity_error(&engines[2]).await;
    assert!(reason.contains("two processes run from copies"), "{reason}");
    take(&mut engines, SECOND).await;
    for _start in 0..3 {
        let fault = refusal(&spec, SECOND);
        let OpenFault::Ended { reason } = &fault else { panic!("{fault}") };
        assert!(reason.contains("two processes run from copies"), "{reason}");
        assert!(fault.to_string().contains("node id that was never used"), "{fault}");
    }
    engines[0].wait_ready(READY).await.expect("1 and 3 go on");
    let found = value(&engines[1], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"b"[..]));
    close(engines).await;
}

/// Goal: starts that no other node saw prove nothing either. Method: the same copy is started alone
/// until it counts more starts than the true directory ever had, and meets only the node that
/// missed the write.
#[tokio::test]
async fn starts_in_private_are_no_descent() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let (second, copy) = (directory.path().join("node-2"), directory.path().join("copy"));
    let mut engines = spec.open_all().await;
    take(&mut engines, SECOND).await;
    copy_directory(&second, &copy);
    add(&spec, &mut engines, SECOND);
    engines[2].wait_ready(READY).await.expect("three nodes");
    take(&mut engines, THIRD).await;
    engines[0].put(key(1), "b").await.expect("acknowledged by 1 and 2");
    close(engines).await;
    restore(&copy, &second);
    for _start in 0..4 {
        spec.open(SECOND).expect("alone, nobody can tell").shutdown().await;
    }
    let mut engines = Vec::new();
    add(&spec, &mut engines, THIRD);
    add(&spec, &mut engines, SECOND);
    let reason = identity_error(&engines[1]).await;
    assert!(reason.contains("does not know the incarnation 2 that was seen"), "{reason}");
    assert!(!engines[0].readiness().ready, "one of three must not serve");
    take(&mut engines, SECOND).await;
    assert!(matches!(refusal(&spec, SECOND), OpenFault::Ended { .. }));

    add(&spec, &mut engines, NodeId(1));
    engines[0].wait_ready(READY).await.expect("1 and 3 are the cluster");
    let found = value(&engines[0], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"b"[..]));
    close(engines).await;
}

/// Goal: a node that missed a start of another one learns of it from the cluster, not only from
/// that node. Method: node 3 is down from before node 2's second start until after its end; it
/// meets node 1 alone, which then stops; then the copy from before that start comes.
#[tokio::test]
async fn a_sleeper_hears_of_starts_from_the_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 1);
    let (second, copy) = (directory.path().join("node-2"), directory.path().join("copy"));
    let mut engines = spec.open_all().await;
    let mut map = engines[0].watch_map();
    // The founding, and the registration of each node.
    while map.current().revision < 4 {
        map.changed().await.expect("all register");
    }
    take(&mut engines, SECOND).await;
    copy_directory(&second, &copy);
    take(&mut engines, THIRD).await;
    let before = map.current().revision;
    add(&spec, &mut engines, SECOND);
    while map.current().revision == before {
        map.changed().await.expect("node 2 registers");
    }
    engines[0].put(key(1), "b").await.expect("acknowledged by 1 and 2");
    take(&mut engines, SECOND).await;
    let told = map.current().revision;
    restore(&copy, &second);

    add(&spec, &mut engines, THIRD);
    let mut heard = engines[1].watch_map();
    while heard.current().revision < told {
        heard.changed().await.expect("node 3 hears the map");
    }
    take(&mut engines, NodeId(1)).await;
    add(&spec, &mut engines, SECOND);
    let reason = identity_error(&engines[1]).await;
    assert!(reason.contains("incarnation 2 twice"), "{reason}");
    take(&mut engines, SECOND).await;
    add(&spec, &mut engines, NodeId(1));
    engines[0].wait_ready(READY).await.expect("1 and 3 are the cluster");
    let found = value(&engines[0], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"b"[..]));
    close(engines).await;
}

/// Goal: an honest node is let in however often it was restarted, also by a peer that missed all
/// its restarts.
#[tokio::test]
async fn a_true_directory_is_known_after_many_starts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 1);
    let mut engines = spec.open_all().await;
    take(&mut engines, THIRD).await;
    for _start in 0..4 {
        take(&mut engines, SECOND).await;
        add(&spec, &mut engines, SECOND);
        engines[1].wait_ready(READY).await.expect("1 and 2");
    }
    take(&mut engines, NodeId(1)).await;
    add(&spec, &mut engines, THIRD);
    engines[1].wait_ready(READY).await.expect("2 and 3, which met at 2's first start");
    engines[1].put(key(1), "x").await.expect("and serve");
    close(engines).await;
}

/// Goal: a log that is missing beside data is not made anew, and nothing is applied twice once the
/// log is back.
#[tokio::test]
async fn a_missing_log_is_not_made_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 1);
    let second = directory.path().join("node-2");
    let mut engines = spec.open_all().await;
    for _time in 0..100 {
        engines[0].increment(key(1), 1).await.expect("up, and a number");
    }
    // Node 2 itself has applied it when it answers.
    value(&engines[1], 1, ReadLevel::Linearizable).await;
    take(&mut engines, SECOND).await;
    std::fs::rename(second.join("log"), second.join("away")).expect("moved");
    for _start in 0..2 {
        let fault = refusal(&spec, SECOND);
        assert!(matches!(fault, OpenFault::Stores { .. }), "{fault}");
        let text = fault.to_string();
        for words in ["the data of node 2", "is a volume not mounted?", "Put the log back"] {
            assert!(text.contains(words), "{text}");
        }
    }
    assert!(!second.join("log").exists(), "a refused start leaves nothing");
    std::fs::rename(second.join("away"), second.join("log")).expect("moved back");
    add(&spec, &mut engines, SECOND);
    engines[2].wait_ready(READY).await.expect("it goes on");
    let found = value(&engines[2], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"100"[..]));
    let found = value(&engines[2], 1, ReadLevel::Stale).await;
    assert_eq!(found.as_deref(), Some(&b"100"[..]), "the replica of node 2 itself");
    close(engines).await;
}

/// Goal: a cluster whose logs are all missing is not founded anew, and serves once they are back.
#[tokio::test]
async fn without_any_log_no_cluster_is_founded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 1);
    let engines = spec.open_all().await;
    engines[0].put(key(1), "kept").await.expect("up");
    close(engines).await;
    let stores = |node: &NodeId| {
        let node = directory.path().join(format!("node-{node}"));
        (node.join("log"), node.join("away"))
    };
    for (log, away) in spec.nodes.iter().map(stores) {
        std::fs::rename(log, away).expect("moved");
    }
    for node in &spec.nodes {
        assert!(matches!(refusal(&spec, *node), OpenFault::Stores { .. }));
    }
    for (log, away) in spec.nodes.iter().map(stores) {
        std::fs::rename(away, log).expect("moved back");
    }
    let engines = spec.open_all().await;
    let found = value(&engines[2], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"kept"[..]));
    close(engines).await;
}

/// Goal: data that is missing, is another node's, or is from another time than the log is refused
/// by name.
#[tokio::test]
async fn log_and_data_belong_together() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 1);
    let place = |node: u64, store: &str| directory.path().join(format!("node-{node}")).join(store);
    let engines = spec.open_all().await;
    close(engines).await;
    copy_directory(&place(2, "log"), &directory.path().join("old-log"));
    let engines = spec.open_all().await;
    engines[0].put(key(1), "kept").await.expect("up");
    // Node 2 itself has applied it when it answers.
    value(&engines[1], 1, ReadLevel::Linearizable).await;
    close(engines).await;

    // Missing.
    std::fs::rename(place(2, "data"), place(2, "away")).expect("moved");
    let text = refusal(&spec, SECOND).to_string();
    assert!(text.contains("holds no data: is a volume not mounted?"), "{text}");
    // Another node's.
    std::fs::rename(place(3, "data"), place(2, "data")).expect("moved");
    let text = refusal(&spec, SECOND).to_string();
    assert!(text.contains("the log of node 2") && text.contains("the data of node 3"), "{text}");
    std::fs::rename(place(2, "data"), place(3, "data")).expect("moved back");
    std::fs::rename(place(2, "away"), place(2, "data")).expect("moved back");
    // Of a later time.
    std::fs::rename(place(2, "log"), place(2, "away")).expect("moved");
    copy_directory(&directory.path().join("old-log"), &place(2, "log"));
    let text = refusal(&spec, SECOND).to_string();
    assert!(text.contains("but the log ends at"), "{text}");
    std::fs::remove_dir_all(place(2, "log")).expect("it was there");
    std::fs::rename(place(2, "away"), place(2, "log")).expect("moved back");

    let engines = spec.open_all().await;
    let found = value(&engines[1], 1, ReadLevel::Linearizable).await;
    assert_eq!(found.as_deref(), Some(&b"kept"[..]));
    close(engines).await;
}
