//! Goal: a damaged data store stops its node for good instead of leaving a hole, and no command can
//! stop a shard by its size. Method: real directories, a flipped byte in a table file.

use std::path::Path;
use std::time::Duration;

use quorate::{FatalError, Invalid, KvCommand, NodeId, ReadLevel, Refusal, WriteError};
use quorate_tests::cluster::{ClusterSpec, close, key};

/// Bytes that no codec shortens.
fn noise(len: usize, mut state: u64) -> Vec<u8> {
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

/// Flips a byte in the middle of every large table file.
fn damage_tables(directory: &Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(directory).expect("a data store") {
        let path = entry.expect("readable").path();
        let mut bytes = match path.extension() {
            Some(extension) if extension == "sst" => std::fs::read(&path).expect("readable"),
            _ => continue,
        };
        if bytes.len() > 50_000 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            std::fs::write(&path, bytes).expect("writable");
            damaged += 1;
        }
    }
    damaged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_apply_leaves_no_hole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut spec = ClusterSpec::new(directory.path(), 1);
    spec.nodes = vec![NodeId(1)];
    let engine = spec.open_all().await.pop().expect("one node");
    // The padding keeps the applied record, which every start reads, out of the victim's block.
    for number in 0..20 {
        engine.put(format!("pad{number}"), noise(5_000, number + 9)).await.expect("healthy");
    }
    engine.put("victim", noise(200_000, 77)).await.expect("healthy");
    engine.shutdown().await;
    assert_eq!(damage_tables(&spec.directory.join("node-1/data")), 1);

    let engine = spec.open_all().await.pop().expect("one node");
    // A large batch holds up the apply thread, so that the failing command and those behind it
    // come to it in several hand-overs.
    let put = |number: u64| KvCommand::Put { key: format!("h{number}").into(), value: "x".into() };
    let mut calls = Vec::new();
    let commands = [
        KvCommand::Batch((0..60_000).map(put).collect()),
        KvCommand::Increment { key: "victim".into(), by: 1 },
    ];
    for command in commands.into_iter().chain((0..400).map(put)) {
        let engine = engine.clone();
        calls.push(tokio::spawn(async move { engine.execute(command).await }));
        tokio::task::yield_now().await;
    }
    for call in calls {
        let _any_end = call.await.expect("no panic");
    }
    let fatal = tokio::time::timeout(Duration::from_secs(20), engine.wait_fatal()).await;
    assert!(matches!(fatal, Ok(FatalError::Data(_))), "{fatal:?}");
    engine.shutdown().await;

    // The log still holds the increment, and the table is still damaged: a start that serves has
    // skipped it.
    let engine = spec.open(NodeId(1)).expect("the log is sound");
    let fatal = tokio::time::timeout(Duration::from_secs(20), engine.wait_fatal()).await;
    assert!(matches!(fatal, Ok(FatalError::Data(_))), "a committed entry was skipped: {fatal:?}");
    engine.shutdown().await;
}

#[tokio::test]
async fn an_oversize_command_stops_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    for engine in &engines {
        let refused = engine.execute_bytes(&key(1), vec![9; 34 << 20]).await;
        let too_long = matches!(
            refused,
            Err(WriteError::DidNotHappen(Refusal::Invalid(Invalid::CommandTooLong { .. })))
        );
        assert!(too_long, "{refused:?}");
        engine.put(key(2), "after").await.expect("the shard lives on");
    }
    close(engines).await;
}

#[tokio::test]
async fn a_scan_larger_than_a_frame_comes_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut spec = ClusterSpec::new(directory.path(), 1);
    spec.nodes = vec![NodeId(1)];
    let engine = spec.open_all().await.pop().expect("one node");
    for number in 0..40 {
        engine.put(key(number), vec![1; 1 << 20]).await.expect("healthy");
    }
    let pairs = engine.scan(b"", None, 1_000, ReadLevel::Linearizable).await.expect("healthy");
    assert_eq!(pairs.len(), 40);
    assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "no pair twice");
    engine.shutdown().await;
}
