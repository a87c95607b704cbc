//! Goal: flipped bytes in a table file of the data or of the log end the replica that they belong to,
//! by name and for good; none of them is ever served, and the shard serves by its other replicas, also
//! through the node with the damage. Method: three engines; a byte of the third one's largest table
//! is flipped while it is down.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_types::NodeId;

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::cluster::map::META_SHARD;
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

/// Its store may be open.
fn flip_the_middle_of_the_largest_table(directory: &Path) {
    flip_in_the_largest_table(directory, |bytes| bytes / 2);
}

/// Flips the byte at what `at` makes of the length of the table.
fn flip_in_the_largest_table(directory: &Path, at: impl FnOnce(u64) -> u64) {
    let files = std::fs::read_dir(directory).expect("a store");
    let tables = files.map(|file| file.expect("readable").path());
    let tables = tables.filter(|path| path.extension().is_some_and(|name| name == "sst"));
    let bytes_of = |path: &std::path::PathBuf| std::fs::metadata(path).expect("there").len();
    let largest = tables.max_by_key(bytes_of).expect("flushed");
    let file = OpenOptions::new().read(true).write(true).open(largest).expect("there");
    let bytes = file.metadata().expect("there").len();
    assert!(bytes > VALUE_BYTES as u64 * 4, "the values are in it");
    let mut byte = [0];
    let at = at(bytes);
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 0x20], at).expect("writable");
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
    let mut cluster = open_and_write().await;
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
    assert_nothing_is_damaged(&again);
    assert_serves(&again).await;
    cluster.engines.push(again);
    cluster.stop().await;
}

/// What the damaged tables held that could be read is in others now.
fn assert_nothing_is_damaged(engine: &Engine) {
    let data = engine.running.data();
    data.verify_tables().expect("no damaged table is left");
    assert_eq!(data.noted_damage().expect("readable"), None);
    data.merge_all_tables();
    assert_eq!(engine.fatal(), None);
}

/// Opens three engines that have applied all values.
async fn open_and_write() -> TestEngines {
    let cluster = TestEngines::open(3, 3).await;
    write(&cluster.engines[0]).await;
    let position = cluster.engines[2].watch_position(SHARD).expect("here");
    let last = cluster.engines[0].watch_position(SHARD).expect("here").current().commit;
    position.wait_applied(last).await.expect("it keeps up");
    cluster
}

/// Goal: damage that a merge of the data store meets first ends the node, once. Its next start gives up
/// the replica that it belongs to, and serves all others; no later one finds anything.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_that_a_merge_meets_ends_the_node_once() {
    let mut cluster = open_and_write().await;
    let victim = cluster.engines.pop().expect("the third");
    let data = Arc::clone(victim.running.data());
    data.flush().expect("flushed");
    flip_the_middle_of_the_largest_table(&cluster.path(VICTIM).join("data"));
    data.merge_all_tables();
    drop(data);
    let fatal = victim.wait_fatal().await.to_string();
    assert!(fatal.contains("a table is damaged") && fatal.contains(".sst"), "{fatal}");
    assert!(fatal.contains("start the node again"), "{fatal}");
    victim.shutdown().await;
    for _ in 0..2 {
        let again = cluster.reopen(VICTIM);
        let damaged = until_damaged(&again).await;
        assert!(damaged.what.starts_with("its data: Corruption"), "{}", damaged.what);
        assert_nothing_is_damaged(&again);
        assert_serves(&again).await;
        let meta = again.watch_position(META_SHARD).expect("its replica of the map is whole");
        let led = cluster.engines[0].watch_position(META_SHARD).expect("here").current().commit;
        meta.wait_applied(led).await.expect("and keeps up");
        again.shutdown().await;
    }
    cluster.stop().await;
}

