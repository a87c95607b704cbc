//! Goal: flipped bytes in a table file of the data or of the log end the replica that they belong to,
//! by name and for good; none of them is ever served, and the shard serves by its other replicas, also
//! through the node with the damage. Method: three engines; a byte of the third one's largest table
//! is flipped while it is down.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use quorate_types::NodeId;

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::state::shards::DamagedReplica;
use crate::test_engines::{HANG, SHARD, TestEngines};

const VICTIM: NodeId = NodeId(3);
const VALUES: u64 = 120;
const VALUE_BYTES: usize = 20 << 10;

fn key(number: u64) -> Vec<u8> {
    [&[0, 0][..], &number.to_be_bytes()].concat()
}

/// Bytes that no codec can compress, so that the middle of a table is the middle of a value.
fn value(number: u64) -> Bytes {
    let mut state = number + 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..VALUE_BYTES).map(step).collect()
}

async fn write(engine: &Engine) {
    for number in 0..VALUES {
        engine.put(key(number), value(number)).await.expect("all are up");
    }
}

fn flip_the_middle_of_the_largest_table(directory: &Path) {
    let files = std::fs::read_dir(directory).expect("a store");
    let tables = files.map(|file| file.expect("readable").path());
    let tables = tables.filter(|path| path.extension().is_some_and(|name| name == "sst"));
    let bytes_of = |path: &std::path::PathBuf| std::fs::metadata(path).expect("there").len();
    let largest = tables.max_by_key(bytes_of).expect("flushed");
    let mut bytes = std::fs::read(&largest).expect("readable");
    assert!(bytes.len() > VALUE_BYTES * 4, "the values are in it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&largest, bytes).expect("writable");
}

/// Every value is right wherever it is read, and reads through `engine` see every acknowledged write.
async fn assert_serves(engine: &Engine) {
    engine.put(key(VALUES), "after").await.expect("two of three");
    for number in 0..VALUES {
        let found = engine.get(&key(number), ReadLevel::Linearizable).await.expect("two of three");
        assert_eq!(found, Some(value(number)), "value {number}");
    }
    let after = engine.get(&key(VALUES), ReadLevel::Linearizable).await.expect("two of three");
    assert_eq!(after.as_deref(), Some(&b"after"[..]));
}

async fn until_damaged(engine: &Engine) -> DamagedReplica {
    let end = tokio::time::Instant::now() + HANG;
    loop {
        let damaged = engine.running.state().shards.damaged();
        if let [damaged] = &damaged[..] {
            assert_eq!((damaged.shard, engine.fatal()), (SHARD, None));
            return damaged.clone();
        }
        assert!(damaged.is_empty() && tokio::time::Instant::now() < end, "{damaged:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Stops the third node, flips a byte in its `store`, and opens it again.
async fn open_flipped(cluster: &mut TestEngines, store: &str) -> Engine {
    let victim = cluster.engines.pop().expect("the third");
    victim.shutdown().await;
    flip_the_middle_of_the_largest_table(&cluster.path(VICTIM).join(store));
    cluster.reopen(VICTIM)
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_ends_its_replica_and_is_never_served() {
    let mut cluster = TestEngines::open(3, 3).await;
    write(&cluster.engines[0]).await;
    let position = cluster.engines[2].watch_position(SHARD).expect("here");
    let last = cluster.engines[0].watch_position(SHARD).expect("here").current().commit;
    position.wait_applied(last).await.expect("it keeps up");
    let victim = open_flipped(&mut cluster, "data").await;
    victim.wait_ready(HANG).await.expect("nobody has read the damage");
    let waiting = victim.watch_position(SHARD).expect("here");
    for number in 0..VALUES {
        // From its own data while that is sound, then from others.
        let found = victim.get(&key(number), ReadLevel::Stale).await.expect("others have it");
        assert_eq!(found, Some(value(number)), "value {number}");
    }
    let damaged = until_damaged(&victim).await;
    assert!(damaged.what.contains("data"), "{}", damaged.what);
    let unreachable = waiting.wait_applied(quorate_types::Index(u64::MAX)).await;
    assert!(unreachable.is_err(), "it comes no further");
    assert_serves(&victim).await;

    // For good: what can be read by chance at the next start has forgotten its promises.
    victim.shutdown().await;
    let again = cluster.reopen(VICTIM);
    until_damaged(&again).await;
    assert_serves(&again).await;
    cluster.engines.push(again);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_ends_its_replica_at_the_start() {
    let mut cluster = TestEngines::open(3, 3).await;
    write(&cluster.engines[0]).await;
    let position = cluster.engines[2].watch_position(SHARD).expect("here");
    let last = cluster.engines[0].watch_position(SHARD).expect("here").current().commit;
    position.wait_applied(last).await.expect("it keeps up");
    // A start writes what it replays into tables.
    let victim = cluster.engines.pop().expect("the third");
    victim.shutdown().await;
    let victim = cluster.reopen(VICTIM);
    victim.wait_ready(HANG).await.expect("sound");
    cluster.engines.push(victim);
    let victim = open_flipped(&mut cluster, "log").await;
    let damaged = until_damaged(&victim).await;
    assert!(damaged.what.contains("log"), "{}", damaged.what);
    assert_serves(&victim).await;
    cluster.engines.push(victim);
    cluster.stop().await;
}
