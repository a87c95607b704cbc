//! Goal: a follower that was away until its leader's log began later than it ended gets the state as
//! a snapshot, and then is a follower like any other. Method: real engines that keep little log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_machine::KvMachine;
use quorate_types::{Index, NodeId};

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::state::counters::CounterValues;
use crate::status::snapshots::{SnapshotDirection, SnapshotsStatus};
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};

/// Bytes of entries that a log keeps.
const KEPT_BYTES: u64 = 1 << 20;
/// Bytes of a value.
const VALUE_BYTES: usize = 16 << 10;
const AWAY: NodeId = NodeId(3);

async fn open() -> TestEngines {
    TestEngines::open_keeping(3, 3, || Box::new(KvMachine), KEPT_BYTES).await
}

fn key(number: u64) -> Vec<u8> {
    [&[0, 0][..], &number.to_be_bytes()].concat()
}

fn value(number: u64) -> Bytes {
    (0..VALUE_BYTES as u64).map(|at| (number.wrapping_mul(31) + at * 7 / 5) as u8).collect()
}

async fn write(engine: &Engine, numbers: std::ops::Range<u64>) {
    for number in numbers {
        engine.put(key(number), value(number)).await.expect("two of three are up");
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

fn counters(engine: &Engine) -> CounterValues {
    engine.running.state().counters.values()
}

fn base(engine: &Engine) -> Index {
    let held = engine.running.log().held(SHARD).expect("it lives here");
    held.base
}

/// Stops node 3 and writes until no log of the others reaches back to where it stopped. Returns how
/// many values there are.
async fn leave_behind(cluster: &mut TestEngines) -> u64 {
    write(&cluster.engines[0], 0..20).await;
    let away = cluster.engines.pop().expect("the third");
    let log = Arc::clone(away.running.log());
    away.shutdown().await;
    // It may have more than it has applied.
    let left_at = log.held(SHARD).expect("its log is still open").last;
    drop(log);
    let mut written = 20;
    while cluster.engines.iter().any(|engine| base(engine) <= left_at) {
        assert!(written < 10_000, "no log is purged");
        write(&cluster.engines[0], written..written + 50).await;
        written += 50;
    }
    written
}

/// Goal: while a snapshot is under way, both of its ends report how far it is, and nothing of it once
/// it is in force; and the log reports what was purged. Method: so much data that it takes a while at
/// the rate that snapshots may have.
#[tokio::test(flavor = "multi_thread")]
async fn its_progress_is_shown_while_it_is_under_way() {
    const LARGE: u64 = 200;
    let mut cluster = open().await;
    let written = leave_behind(&mut cluster).await;
    for number in 0..LARGE {
        let large: Bytes = value(number).repeat(16).into();
        cluster.engines[0].put(key(written + number), large).await.expect("two of three are up");
    }
    let purged = cluster.engines[0].status().await.log;
    assert!(purged.purges > 0 && purged.purged_bytes > KEPT_BYTES, "{purged:?}");
    assert_eq!(purged.kept_bytes_max, KEPT_BYTES);

    let back = cluster.reopen(AWAY);
    let (mut seen_here, mut seen_there) = (Vec::new(), Vec::new());
    while counters(&back).snapshots_received == 0 {
        seen_here.extend(back.status().await.snapshots.under_way);
        for engine in &cluster.engines {
            seen_there.extend(engine.status().await.snapshots.under_way);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let here = seen_here.iter().find(|it| it.progress.bytes_done > 0).expect("it takes a while");
    assert_eq!((here.direction, here.shard), (SnapshotDirection::Receiving, SHARD));
    assert!(here.peer != AWAY && here.progress.bytes_total > 0, "{here:?}");
    assert!(here.progress.bytes_per_second > 0, "{here:?}");
    let there = seen_there.iter().find(|it| it.progress.bytes_done > 0).expect("it takes a while");
    assert_eq!((there.direction, there.peer), (SnapshotDirection::Sending, AWAY));
    assert_eq!((there.shard, there.replica), (SHARD, here.replica));
    assert_eq!(there.progress.base, here.progress.base);

    let end = || back.running.state().transfers.receiving.lock().is_empty();
    until("nothing is under way", end).await;
    cluster.engines.push(back);
    let is_wanted = |engine: &Engine| engine.running.state().transfers.is_wanted();
    until("nobody waits", || !cluster.engines.iter().any(is_wanted)).await;
    for engine in &cluster.engines {
        assert_eq!(engine.status().await.snapshots, SnapshotsStatus::default());
    }
    cluster.stop().await;
}

async fn assert_same(one: &Engine, other: &Engine, written: u64) {
    for number in 0..written {
        let wanted = Some(value(number));
        for engine in [one, other] {
            let found = engine.get(&key(number), ReadLevel::Stale).await.expect("up");
            assert_eq!(found, wanted, "value {number} at node {}", engine.node());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lacks_purged_entries_gets_a_snapshot() {
    let mut cluster = open().await;
    let written = leave_behind(&mut cluster).await;
    let back = cluster.reopen(AWAY);
    until("the snapshot is in force", || counters(&back).snapshots_received == 1).await;
    write(&cluster.engines[0], written..written + 10).await;
    let written = written + 10;
    let position = |engine: &Engine| {
        engine.running.state().shards.get(SHARD).expect("here").position.get().applied
    };
    let newest = cluster.engines.iter().map(position).max().expect("two");
    until("it has caught up", || position(&back) >= newest).await;
    assert_same(&cluster.engines[0], &back, written).await;
    let sent: u64 = cluster.engines.iter().map(|it| counters(it).snapshots_sent).sum();
    assert_eq!(sent, 1, "it is sent once");

    // What it holds now is its own: after a restart, too, and with nobody to ask for more.
    back.shutdown().await;
    let back = cluster.reopen(AWAY);
    back.wait_ready(HANG).await.expect("two others are up");
    assert_eq!(counters(&back).snapshots_received, 0, "it lacks nothing");
    assert_same(&cluster.engines[0], &back, written).await;
    let other = cluster.engines.pop().expect("the second");
    other.shutdown().await;
    back.put(KEY.to_vec(), "with its vote").await.expect("two of three");
    cluster.engines.push(back);
    cluster.stop().await;
}
