//! Goal: a state machine with a store of its own lives through restarts, power cuts, purges, snapshots
//! and faults of that store as one that writes into the engine's does. Method: real engines, whose
//! machines keep their values in journals beside the engines' directories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_log::DamageMark;
use quorate_machine::{KvMachine, StoreFault};
use quorate_types::{Index, NodeId, limits};

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::error::{Refusal, WriteError};
use crate::state::shards::DamagedReplica;
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};
use crate::test_file_store::{FileControl, FileMachine, FileStores};
use crate::worker::queue::Queue;

/// Bytes of entries that a log keeps.
const KEPT_BYTES: u64 = 1 << 20;
const VALUE_BYTES: usize = 16 << 10;
const AWAY: NodeId = NodeId(3);

struct Own {
    cluster: TestEngines,
    stores: FileStores,
}

impl Own {
    async fn open(nodes: u64, kept_bytes: u64) -> Own {
        Own::open_with(nodes, kept_bytes, |_| true).await
    }

    /// Only the machines of these nodes keep stores of their own.
    async fn open_with(
        nodes: u64,
        kept_bytes: u64,
        keeps_own_store: impl Fn(NodeId) -> bool + Send + Sync + 'static,
    ) -> Own {
        let stores = FileStores::default();
        let machines = stores.clone();
        let machine = move |node, directory| match keeps_own_store(node) {
            true => machines.machine(directory),
            false => Box::new(KvMachine),
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let replicas = nodes as usize;
        let cluster = TestEngines::open_each(directory, nodes, replicas, machine, kept_bytes).await;
        Own { cluster, stores }
    }

    fn control(&self, node: NodeId) -> Arc<Mutex<FileControl>> {
        self.stores.control(&self.cluster.own_directory(node))
    }

    /// Stops the last engine; its machine's store stays.
    async fn stop_last(&mut self) -> NodeId {
        let last = self.cluster.engines.pop().expect("one is left");
        let node = last.node();
        last.shutdown().await;
        node
    }

    async fn reopen(&mut self, node: NodeId) -> &Engine {
        let engine = self.cluster.reopen(node);
        engine.wait_ready(HANG).await.expect("a majority is up");
        self.cluster.engines.push(engine);
        self.cluster.engines.last().expect("pushed just now")
    }
}

fn key(number: u64) -> Vec<u8> {
    [&[0, 0][..], &number.to_be_bytes()].concat()
}

fn value(number: u64) -> Bytes {
    (0..VALUE_BYTES as u64).map(|at| (number.wrapping_mul(31) + at * 7 / 5) as u8).collect()
}

async fn write(engine: &Engine, numbers: std::ops::Range<u64>) {
    for number in numbers {
        engine.put(key(number), value(number)).await.expect("a majority is up");
    }
}

/// Completes once `is_so` is; panics after a long while.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + HANG;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn base(engine: &Engine) -> Index {
    engine.running.log().held(SHARD).expect("it lives here").base
}

fn applied(engine: &Engine) -> Index {
    engine.running.state().shards.get(SHARD).expect("it lives here").position.get().applied
}

/// The store holds the first `count` values, and each was put into it by one command.
fn assert_holds(control: &Mutex<FileControl>, count: u64) {
    let values = control.lock().values.clone();
    let expected: BTreeMap<_, _> =
        (0..count).map(|number| (key(number), value(number).to_vec())).collect();
    assert!(values.by_key == expected, "{} values of {count}", values.by_key.len());
    assert_eq!(values.commands, count, "each was applied once");
}

/// Method: the journal is cut where it was synced last, which the engine knows nothing of. A command
/// that were applied twice, or not at all, would be counted so.
#[tokio::test]
async fn writes_survive_restarts_and_power_cuts() {
    let mut own = Own::open(1, limits::LOG_KEPT_BYTES_MAX).await;
    let control = own.control(NodeId(1));
    write(&own.cluster.engines[0], 0..30).await;
    assert_holds(&control, 30);
    let node = own.stop_last().await;
    assert!(control.lock().synced >= Index(30), "a stop syncs");
    let engine = own.reopen(node).await;
    assert_holds(&control, 30);
    write(engine, 30..60).await;

    let synced_bytes = control.lock().synced_bytes;
    own.stop_last().await;
    let journal = FileMachine::journal(&own.cluster.own_directory(node));
    let file = std::fs::OpenOptions::new().write(true).open(journal).expect("there");
    assert!(file.metadata().expect("readable").len() > synced_bytes);
    file.set_len(synced_bytes).expect("writable");
    drop(file);
    own.reopen(node).await;
    // Committed entries are applied again before anything new.
    write(&own.cluster.engines[0], 60..61).await;
    assert_holds(&control, 61);

    // Nothing of the shard is in the engine's store, and nobody takes that for an empty shard.
    let read = own.cluster.engines[0].get(&KEY, ReadLevel::Stale).await;
    assert!(
        matches!(read, Err(ref error) if matches!(error.0, Refusal::Unreadable { .. })),
        "{read:?}"
    );
    own.cluster.stop().await;
}

