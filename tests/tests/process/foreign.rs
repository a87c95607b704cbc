//! Processes under a false identity, or with a wrong clock: their peers refuse them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use quorate::{NodeId, WallMillis};
use quorate_tests::process::{
    Addresses, Configuration, NodeProcess, ProcessCluster, ProcessSpec, READY, assert_serves,
    http_get, until,
};

use crate::refused::ForeignCluster;
use crate::{CLUSTER, turn};

/// It dials all others at once, as the node with the lower id of two does.
const FIRST: NodeId = NodeId(1);
/// It is dialed by all others, at the addresses that they know, and dials only after a while.
const THIRD: NodeId = NodeId(3);
const EXIT: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(5);

/// Asserts that the cluster's peers end `process`, and that it says all of `words`.
async fn assert_ended(process: &mut NodeProcess, words: &[&str]) {
    let code = process.wait_exit(EXIT).await;
    let said = process.said();
    println!("exit code {code:?}: {said}");
    assert_eq!(code, Some(1), "{said}");
    for word in words.iter().chain(&["the cluster refuses this node", "never used"]) {
        assert!(said.contains(word), "it should say {word:?}: {said}");
    }
}

/// `configuration` at other addresses, so that it can run beside the original.
fn elsewhere(configuration: &Configuration) -> Configuration {
    let mut other = configuration.clone();
    *other.own_mut() = Addresses::draw(1).remove(0);
    other
}

/// Goal: RULE 5. A node that lost its directory can't continue under its old id. Method: kill it,
/// wipe it, start it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_is_refused_under_its_old_id() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    cluster.kill(THIRD);
    fs::remove_dir_all(cluster.data_path(THIRD)).expect("it was there");
    cluster.spawn(THIRD);
    let words = ["wiped or foreign directory", "join as a new node"];
    assert_ended(cluster.process_mut(THIRD), &words).await;
    assert_serves(&cluster.redis_without(THIRD), "others").await;
}

/// Goal: a second process under the id of a running node is refused, and the first one continues.
/// Method: another directory, other ports, the same certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_of_one_id_is_refused() {
    let _turn = turn();
    refuse_second_process(FIRST).await;
}

/// Goal: the same for a node that its peers dial, at another address: it has to find out by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_that_nobody_dials_is_refused() {
    let _turn = turn();
    refuse_second_process(THIRD).await;
}

async fn refuse_second_process(node: NodeId) {
    let cluster = ProcessCluster::start(CLUSTER).await;
    let own = cluster.configuration(node);
    let directory = cluster.path().join("second");
    let second = elsewhere(&Configuration { directory, ..own });
    let mut process = cluster.spawn_beside("second-process", &second);
    assert_ended(&mut process, &["wiped or foreign directory"]).await;
    assert_serves(&cluster.redis(), "all").await;
    cluster.wait_caught_up(node).await;
}

/// Goal: of a directory and its copy only the one that was here first continues. Method: a copy of
/// a stopped node's directory, started beside the original.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_the_original_is_refused() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    assert_eq!(cluster.stop(FIRST, EXIT).await, Some(0));
    let own = cluster.configuration(FIRST);
    let directory = cluster.path().join("copy");
    copy_directory(&own.directory, &directory);
    let older = cluster.path().join("older");
    copy_directory(&own.directory, &older);
    cluster.start_nodes(&[FIRST]).await;
    cluster.wait_caught_up(FIRST).await;
    let copy = elsewhere(&Configuration { directory, ..own.clone() });
    let mut process = cluster.spawn_beside("copy", &copy);
    assert_ended(&mut process, &["two processes run from copies of one directory"]).await;
    assert_serves(&cluster.redis(), "all").await;
    let mut process = cluster.spawn_beside("copy-again", &copy);
    assert_eq!(process.wait_exit(EXIT).await, Some(1), "it has noted its end");
    assert!(process.said().contains("must not be started again"), "{}", process.said());

    // An older copy: the original has started twice since.
    cluster.kill(FIRST);
    cluster.start_nodes(&[FIRST]).await;
    cluster.kill(FIRST);
    cluster.start_nodes(&[FIRST]).await;
    cluster.wait_caught_up(FIRST).await;
    let copy = elsewhere(&Configuration { directory: older, ..own });
    let mut process = cluster.spawn_beside("older-copy", &copy);
    assert_ended(&mut process, &["restored copy of the directory"]).await;
    assert_serves(&cluster.redis(), "all again").await;
    cluster.wait_caught_up(FIRST).await;
}

