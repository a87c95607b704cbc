//! Goal: three engines behave as one store, through stops, restarts and transfers, and refuse wrong
//! requests by name. Method: the public interface, real QUIC on loopback, real directories.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate::{
    ClusterAuthority, ClusterId, Engine, Invalid, KvCommand, KvReply, NodeId, OpenFault, ReadLevel,
    Refusal, WriteError, limits,
};
use quorate_tests::cluster::{ClusterSpec, READY, close, introduce, key};

const KEYS: u64 = 300;

async fn put_all(engine: &Engine, value: &str) {
    let puts: Vec<_> = (0..KEYS)
        .map(|number| {
            let (engine, value) = (engine.clone(), value.to_owned());
            tokio::spawn(async move { engine.put(key(number), value).await })
        })
        .collect();
    for put in puts {
        put.await.expect("no panic").expect("a majority is up");
    }
}

async fn assert_all(engine: &Engine, value: &str) {
    let keys: Vec<Bytes> = (0..KEYS).map(|number| Bytes::from(key(number))).collect();
    let values = engine.get_many(&keys, ReadLevel::Linearizable).await.expect("a majority is up");
    let wanted = Some(Bytes::from(value.to_owned()));
    assert!(values.iter().all(|found| *found == wanted), "node {} lags", engine.node());
}

#[tokio::test]
async fn any_node_takes_any_request() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 8).open_all().await;
    for (number, engine) in engines.iter().enumerate() {
        put_all(engine, &format!("round {number}")).await;
        for reader in &engines {
            assert_all(reader, &format!("round {number}")).await;
        }
    }
    let pairs = engines[1].scan(b"", None, 10_000, ReadLevel::Linearizable).await.expect("up");
    assert_eq!(pairs.len() as u64, KEYS);
    assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "scans are in key order across shards");
    let count = engines[2].count(b"", None, ReadLevel::Linearizable).await.expect("up");
    assert_eq!(count, KEYS);
    assert!(engines[0].delete(key(0)).await.expect("up"));
    assert!(!engines[1].delete(key(0)).await.expect("up"));
    close(engines).await;
}

#[tokio::test]
async fn increments_from_everywhere_count_once_each() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 4).open_all().await;
    let adds: Vec<_> = (0..600usize)
        .map(|number| {
            let engine = engines[number % engines.len()].clone();
            tokio::spawn(async move { engine.increment(key(1), 1).await })
        })
        .collect();
    for add in adds {
        add.await.expect("no panic").expect("up, and an integer");
    }
    let sum = engines[2].get(&key(1), ReadLevel::Linearizable).await.expect("up");
    assert_eq!(sum.as_deref(), Some(&b"600"[..]));
    close(engines).await;
}

#[tokio::test]
async fn a_stopped_node_comes_back_and_catches_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 8);
    let mut engines = spec.open_all().await;
    put_all(&engines[0], "before").await;
    let lost = engines.pop().expect("three nodes");
    let address = lost.local_address();
    lost.shutdown().await;
    put_all(&engines[0], "without it").await;
    let back = spec.builder(NodeId(3), address).open().expect("its own directory");
    engines.push(back);
    introduce(&engines);
    engines[2].wait_ready(READY).await.expect("it finds the leaders");
    assert_all(&engines[2], "without it").await;
    close(engines).await;
}

#[tokio::test]
async fn all_stopped_and_started_again_hold_everything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 8);
    let engines = spec.open_all().await;
    put_all(&engines[0], "kept").await;
    // Dropped, not shut down: nothing of the data store is flushed on purpose twice.
    tokio::task::spawn_blocking(move || drop(engines)).await.expect("no panic");
    let engines = spec.open_all().await;
    for engine in &engines {
        assert_all(engine, "kept").await;
    }
    close(engines).await;
}