/// Goal: a data store that is written anew keeps what an own store may fall back to: the state that the
/// replica began with, not the one that the own store has come to. The same for a replica that waits for
/// its store. Method: a start is told that a table is damaged; then the journal loses everything, which
/// the log still has.
#[tokio::test]
async fn a_rewritten_data_store_keeps_the_beginning() {
    let mut own = Own::open(1, limits::LOG_KEPT_BYTES_MAX).await;
    let control = own.control(NodeId(1));
    write(&own.cluster.engines[0], 0..30).await;
    let node = own.stop_last().await;
    let mark = DamageMark::of(&own.cluster.path(node).join("data"));
    mark.note("by the test");
    own.reopen(node).await;
    assert_eq!(mark.read().expect("readable"), None, "it is written anew");
    assert_holds(&control, 30);

    own.stop_last().await;
    mark.note("by the test");
    control.lock().fault = Some(("committed", StoreFault::Failed("no volume".to_owned())));
    let without = own.cluster.reopen(node);
    until_given_up(&without).await;
    without.shutdown().await;
    assert_eq!(mark.read().expect("readable"), None, "it is written anew");

    std::fs::remove_file(FileMachine::journal(&own.cluster.own_directory(node))).expect("there");
    own.reopen(node).await;
    write(&own.cluster.engines[0], 30..31).await;
    assert_holds(&control, 31);
    own.cluster.stop().await;
}

/// Goal: RULE 10. The log is purged through what the store has synced and no further, and the store is
/// asked to sync when the log is full. Method: a second watch over the log, first without anybody who
/// syncs.
#[tokio::test]
async fn a_purge_waits_for_the_sync() {
    let mut own = Own::open(1, limits::LOG_KEPT_BYTES_MAX).await;
    let control = own.control(NodeId(1));
    let running = &own.cluster.engines[0].running;
    let first = base(&own.cluster.engines[0]);
    write(&own.cluster.engines[0], 0..200).await;
    // A watch that was made just now has not seen the flushes before it, so it looks.
    let nobody = Arc::new(Queue::default());
    nobody.close();
    running.log_bound(&nobody, KEPT_BYTES).look();
    // A purge is a turn of the worker: after it, the next write has a larger base in its log.
    write(&own.cluster.engines[0], 200..201).await;
    assert_eq!((base(&own.cluster.engines[0]), control.lock().synced), (first, Index(0)));

    running.log_bound(running.applies(), KEPT_BYTES).look();
    let synced = control.lock().synced;
    assert!(synced >= Index(200), "{synced}");
    until("the log is purged", || base(&own.cluster.engines[0]) > first).await;
    assert!(base(&own.cluster.engines[0]) <= synced);
    write(&own.cluster.engines[0], 201..400).await;
    running.log_bound(&nobody, KEPT_BYTES).look();
    write(&own.cluster.engines[0], 400..401).await;
    assert!(base(&own.cluster.engines[0]) <= synced, "nothing more was synced");

    // What was purged is in the store alone, so a restart has to find it there.
    let node = own.stop_last().await;
    own.reopen(node).await;
    assert_holds(&control, 401);
    own.cluster.stop().await;
}

/// Stops node 3 and writes until no log of the others reaches back to where it stopped. Returns how
/// many values there are.
async fn leave_behind(own: &mut Own) -> u64 {
    write(&own.cluster.engines[0], 0..20).await;
    let away = own.cluster.engines.pop().expect("the third");
    assert_eq!(away.node(), AWAY);
    let log = Arc::clone(away.running.log());
    away.shutdown().await;
    let left_at = log.held(SHARD).expect("its log is still open").last;
    drop(log);
    let mut written = 20;
    let keeps_own_store = |engine: &Engine| {
        let shard = engine.running.state().shards.get(SHARD);
        shard.expect("it lives here").keeps_own_store()
    };
    while own.cluster.engines.iter().any(|engine| base(engine) <= left_at) {
        assert!(written < 10_000, "no log is purged");
        write(&own.cluster.engines[0], written..written + 50).await;
        written += 50;
        for engine in own.cluster.engines.iter().filter(|engine| keeps_own_store(engine)) {
            // In this order: what is synced only grows.
            let (base, synced) = (base(engine), own.control(engine.node()).lock().synced);
            let first = Index(1);
            assert!(base <= synced.max(first), "purged through {base}, synced through {synced}");
        }
    }
    written
}

