//! Goal: no size of command or answer stops a shard. Method: real directories, commands and scans
//! beyond what a frame can carry.

use quorate::{Invalid, NodeId, ReadLevel, Refusal, WriteError};
use quorate_tests::cluster::{ClusterSpec, close, key};

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