#[tokio::test]
async fn a_transfer_under_load_loses_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let writer = engines[0].clone();
    let load = tokio::spawn(async move {
        let mut known = Vec::new();
        for number in 0..2_000 {
            match writer.put(key(number), "x").await {
                Ok(()) => known.push(number),
                Err(WriteError::OutcomeUnknown(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        known
    });
    for round in 0..6u64 {
        let place = engines[0].locate(&key(1)).expect("one shard");
        let from =
            place.leader.and_then(|node| engines.iter().find(|engine| engine.node() == node));
        let to = NodeId(1 + round % 3);
        if let Some(from) = from.filter(|from| from.node() != to) {
            // It may be refused while another election runs; the test is about the load.
            let _begun = from.transfer_leader(place.shard, to).await;
        }
        engines[0].put(key(9_999), "y").await.expect("writes resume");
    }
    let known = load.await.expect("no panic");
    assert!(known.len() > 1_000, "most writes are acknowledged");
    let keys: Vec<Bytes> = known.iter().map(|number| Bytes::from(key(*number))).collect();
    let values = engines[1].get_many(&keys, ReadLevel::Linearizable).await.expect("up");
    assert!(values.iter().all(Option::is_some), "an acknowledged write is missing");
    close(engines).await;
}

#[tokio::test]
async fn a_wiped_node_is_refused_under_its_old_id() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let engines = spec.open_all().await;
    put_all(&engines[0], "kept").await;
    let addresses: Vec<SocketAddr> = engines.iter().map(Engine::local_address).collect();
    close(engines).await;
    // Every node restarts, so that each knows the third only from its own disk; the third is empty.
    std::fs::remove_dir_all(spec.directory.join("node-3")).expect("it was there");
    let engines: Vec<Engine> = (1..=3u64)
        .zip(&addresses)
        .map(|(node, address)| spec.builder(NodeId(node), *address).open().expect("opens"))
        .collect();
    introduce(&engines);
    engines[0].wait_ready(READY).await.expect("two of three go on");
    assert_all(&engines[1], "kept").await;
    let third = &engines[0].status().await.peers[1];
    assert!(!third.connected, "a wiped directory must not speak as the old node");
    let reason = engines[2].wait_fatal().await.to_string();
    assert!(reason.contains("let it join as a new node"), "told why: {reason}");
    close(engines).await;
}

#[tokio::test]
async fn without_a_majority_writes_end_with_an_error_and_resume() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let mut engines = spec.open_all().await;
    let second = engines.remove(1);
    let address = second.local_address();
    second.shutdown().await;
    engines.remove(1).shutdown().await;
    let stuck = engines[0].put(key(1), "x").await;
    assert!(stuck.is_err(), "one of three must not acknowledge");
    let back = spec.builder(NodeId(2), address).open().expect("its own directory");
    engines.push(back);
    introduce(&engines);
    engines[0].put(key(2), "y").await.expect("two of three go on");
    close(engines).await;
}

#[tokio::test]
async fn shutdown_answers_every_pending_call() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let mut engines = spec.open_all().await;
    let alone = engines.remove(0);
    close(engines).await;
    // No majority is left, so these calls wait for it; the shutdown must end them.
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let engine = alone.clone();
            tokio::spawn(async move { engine.put(key(number), "x").await })
        })
        .collect();
    let reader = alone.clone();
    let read = tokio::spawn(async move { reader.get(&key(1), ReadLevel::Linearizable).await });
    tokio::task::yield_now().await;
    alone.clone().shutdown().await;
    for call in calls {
        let ended = tokio::time::timeout(Duration::from_secs(5), call).await;
        assert!(ended.expect("answered").expect("no panic").is_err());
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), read).await;
    assert!(ended.expect("answered").expect("no panic").is_err());
    let after = alone.put(key(1), "x").await;
    assert!(matches!(after, Err(WriteError::DidNotHappen(Refusal::Stopped(_)))), "{after:?}");
}

#[tokio::test]
async fn bad_requests_are_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 4).open_all().await;
    let engine = &engines[0];
    let refused = |result: Result<(), WriteError>| match result {
        Err(WriteError::DidNotHappen(Refusal::Invalid(invalid))) => invalid,
        other => panic!("{other:?}"),
    };
    let long = vec![0; limits::KEY_BYTES_MAX + 1];
    let found = refused(engine.put(long, "x").await);
    assert!(matches!(found, Invalid::KeyTooLong { .. }), "{found}");
    let large = vec![0; limits::VALUE_BYTES_MAX + 1];
    let found = refused(engine.put(key(1), large).await);
    assert!(matches!(found, Invalid::ValueTooLong { .. }), "{found}");
    let put = |slot: u16| KvCommand::Put {
        key: Bytes::copy_from_slice(&slot.to_be_bytes()),
        value: Bytes::new(),
    };
    let batch = KvCommand::Batch(vec![put(0), put(16_383)]);
    let found = refused(engine.execute(batch).await.map(drop));
    assert!(matches!(found, Invalid::CrossShard { .. }), "{found}");
    let backwards = KvCommand::DeleteRange { start: "b".into(), end: "a".into() };
    assert_eq!(refused(engine.execute(backwards).await.map(drop)), Invalid::EmptyRange);
    let batch = KvCommand::Batch(vec![put(5), put(6)]);
    let reply = engine.execute(batch).await.expect("one shard");
    assert_eq!(reply, KvReply::Batch(vec![KvReply::Done, KvReply::Done]));
    let largest = vec![7; limits::VALUE_BYTES_MAX];
    engine.put(key(1), largest.clone()).await.expect("the largest value is allowed");
    let read = engines[1].get(&key(1), ReadLevel::Linearizable).await.expect("up");
    assert!(read.as_deref() == Some(&largest[..]), "the largest value comes back");
    close(engines).await;
}

#[tokio::test]
async fn foreign_directories_and_ports_are_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 2);
    let engine = spec.open(NodeId(1)).expect("a new directory");
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let fault = |builder: quorate::EngineBuilder| {
        let mut error = builder.open().err().expect("must be refused");
        println!("{error}");
        error.faults.remove(0)
    };
    let in_use = fault(spec.builder(NodeId(1), free));
    assert!(matches!(in_use, OpenFault::Log(quorate_log::LogOpenError::InUse { .. })), "{in_use}");
    let taken = fault(spec.builder(NodeId(2), engine.local_address()));
    assert!(matches!(taken, OpenFault::Transport(_)), "{taken}");
    engine.shutdown().await;

    let other = ClusterId(0xbad);
    let authority = ClusterAuthority::generate(other).expect("certificates can be made");
    let tls = authority.issue(NodeId(1)).expect("a certificate");
    let foreign = fault(spec.builder(NodeId(1), free).cluster(other).tls(tls));
    let text = foreign.to_string();
    assert!(
        matches!(foreign, OpenFault::Log(quorate_log::LogOpenError::OtherCluster { .. })),
        "{text}"
    );
    let tls = spec.authority.issue(NodeId(7)).expect("a certificate");
    let foreign = fault(spec.builder(NodeId(1), free).node(NodeId(7)).tls(tls));
    assert!(
        matches!(foreign, OpenFault::Log(quorate_log::LogOpenError::OtherNode { .. })),
        "{foreign}"
    );
    let faults = Engine::builder(directory.path()).workers(0).open().err().expect("faults").faults;
    assert!(faults.len() >= 6, "every fault is named, not only the first: {faults:?}");
}