/// Writes one value after the other until it is told to stop; then says how many there are.
struct Load {
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u64>,
    written: Arc<AtomicU64>,
}

impl Load {
    fn begin(engine: &Engine, from: u64) -> Load {
        let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(from)));
        let (over, progress, engine) = (Arc::clone(&is_over), Arc::clone(&written), engine.clone());
        let task = tokio::spawn(async move {
            let mut next = from;
            while !over.load(Ordering::Relaxed) {
                write(&engine, next..next + 1).await;
                next += 1;
                progress.store(next, Ordering::Relaxed);
            }
            next
        });
        Load { is_over, task, written }
    }

    async fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_catches_up_by_an_own_snapshot_under_load() {
    let mut own = Own::open(3, KEPT_BYTES).await;
    let written = leave_behind(&mut own).await;
    let control = own.control(AWAY);
    let load = Load::begin(&own.cluster.engines[0], written);
    // Whoever leads can't show its state at first: then the snapshot is asked for again.
    for node in [NodeId(1), NodeId(2)] {
        let fault = StoreFault::Failed("not now".to_owned());
        own.control(node).lock().fault = Some(("snapshot", fault));
    }
    let back = own.cluster.reopen(AWAY);
    until("the snapshot is in force", || {
        back.running.state().counters.values().snapshots_received == 1
    })
    .await;
    assert_eq!(control.lock().installs, 1);
    let then = load.written.load(Ordering::Relaxed);
    until("the load goes on", || load.written.load(Ordering::Relaxed) > then + 5).await;
    let written = load.end().await;
    let newest = own.cluster.engines.iter().map(applied).max().expect("two");
    until("it has caught up", || applied(&back) >= newest).await;
    assert_holds(&control, written);
    let space = back.running.state().shards.get(SHARD).expect("here").space();
    let chunk = back.running.data().get(space, &0_u64.to_be_bytes()).expect("readable");
    assert_eq!(chunk, None, "its chunks are in the own store alone");

    // Its log begins after the snapshot, so a restart has to go on from the own store.
    back.shutdown().await;
    let back = own.reopen(AWAY).await;
    assert_eq!(back.running.state().counters.values().snapshots_received, 0, "it lacks nothing");
    assert_eq!(control.lock().installs, 1);
    write(back, written..written + 1).await;
    until("it applies the last", || control.lock().values.commands == written + 1).await;
    assert_holds(&control, written + 1);
    own.cluster.stop().await;
}

/// Goal: a snapshot that a machine could make nothing of never becomes the state of its log. Method: one
/// node was given another machine than the others, which is a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_kind_of_machine_is_refused() {
    let mut own = Own::open_with(3, KEPT_BYTES, |node| node == AWAY).await;
    leave_behind(&mut own).await;
    let control = own.control(AWAY);
    let back = own.cluster.reopen(AWAY);
    let failed = |engine: &Engine| engine.running.state().counters.values().snapshots_failed;
    until("it is refused", || own.cluster.engines.iter().any(|engine| failed(engine) > 0)).await;
    assert_eq!((base(&back), control.lock().installs), (Index(1), 0), "its log is what it was");
    assert!(back.running.state().shards.damaged().is_empty() && back.fatal().is_none());
    own.cluster.engines.push(back);
    own.cluster.stop().await;
}

/// The damaged replicas of an engine, once there is one.
async fn until_given_up(engine: &Engine) -> DamagedReplica {
    let damaged = || engine.running.state().shards.damaged();
    until("a replica is given up", || !damaged().is_empty()).await;
    let [damaged] = &damaged()[..] else { panic!("{:?}", damaged()) };
    assert_eq!((damaged.shard, engine.fatal()), (SHARD, None));
    damaged.clone()
}

