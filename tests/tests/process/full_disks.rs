//! The disks of all nodes are nearly full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate::{NodeId, NodeState};
use quorate_tests::process::{
    Answer, Outcome, ProcessCluster, READY, RedisClient, Request, assert_filled, fill,
    numbered_key, numbered_value, until,
};

use crate::{CLUSTER, turn};

/// Bytes of each node's disk, and what a file has of it that is nobody's.
const DISK_MIB: usize = 1_800;
const BALLAST_MIB: usize = 650;
/// What is left when the disks are fuller than the floors alone would ever let them become.
const LEFT_MIB: u64 = 200;
/// More keys of 4 kB than the disks have room for.
const KEYS_MAX: u64 = 300_000;
const BATCH: u64 = 64;
const ANSWER: Duration = Duration::from_secs(20);
/// Longest time from the moment when there is room until every port takes writes.
const SERVES_AGAIN: Duration = Duration::from_secs(15);

/// Goal: a cluster whose disks are all nearly full refuses writes by name and serves reads; none of its
/// nodes latches, a node can be started, and once there is room they take writes again by themselves;
/// nothing acknowledged is lost. Method: the test below, in a mount namespace of its own, where each
/// node's directory is a small file system in memory.
#[test]
fn full_disks_refuse_writes_and_lose_nothing() {
    let program = std::env::current_exe().expect("this program");
    let enter = ["--user", "--map-root-user", "--mount"];
    let place = tempfile::tempdir().expect("a directory");
    let try_it = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    let can = Command::new("unshare").args(enter).args(try_it).arg(place.path()).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("not run: this system lets nobody mount in a namespace (unshare --user --mount)");
        return;
    }
    let within = ["--exact", "full_disks::on_small_disks", "--ignored", "--nocapture"];
    let status = Command::new("unshare").args(enter).arg(program).args(within).status();
    assert!(status.expect("it starts").success(), "see above");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts file systems: run by the test above"]
async fn on_small_disks() {
    let _turn = turn();
    let mut cluster = ProcessCluster::prepare(CLUSTER);
    for node in ProcessCluster::NODES {
        mount(&cluster.data_path(node));
        write_ballast(&ballast(&cluster, node, "first"), BALLAST_MIB);
    }
    cluster.start_nodes(&ProcessCluster::NODES).await;
    let (acknowledged, refusal) = fill_disks(&cluster).await;
    println!("{acknowledged} keys, then: {refusal}");
    assert!(refusal.starts_with("MISCONF node "), "{refusal}");
    assert!(refusal.contains("takes no writes: its disk has"), "{refusal}");
    until("all nodes say so", READY, async || {
        read_only(&cluster, ProcessCluster::NODES.len()).await
    })
    .await;

    for node in ProcessCluster::NODES {
        let free_mib = free_mib(&cluster, node);
        assert!(free_mib > LEFT_MIB, "node {node} has let its disk become so full: {free_mib} MiB");
        let bytes = usize::try_from(free_mib - LEFT_MIB).expect("small");
        write_ballast(&ballast(&cluster, node, "second"), bytes);
    }
    let one = ProcessCluster::NODES[0];
    assert_eq!(cluster.stop(one, READY).await, Some(0), "it has not failed");
    // What the others say of it may be older than its end.
    cluster.start_nodes(&[one]).await;
    until("all nodes say so, again", READY, async || read_only(&cluster, 3).await).await;
    for node in ProcessCluster::NODES {
        let (refused, found) = (set(&cluster, node).await, get(&cluster, node).await);
        assert!(matches!(refused, Outcome::DidNotHappen(_)), "node {node}: {refused:?}");
        let first = Answer::Value(Some(numbered_value(0, 0)));
        assert_eq!(found, Outcome::Answered(first), "node {node}");
    }

    for node in ProcessCluster::NODES {
        fs::remove_file(ballast(&cluster, node, "first")).expect("removed");
        fs::remove_file(ballast(&cluster, node, "second")).expect("removed");
    }
    let began = Instant::now();
    for node in ProcessCluster::NODES {
        until("it takes writes", SERVES_AGAIN, async || match set(&cluster, node).await {
            Outcome::Answered(_) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    println!("all ports take writes {:?} after there was room", began.elapsed());
    fill(&cluster.redis(), (acknowledged, acknowledged + BATCH), 0).await;
    cluster.wait_caught_up(one).await;
    let versions = vec![0; usize::try_from(acknowledged + BATCH).expect("few")];
    for node in ProcessCluster::NODES {
        assert!(cluster.process_mut(node).exited().is_none(), "node {node} has ended");
        assert_filled(cluster.addresses(node).redis, 0, &versions).await;
    }
}

/// A small file system in memory. It goes with the namespace.
fn mount(directory: &PathBuf) {
    fs::create_dir(directory).expect("made");
    let size = format!("size={DISK_MIB}m");
    let status =
        Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory).status();
    assert!(status.expect("it starts").success(), "nothing was mounted");
}

fn ballast(cluster: &ProcessCluster, node: NodeId, name: &str) -> PathBuf {
    cluster.data_path(node).join(format!("{name}.ballast"))
}

fn write_ballast(path: &PathBuf, mib: usize) {
    let mut file = File::create(path).expect("made");
    for _ in 0..mib {
        file.write_all(&[1; 1 << 20]).expect("there is room");
    }
}

/// What a node's disk has left, as the system says.
fn free_mib(cluster: &ProcessCluster, node: NodeId) -> u64 {
    let found = rustix::fs::statvfs(cluster.data_path(node)).expect("the system tells");
    (found.f_bavail * found.f_frsize) >> 20
}

/// Writes keys until one is refused. Returns how many were acknowledged, and the refusal.
async fn fill_disks(cluster: &ProcessCluster) -> (u64, String) {
    for (first, node) in
        (0..KEYS_MAX).step_by(BATCH as usize).zip(ProcessCluster::NODES.iter().cycle())
    {
        let server = cluster.addresses(*node).redis;
        let mut client = RedisClient::connect(server, ANSWER).await.expect("it listens");
        let set = |number| Request::Set(numbered_key(number), numbered_value(number, 0));
        let requests: Vec<Request> = (first..first + BATCH).map(set).collect();
        for outcome in client.pipeline(&requests).await {
            match outcome {
                Outcome::Answered(_) => {}
                Outcome::DidNotHappen(why) => return (first, why),
                Outcome::Unknown(why) => panic!("a write is refused, or taken: {why}"),
            }
        }
    }
    panic!("{KEYS_MAX} keys were taken");
}

async fn read_only(cluster: &ProcessCluster, count: usize) -> Result<(), String> {
    let status = cluster.status(ProcessCluster::NODES[1]).await?;
    let states: Vec<NodeState> = status.nodes.iter().map(|node| node.state).collect();
    let found = states.iter().filter(|state| **state == NodeState::ReadOnly).count();
    if found == count { Ok(()) } else { Err(format!("{states:?}")) }
}

/// Writes the first key as it is already.
async fn set(cluster: &ProcessCluster, node: NodeId) -> Outcome {
    call(cluster, node, Request::Set(numbered_key(0), numbered_value(0, 0))).await
}

async fn get(cluster: &ProcessCluster, node: NodeId) -> Outcome {
    call(cluster, node, Request::Get(numbered_key(0))).await
}

async fn call(cluster: &ProcessCluster, node: NodeId, request: Request) -> Outcome {
    let server = cluster.addresses(node).redis;
    let mut client = RedisClient::connect(server, ANSWER).await.expect("it listens");
    client.call(request).await
}
