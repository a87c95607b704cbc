//! Goal: a node whose disk is nearly full refuses writes by name, serves reads, gives its
//! leaderships to nodes that have room and to no others, never fails, and goes on by itself once
//! there is room. Method: real engines whose floors are just below the free space, on a file system
//! in memory, which nobody else fills; and a ballast file that takes them below, and is removed.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_machine::KvMachine;
use quorate_types::{Index, NodeId, ShardId, Term, limits};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::cluster::map::META_SHARD;
use crate::error::{Refusal, WriteError};
use crate::state::clock;
use crate::state::disk_floor::DiskLevel;
use crate::state::disk_room::Room;
use crate::status::cluster_status::{ClusterStatus, Health, NodeState, NodeStatus, Reason};
use crate::status::resources::Warning;
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};

const MIB: u64 = 1 << 20;
/// How far below the free space a floor is. More than the engines write in a test.
const MARGIN_BYTES: u64 = 160 * MIB;
/// What the ballast takes: the margin, and enough for half of a floor twice as high.
const BALLAST_BYTES: u64 = 320 * MIB;
/// Time in which a node that should do nothing has had many rounds to do something.
const ROUNDS: Duration = Duration::from_millis(3_500);
/// Time in which service resumes: a look, a round of handing over, and slack for a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

/// Where files lie in memory, on machines that have such a place.
const IN_MEMORY: &str = "/dev/shm";
/// Three nodes, and the ballast, need less.
const IN_MEMORY_BYTES_MIN: u64 = 4 << 30;

/// Engines on a file system, and a ballast on it. One test at a time: each counts free bytes.
struct NearlyFull {
    cluster: TestEngines,
    ballast: PathBuf,
    _turn: File,
}

impl NearlyFull {
    /// Three engines. The floor of each of `low` is just below the free space, times the number.
    async fn open(low: &[(u64, u64)]) -> NearlyFull {
        let turn = File::create(std::env::temp_dir().join("quorate-disk-floor.lock"));
        let turn = turn.expect("a file can be made");
        turn.lock().expect("a file of our own can be locked");
        let in_memory = Room::of(IN_MEMORY.as_ref()).expect("of an ancestor at least");
        let directory = match in_memory.free_bytes >= IN_MEMORY_BYTES_MIN {
            true => TempDir::new_in(IN_MEMORY),
            false => TempDir::new(),
        };
        let directory = directory.expect("a directory");
        let ballast = directory.path().join("ballast");
        let machine = || Box::new(KvMachine) as _;
        let kept = limits::LOG_KEPT_BYTES_MAX;
        let mut cluster = TestEngines::open_in(directory, 3, 3, machine, kept).await;
        cluster.engines[0].put(KEY.to_vec(), "first").await.expect("there is room");
        // Measured with files of both stores in place, which RocksDB allocates ahead.
        let free_bytes = Room::of(&ballast).expect("known").free_bytes;
        let floor = |times: u64| times * (free_bytes - MARGIN_BYTES);
        cluster.disk_floors = low.iter().map(|(n, times)| (NodeId(*n), floor(*times))).collect();
        cluster.reopen_all().await;
        NearlyFull { cluster, ballast, _turn: turn }
    }

    fn engine(&self, node: u64) -> &Engine {
        let engine = self.cluster.engines.iter().find(|engine| engine.node() == NodeId(node));
        engine.expect("it runs")
    }

    fn fill(&self) {
        let mut file = File::create(&self.ballast).expect("made");
        let block = vec![7; 1 << 20];
        for _ in 0..BALLAST_BYTES / MIB {
            file.write_all(&block).expect("there is room for it");
        }
        file.sync_all().expect("there is room for it");
    }

    fn free(&self) {
        std::fs::remove_file(&self.ballast).expect("removed");
    }

    /// Waits until each engine's disk is at its level.
    async fn wait_levels(&self, levels: [DiskLevel; 3]) {
        for (node, level) in (1..).zip(levels) {
            let disk = &self.engine(node).running.state().disk;
            until(&format!("the disk of node {node} is {level:?}"), || disk.level() == level).await;
        }
    }

