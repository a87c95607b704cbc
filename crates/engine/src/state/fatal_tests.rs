//! Goal: a disk that fails in background work ends the engine's service at once, also if no caller
//! writes. Method: real stores whose next table files can't be created, because directories have their
//! names; the background work is started from outside of the engine, whose threads do not see it.

use std::fs;
use std::path::Path;

use quorate_types::NodeId;

use crate::error::FatalError;
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};

/// Number of blocked file numbers: more than a store reaches while a test runs.
const NUMBERS: u64 = 200;

/// Blocks every table file that the store in `directory` may create.
fn refuse_tables(directory: &Path) {
    let number = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("readable").file_name().into_string().expect("RocksDB's names");
        name.split(['.', '-']).find_map(|part| part.parse::<u64>().ok()).unwrap_or(0)
    };
    let last = fs::read_dir(directory).expect("a store").map(number).max().expect("files");
    for number in last + 1..last + NUMBERS {
        fs::create_dir(directory.join(format!("{number:06}.sst"))).expect("a free name");
    }
}

/// Flushes a memtable that the test fills, with records that the engine does not write itself.
#[tokio::test]
async fn a_failed_flush_of_the_log_ends_an_idle_leader() {
    let mut cluster = TestEngines::open(3, 3).await;
    let (leader, others) = cluster.leader_and_others();
    let other = others[0];
    let mut watch = other.watch_leader(SHARD).expect("a replica");
    refuse_tables(&cluster.path(leader.node()).join("log"));
    let filler = vec![0; 4 << 20];
    let store = leader.running.log();
    let failed = (0..64).any(|_| store.record_map(&filler).is_err());
    assert!(failed, "the memtable is full long before");

    let fatal = tokio::time::timeout(HANG, leader.wait_fatal()).await.expect("told at once");
    let FatalError::Log(what) = &fatal else { panic!("{fatal}") };
    assert!(what.contains("background work") && what.contains("log"), "{what}");
    while watch.current().leader == Some(leader.node()) {
        tokio::time::timeout(HANG, watch.changed()).await.expect("elected").expect("up");
    }
    tokio::time::timeout(HANG, other.put(KEY.to_vec(), "x")).await.expect("led").expect("two up");
    cluster.stop().await;
}

#[tokio::test]
async fn a_failed_flush_of_the_data_store_ends_an_idle_engine() {
    let mut cluster = TestEngines::open(1, 1).await;
    let engine = &cluster.engines[0];
    engine.put(KEY.to_vec(), "x").await.expect("up");
    refuse_tables(&cluster.path(NodeId(1)).join("data"));
    engine.running.data().flush().expect_err("no table can be made");
    let fatal = tokio::time::timeout(HANG, engine.wait_fatal()).await.expect("told at once");
    assert!(matches!(&fatal, FatalError::Data(_)), "{fatal}");
    // The worker has ended, although nothing else woke it.
    let late = tokio::time::timeout(HANG, engine.put(KEY.to_vec(), "y")).await;
    late.expect("refused").expect_err("stopped");
    cluster.stop().await;
}