/// Goal: a process with certificates of another cluster reaches no node and says so, as do its
/// peers. Method: an empty directory and another authority in place of a killed node.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_another_cluster_reach_nobody() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    cluster.kill(THIRD);
    let foreign = ForeignCluster::make(&cluster, 0xbad);
    let directory = cluster.path().join("stranger");
    let stranger = Configuration { directory, ..cluster.configuration(THIRD) };
    let mut process = cluster.spawn_beside("stranger", &foreign.configuration(&stranger));
    println!("{}", process.wait_said("certificate", EXIT).await);
    println!("{}", cluster.process(FIRST).wait_said("certificate", EXIT).await);
    let admin = cluster.addresses(THIRD).admin;
    let ready = http_get(admin, "/ready", ANSWER).await.expect("it runs");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("founders_missing"), "{}", ready.body);
    assert!(process.exited().is_none(), "it tries on, as its peers may be repaired");
    assert_eq!(process.stop(EXIT).await, Some(0));
    assert_serves(&cluster.redis_without(THIRD), "others").await;
    cluster.start_nodes(&[THIRD]).await;
    assert_serves(&cluster.redis(), "all").await;
}

/// Goal: a node whose clock is an hour off is refused, with the reason on both sides, and is let in
/// as soon as the clocks agree. Method: the clock of the node in the test's own process is moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wrong_clock_waits_outside() {
    let _turn = turn();
    let cluster = ProcessCluster::start(ProcessSpec { has_guest: true, ..CLUSTER }).await;
    let ahead_ms = Arc::new(AtomicU64::new(3_600_000));
    let shift = ahead_ms.clone();
    let clock = move || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let now = u64::try_from(now.as_millis()).expect("64 bits are enough for it");
        WallMillis(now + shift.load(Ordering::Relaxed))
    };
    let engine = cluster.guest().wall_clock(Arc::new(clock)).open().expect("a new directory");
    let reasons = until("every peer says why", READY, async || {
        let status = engine.status().await;
        let reasons: Vec<String> =
            status.peers.iter().filter_map(|peer| peer.last_failure.clone()).collect();
        let is_out = status.peers.iter().all(|peer| !peer.connected);
        if reasons.len() == 3 && is_out { Ok(reasons) } else { Err(format!("{reasons:?}")) }
    })
    .await;
    println!("{}", reasons.join("\n"));
    for reason in &reasons {
        assert!(reason.contains("node 4 is ahead"), "{reason}");
        assert!(reason.contains("timedatectl"), "a remedy: {reason}");
    }
    for node in ProcessCluster::NODES {
        let said = cluster.process(node).wait_said("node 4 is ahead", READY).await;
        assert!(said.contains("3600 s") || said.contains("3599 s"), "by how much: {said}");
        assert!(said.contains("timedatectl"), "a remedy: {said}");
    }
    assert_serves(&cluster.redis(), "without it").await;

    ahead_ms.store(0, Ordering::Relaxed);
    until("it is let in", READY, async || {
        let status = engine.status().await;
        let is_in = status.peers.iter().all(|peer| peer.connected);
        if is_in { Ok(()) } else { Err(format!("{:?}", status.peers)) }
    })
    .await;
    engine.put("written by", "the guest").await.expect("it serves");
    engine.shutdown().await;
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