/// Goal: a table that can't be opened at all, because its end is damaged, refuses the node's directory, by
/// name; the others serve.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_end_is_damaged_refuses_the_directory() {
    for store in ["data", "log"] {
        let mut cluster = open_and_write().await;
        let victim = cluster.engines.pop().expect("the third");
        victim.shutdown().await;
        // A start writes what it replays of the log into tables.
        let victim = cluster.reopen(VICTIM);
        victim.wait_ready(HANG).await.expect("sound");
        victim.shutdown().await;
        flip_in_the_largest_table(&cluster.path(VICTIM).join(store), |bytes| bytes - 3);
        for _ in 0..2 {
            let refused = cluster.builder(VICTIM).open().map(|_| ()).expect_err("damaged");
            let text = refused.to_string();
            assert!(text.contains(".sst") && text.contains(store), "{text}");
        }
        assert_serves(&cluster.engines[0]).await;
        cluster.stop().await;
    }
}

/// Goal: a start after a crash puts a store that was written anew in its place, also if nothing but that
/// is left in the directory. Method: the store as such a crash leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_with_a_store_that_was_written_anew() {
    let mut cluster = open_and_write().await;
    cluster.engines.pop().expect("the third").shutdown().await;
    let data = cluster.path(VICTIM).join("data");
    let alone = data.join("rewritten-alone");
    std::fs::create_dir(&alone).expect("made");
    for entry in std::fs::read_dir(&data).expect("a store") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            std::fs::rename(&path, alone.join(path.file_name().expect("a name"))).expect("moved");
        }
    }
    let again = cluster.reopen(VICTIM);
    again.wait_ready(HANG).await.expect("it has all of its data");
    assert!(!alone.exists());
    for number in 0..VALUES {
        let found = again.get(&key(number), ReadLevel::Stale).await.expect("here");
        assert_eq!(found, Some(value(number)), "value {number}");
    }
    assert_eq!(again.running.state().shards.damaged(), []);
    cluster.engines.push(again);
    cluster.stop().await;
}

/// Goal: a leader whose log turns out to be damaged when it reads entries for a slow follower gives up
/// its replica; another node leads, and sends them. Method: the logs are read from tables after a
/// restart; a byte is flipped in the leader's.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged_for_a_slow_follower_ends_its_replica() {
    let mut cluster = TestEngines::open(3, 3).await;
    cluster.engines.pop().expect("the third").shutdown().await;
    write(&cluster.engines[0]).await;
    // The first start writes what it replays into tables, and has what it wrote in its cache.
    cluster.reopen_all().await;
    cluster.reopen_all().await;
    let (leader, _) = cluster.leader_and_others();
    let leader = leader.node();
    flip_the_middle_of_the_largest_table(&cluster.path(leader).join("log"));
    let slow = cluster.reopen(VICTIM);
    cluster.engines.push(slow);
    let damaged = until_damaged(at(&cluster, leader)).await;
    assert!(damaged.what.contains("log of shard 1 is unreadable"), "{}", damaged.what);
    let slow = at(&cluster, VICTIM);
    assert_serves(slow).await;
    let other = cluster.engines.iter().find(|it| ![leader, VICTIM].contains(&it.node()));
    let other = other.expect("three").watch_position(SHARD).expect("here").current().commit;
    let position = slow.watch_position(SHARD).expect("here");
    position.wait_applied(other).await.expect("it gets all of them");
    for number in 0..VALUES {
        let found = slow.get(&key(number), ReadLevel::Stale).await.expect("here");
        assert_eq!(found, Some(value(number)), "value {number}");
    }
    assert_serves(at(&cluster, leader)).await;

    // The next start drops the damaged table, and no merge can meet it any more.
    let place = cluster.engines.iter().position(|engine| engine.node() == leader);
    cluster.engines.remove(place.expect("it runs")).shutdown().await;
    let again = cluster.reopen(leader);
    let damaged = until_damaged(&again).await;
    assert!(damaged.what.contains("log"), "{}", damaged.what);
    assert!(!cluster.path(leader).join("log/DAMAGED").exists());
    assert_serves(&again).await;
    cluster.engines.push(again);
    cluster.stop().await;
}

fn at(cluster: &TestEngines, node: NodeId) -> &Engine {
    cluster.engines.iter().find(|engine| engine.node() == node).expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_ends_its_replica_at_the_start() {
    let mut cluster = open_and_write().await;
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