/// Goal: RULE 13. A node that ends between the durable log and the durable own store takes the snapshot
/// in at its next start. Method: the journal of the snapshot is written, and the process "ends" before it
/// takes the place of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn an_install_that_was_cut_short_is_repeated() {
    let mut own = Own::open(3, KEPT_BYTES).await;
    let written = leave_behind(&mut own).await;
    let control = own.control(AWAY);
    control.lock().fault = Some(("install", StoreFault::Failed("cut by the test".to_owned())));
    let back = own.cluster.reopen(AWAY);
    let damaged = until_given_up(&back).await;
    assert!(damaged.until_restart && damaged.what.contains("cut by the test"), "{damaged:?}");
    assert!(control.lock().values.commands <= 20 && control.lock().installs == 0);
    let held = back.running.log().held(SHARD).expect("its log is kept");
    assert!(held.base > Index(20), "the snapshot is the state of the log");
    back.shutdown().await;

    let back = own.reopen(AWAY).await;
    assert_eq!(control.lock().installs, 1, "from what had arrived");
    assert_eq!(back.running.state().counters.values().snapshots_received, 0);
    write(back, written..written + 1).await;
    until("it applies the last", || control.lock().values.commands == written + 1).await;
    assert_holds(&control, written + 1);
    own.cluster.stop().await;
}

/// Goal: a store that fails ends its replica until the next start, and its shard serves. Method: a
/// commit that fails at a follower, a start that can't read the store, and a commit that fails at the
/// leader.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_ends_its_replica_until_the_next_start() {
    let mut own = Own::open(3, limits::LOG_KEPT_BYTES_MAX).await;
    lead(&own.cluster, NodeId(1)).await;
    write(&own.cluster.engines[0], 0..10).await;
    let control = own.control(AWAY);
    control.lock().fault = Some(("commit", StoreFault::Failed("no room".to_owned())));
    write(&own.cluster.engines[0], 10..20).await;
    let damaged = until_given_up(&own.cluster.engines[2]).await;
    assert!(damaged.until_restart && damaged.what.contains("no room"), "{damaged:?}");
    // Through the node with the failing store, too.
    write(&own.cluster.engines[2], 20..30).await;

    own.stop_last().await;
    // A store that can't even be read: the node starts without that replica.
    control.lock().fault = Some(("committed", StoreFault::Failed("no volume".to_owned())));
    let back = own.reopen(AWAY).await;
    let damaged = until_given_up(back).await;
    assert!(damaged.until_restart && damaged.what.contains("no volume"), "{damaged:?}");
    write(back, 30..31).await;
    own.stop_last().await;
    let back = own.reopen(AWAY).await;
    assert!(back.running.state().shards.damaged().is_empty());
    write(back, 31..32).await;
    until("it applies the last", || control.lock().values.commands == 32).await;
    assert_holds(&control, 32);

    lead(&own.cluster, AWAY).await;
    control.lock().fault = Some(("commit", StoreFault::Failed("no room".to_owned())));
    let unanswered = own.cluster.engines[0].put(key(32), value(32)).await;
    assert!(matches!(unanswered, Err(WriteError::OutcomeUnknown(_))), "{unanswered:?}");
    assert!(until_given_up(&own.cluster.engines[2]).await.until_restart);
    write(&own.cluster.engines[0], 33..40).await;
    let survivor = own.control(NodeId(1));
    assert_eq!(survivor.lock().values.by_key.get(&key(32)), Some(&value(32).to_vec()));
    own.cluster.stop().await;
}

/// Makes `node` the leader of the shard.
async fn lead(cluster: &TestEngines, node: NodeId) {
    let leader = || cluster.leader_and_others().0.node();
    if leader() != node {
        let (engine, _) = cluster.leader_and_others();
        engine.transfer_leader(SHARD, node).await.expect("all are up");
    }
    until("it leads", || {
        cluster.engines.iter().all(|engine| {
            let state = engine.running.state().shards.get(SHARD).expect("here");
            state.leader() == Some(node) && state.is_ready(engine.node())
        })
    })
    .await;
}

/// Goal: a damaged store ends its replica for good, and its shard serves. Method: a byte of the journal is
/// flipped while the node is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_ends_its_replica_for_good() {
    let mut own = Own::open(3, limits::LOG_KEPT_BYTES_MAX).await;
    write(&own.cluster.engines[0], 0..20).await;
    let control = own.control(AWAY);
    until("it keeps up", || control.lock().values.commands == 20).await;
    own.stop_last().await;
    let journal = FileMachine::journal(&own.cluster.own_directory(AWAY));
    let mut bytes = std::fs::read(&journal).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&journal, &bytes).expect("writable");
    let mut written = 20;
    for _ in 0..2 {
        let back = own.cluster.reopen(AWAY);
        let damaged = until_given_up(&back).await;
        assert!(!damaged.until_restart && damaged.what.contains("checksum"), "{damaged:?}");
        write(&back, written..written + 5).await;
        written += 5;
        back.shutdown().await;
        // For good: it has forgotten what it promised, whatever can be read later.
        bytes[middle] ^= 0x20;
        std::fs::write(&journal, &bytes).expect("writable");
        bytes[middle] ^= 0x20;
    }
    own.cluster.stop().await;
}