    /// Hands the leadership of `shard` to `node`.
    async fn let_lead(&self, node: u64, shard: ShardId) {
        let state = self.engine(node).running.state().shards.get(shard).expect("here");
        let end = Instant::now() + HANG;
        while state.leader() != Some(NodeId(node)) {
            assert!(Instant::now() < end, "node {node} does not lead shard {shard}");
            if let Some(leader) = state.leader() {
                // Refused while the last one is under way.
                drop(self.engine(leader.0).transfer_leader(shard, NodeId(node)).await);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn stop(mut self) {
        for engine in &self.cluster.engines {
            assert_eq!(engine.fatal(), None, "node {}", engine.node());
        }
        self.cluster.stop().await;
    }
}

/// Completes once `is_so` is; panics after a long while.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + HANG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn terms(engine: &Engine) -> Vec<(Term, Option<NodeId>)> {
    let status = engine.status().await;
    status.shards.iter().map(|shard| (shard.term, shard.leader)).collect()
}

async fn last_index(engine: &Engine) -> Index {
    let status = engine.status().await;
    status.shards.iter().find(|shard| shard.shard == SHARD).expect("here").last_index
}

async fn cluster_status(engine: &Engine, is_so: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    let end = Instant::now() + HANG;
    loop {
        let status = engine.cluster_status(limits::STATUS_ANSWER).await;
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn assert_reads(engine: &Engine, value: &str) {
    for level in [ReadLevel::Linearizable, ReadLevel::Stale] {
        let found = engine.get(&KEY, level).await.expect("reads go on");
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "node {}", engine.node());
    }
}

/// Writes until it succeeds: only refusals for want of room may come before.
async fn write_soon(engine: &Engine, value: &'static str) {
    let end = Instant::now() + SECONDS;
    loop {
        match engine.put(KEY.to_vec(), value).await {
            Ok(()) => return,
            Err(WriteError::DidNotHappen(Refusal::DiskLow { .. })) if Instant::now() < end => {}
            Err(error) => panic!("node {}: {error}", engine.node()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes until `stop`; returns how many took effect. A change of the leader may leave an outcome
/// unknown, but nothing may be refused.
async fn call(engine: Engine, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        match engine.put(KEY.to_vec(), "meanwhile").await {
            Ok(()) => done += 1,
            Err(WriteError::OutcomeUnknown(_)) => {}
            Err(refused) => panic!("node {}: {refused}", engine.node()),
        }
    }
    done
}

/// One node lacks room: the others lead, and callers at every node notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn leaderships_go_where_there_is_room() {
    let full = NearlyFull::open(&[(1, 1)]).await;
    let (one, other) = (full.engine(1), full.engine(2));
    for shard in [META_SHARD, SHARD] {
        full.let_lead(1, shard).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3).map(|at| full.cluster.engines[at].clone()).collect();
    let callers = callers.into_iter().map(|engine| tokio::spawn(call(engine, Arc::clone(&stop))));
    let callers: Vec<_> = callers.collect();
    full.fill();
    full.wait_levels([DiskLevel::Low, DiskLevel::Roomy, DiskLevel::Roomy]).await;
    let leads_nothing = || {
        let shards = one.running.state().shards.all().into_iter();
        shards.map(|shard| shard.leader()).all(|it| it.is_some_and(|node| node != NodeId(1)))
    };
    until("node 1 has handed everything over", leads_nothing).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no caller is refused") > 0);
    }
    for engine in &full.cluster.engines {
        engine.put(KEY.to_vec(), "second").await.expect("another node has room");
        assert_reads(engine, "second").await;
    }
    let is_told = |status: &ClusterStatus| status.nodes[0].state == NodeState::ReadOnly;
    let status = cluster_status(other, is_told).await;
    let node = &status.nodes[0];
    let Some(Reason::DiskLow(low)) = &node.reason else { panic!("{node:?}") };
    assert!(low.free_bytes < full.cluster.disk_floors[&NodeId(1)], "{low:?}");
    assert_eq!(low.needed_bytes, full.cluster.disk_floors[&NodeId(1)] + 64 * MIB);
    assert!(node.warnings.iter().any(|it| matches!(it, Warning::DiskLow(_))), "{node:?}");
    assert_eq!(status.health, Health::Degraded);

    // Who gives it a leadership gets it back soon.
    let leader = other.running.state().shards.get(SHARD).expect("here").leader().expect("known");
    full.engine(leader.0).transfer_leader(SHARD, NodeId(1)).await.expect("begun");
    let before = terms(other).await;
    until("it has led", || !leads_nothing()).await;
    until("it has handed it over again", leads_nothing).await;
    assert_ne!(terms(other).await, before);

    full.free();
    full.wait_levels([DiskLevel::Roomy; 3]).await;
    cluster_status(other, |status| status.health == Health::Healthy).await;
    full.stop().await;
}

/// No node has room: each says so, none is moved or fails, a restart opens, and room is all it takes.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_anywhere_writes_are_refused_and_nothing_moves() {
    let mut full = NearlyFull::open(&[(1, 1), (2, 1), (3, 1)]).await;
    for node in 1..=3 {
        full.engine(node).put(KEY.to_vec(), "before").await.expect("there is room");
    }
    full.fill();
    full.wait_levels([DiskLevel::Low; 3]).await;
    let before = terms(full.engine(1)).await;
    let began = Instant::now();
    while began.elapsed() < ROUNDS {
        for engine in &full.cluster.engines {
            let refusal = match engine.put(KEY.to_vec(), "during").await {
                Err(WriteError::DidNotHappen(refusal)) => refusal,
                other => panic!("node {}: {other:?}", engine.node()),
            };
            let Refusal::DiskLow { shard: SHARD, node, low } = &refusal else {
                panic!("{refusal:?}");
            };
            assert_eq!(low.needed_bytes, full.cluster.disk_floors[node] + 64 * MIB);
            assert!(refusal.to_string().contains("takes no writes: its disk has"), "{refusal}");
            assert_reads(engine, "before").await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(terms(full.engine(1)).await, before, "no leadership moves");
    let are_told = |status: &ClusterStatus| {
        let is_read_only = |node: &NodeStatus| node.state == NodeState::ReadOnly;
        status.nodes.iter().all(is_read_only)
    };
    let status = cluster_status(full.engine(2), are_told).await;
    assert_eq!(status.health, Health::Unavailable);
    assert!(full.engine(1).readiness().ready, "it serves reads, and says where writes go");

    // The meta shard goes on: the new start is announced there.
    let again = full.cluster.engines.remove(0);
    let revision = again.running.dispatch().map().revision();
    again.shutdown().await;
    let again = full.cluster.reopen(NodeId(1));
    again.wait_ready(HANG).await.expect("a start without room serves");
    full.cluster.engines.insert(0, again);
    assert_eq!(full.engine(1).running.state().disk.level(), DiskLevel::Low);
    assert_reads(full.engine(1), "before").await;
    let again = full.engine(1);
    let map = again.running.dispatch().map();
    until("the new start is announced", || map.revision() > revision).await;
    let refused = again.put(KEY.to_vec(), "during").await;
    let is_low = matches!(&refused, Err(WriteError::DidNotHappen(Refusal::DiskLow { .. })));
    assert!(is_low, "{refused:?}");

    full.free();
    for node in 1..=3 {
        write_soon(full.engine(node), "after").await;
        assert_reads(full.engine(node), "after").await;
    }
    cluster_status(full.engine(3), |status| status.health == Health::Healthy).await;
    full.stop().await;
}

/// Two of three nodes take no entries: the leader, whose disk has room, refuses at once what could not
/// be committed, whoever asks, and takes it again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_refuses_what_no_majority_would_store() {
    let full = NearlyFull::open(&[(2, 2), (3, 2)]).await;
    full.wait_levels([DiskLevel::Roomy, DiskLevel::Low, DiskLevel::Low]).await;
    write_soon(full.engine(1), "before").await;
    full.let_lead(1, SHARD).await;
    full.fill();
    full.wait_levels([DiskLevel::Roomy, DiskLevel::Spent, DiskLevel::Spent]).await;
    let spent_peers = &full.engine(1).running.state().spent_peers;
    let members = || (1..=3).map(NodeId).collect::<Vec<_>>().into_iter();
    until("both have said so", || {
        spent_peers.without_majority(clock::now(), members().skip(1)).is_some()
            && spent_peers.without_majority(clock::now(), members()).is_some()
    })
    .await;
    for node in 1..=3 {
        let began = Instant::now();
        let refused = full.engine(node).put(KEY.to_vec(), "during").await;
        let Err(WriteError::DidNotHappen(Refusal::DiskLow { node: whose, .. })) = &refused else {
            panic!("through node {node}: {refused:?}");
        };
        assert!([2, 3].contains(&whose.0), "{refused:?}");
        assert!(began.elapsed() < ROUNDS, "{:?}", began.elapsed());
        assert_reads(full.engine(node), "before").await;
    }
    full.free();
    for node in 1..=3 {
        write_soon(full.engine(node), "after").await;
        assert_reads(full.engine(node), "after").await;
    }
    full.stop().await;
}

/// A follower whose disk is below half of its floor takes nothing more, and its leader goes on with
/// the others; with room it catches up.
#[tokio::test(flavor = "multi_thread")]
async fn below_half_of_its_floor_a_follower_takes_no_entries() {
    let full = NearlyFull::open(&[(3, 2)]).await;
    full.wait_levels([DiskLevel::Roomy, DiskLevel::Roomy, DiskLevel::Low]).await;
    let third = full.engine(3);
    write_soon(full.engine(1), "low").await;
    let shard = third.running.state().shards.get(SHARD).expect("here");
    until("another node leads", || shard.leader().is_some_and(|node| node != NodeId(3))).await;
    let wanted = last_index(full.engine(1)).await;
    until("a low follower takes entries", || shard.position.get().applied >= wanted).await;

    full.fill();
    full.wait_levels([DiskLevel::Roomy, DiskLevel::Roomy, DiskLevel::Spent]).await;
    // What was on its way has arrived once the index stays.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = last_index(third).await;
    for _ in 0..50 {
        full.engine(1).put(KEY.to_vec(), vec![7; 1_000]).await.expect("two of three have room");
    }
    full.engine(2).put(KEY.to_vec(), "without it").await.expect("two of three have room");
    assert_eq!(last_index(third).await, before, "nothing was taken");
    assert!(third.running.state().counters.values().appends_dropped > 0);

    full.free();
    full.wait_levels([DiskLevel::Roomy, DiskLevel::Roomy, DiskLevel::Low]).await;
    let wanted = last_index(full.engine(1)).await;
    until("it has caught up", || shard.position.get().applied >= wanted).await;
    assert_reads(third, "without it").await;
    full.stop().await;
}
