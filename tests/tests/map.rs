//! The cluster's map: founded once, kept, corrected; and the cluster's reports about itself.

use std::net::SocketAddr;
use std::time::Duration;

use quorate::{
    Bootstrap, ClusterAuthority, ClusterId, Engine, Health, NodeId, NodeState, ReadLevel,
    ReplicaRole, ShardId, ShardState, ShardStatus,
};
use quorate_machine::AppliedRecord;
use quorate_node::report::ClusterReport;
use quorate_tests::cluster::{ClusterSpec, READY, close, introduce, key};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const ASK: Duration = Duration::from_secs(2);

/// Waits until the cluster's status at `engine` satisfies `wanted`.
async fn seen(engine: &Engine, wanted: impl Fn(&ClusterReport) -> bool) -> ClusterReport {
    let deadline = tokio::time::Instant::now() + READY;
    loop {
        let status = ClusterReport::from(&engine.cluster_status(ASK).await);
        if wanted(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "never came: {status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Goal: every node is in the meta shard's map with its directory and services, every node has that
/// map, also right after a restart, and the status is correct when a node is gone.
#[tokio::test]
async fn the_map_names_every_node_and_status_tells_who_is_gone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 4);
    let open = |node: u64| {
        let redis = SocketAddr::from(([127, 0, 0, 1], 7000 + u16::try_from(node).expect("few")));
        let builder = spec.builder(NodeId(node), SocketAddr::from(LOOPBACK));
        builder.service("redis", redis).open().expect("opens")
    };
    let mut engines: Vec<Engine> = (1..=3).map(open).collect();
    introduce(&engines);
    for engine in &engines {
        let whole = |status: &ClusterReport| {
            status.health == Health::Healthy
                && status.nodes.iter().all(|node| node.services.contains_key("redis"))
        };
        let status = seen(engine, whole).await;
        assert_eq!(status.nodes.len(), 3);
        assert_eq!(status.nodes[1].services["redis"], "127.0.0.1:7002");
        assert_eq!(status.shards.len(), 5, "four and the meta shard");
        assert!(status.map_revision >= 4, "founded, and three nodes registered");
        assert!(status.problems.is_empty(), "{:?}", status.problems);
    }
    engines.pop().expect("three").shutdown().await;
    let status = seen(&engines[0], |s| s.nodes[2].state == NodeState::Unreachable).await;
    let status = if status.health == Health::Unavailable {
        // It led some shards, whose elections take a moment.
        seen(&engines[0], |status| status.health == Health::Degraded).await
    } else {
        status
    };
    assert!(status.nodes[2].reason.is_some());
    assert!(status.shards.iter().all(|shard| shard.state == ShardState::UnderReplicated));
    assert!(status.problems.iter().any(|p| p.starts_with("node 3 at ")), "{:?}", status.problems);

    close(engines).await;
    let alone = open(1);
    let status = ClusterReport::from(&alone.cluster_status(ASK).await);
    assert!(status.map_revision >= 4, "the map was kept on disk: {}", status.map_revision);
    assert_eq!(status.nodes[2].services["redis"], "127.0.0.1:7003");
    assert_eq!(status.health, Health::Unavailable);
    close(vec![alone]).await;
}

/// Goal: before a stop every leadership goes to another node, where writes continue at once.
#[tokio::test]
async fn leaderships_are_handed_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 12);
    let engines = spec.open_all().await;
    for leaving in &engines {
        let handed = leaving.drain(Duration::from_secs(10)).await;
        assert_eq!(handed.kept, 0, "node {} keeps some", leaving.node());
        let led = |shard: &&ShardStatus| shard.role == ReplicaRole::Leader;
        assert_eq!(leaving.status().await.shards.iter().filter(led).count(), 0);
        for number in 0..20 {
            leaving.put(key(number), "x").await.expect("the new leaders serve");
        }
    }
    close(engines).await;
}

/// Goal: a request that was routed by an old descriptor is refused with the new one, whichever way
/// it came; the caller's node learns it and succeeds; so no write is done by an old map (RULES 1
/// and 11). Method: shards can't split yet, so between two lives the replicas' applied records are
/// rewritten to version 2, as if a split had been applied. A fourth node, without replicas, still
/// knows version 1.
#[tokio::test]
async fn an_old_route_is_corrected_by_the_answer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (cluster, shard) = (ClusterId(0xc1), ShardId(1));
    let authority = ClusterAuthority::generate(cluster).expect("certificates can be made");
    let founders: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let open = |node: u64| {
        Engine::builder(directory.path().join(format!("node-{node}")))
            .cluster(cluster)
            .node(NodeId(node))
            .listen(SocketAddr::from(LOOPBACK))
            .tls(authority.issue(NodeId(node)).expect("a certificate can be issued"))
            .bootstrap(Bootstrap::single(&founders, 3))
            .open()
            .expect("opens")
    };
    let engines: Vec<Engine> = (1..=4).map(open).collect();
    introduce(&engines);
    engines[3].put("k", "before").await.expect("any node takes any request");
    // A replica's raised record would refuse what it has not applied yet.
    let applied = |status: &ClusterReport| {
        let replicas =
            status.shards.iter().filter(|s| s.shard == shard.0).flat_map(|s| &s.replicas);
        let mut places = replicas.map(|replica| (replica.applied, replica.last));
        places.all(|(applied, last)| applied.is_some() && applied == last)
    };
    seen(&engines[3], applied).await;
    close(engines).await;
    for node in 1..=3 {
        raise_version(&directory.path().join(format!("node-{node}/data")), shard);
    }
    let engines: Vec<Engine> = (1..=4).map(open).collect();
    introduce(&engines);
    engines[0].wait_ready(READY).await.expect("serves");
    // Only a node without a replica has an old map: a refusal tells it of the change. Many requests
    // at once: one of them learns, and the others must notice that.
    let began = tokio::time::Instant::now();
    let read = || async { engines[3].get(b"k", ReadLevel::Linearizable).await };
    let (one, two, three) = tokio::join!(read(), read(), read());
    for value in [one, two, three] {
        assert_eq!(value.expect("corrected").as_deref(), Some(&b"before"[..]));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "waited: {:?}", began.elapsed());
    engines[3].put("k", "after").await.expect("corrected");
    let pairs = engines[3].scan(b"", None, 10, ReadLevel::Linearizable).await.expect("scans");
    assert_eq!(pairs.len(), 1);
    assert_eq!(&pairs[0].1[..], b"after");
    // And the leader reports what its log says, so that the directory follows.
    let reported =
        |status: &ClusterReport| status.shards.iter().any(|s| s.shard == shard.0 && s.version == 2);
    let status = seen(&engines[3], reported).await;
    assert_eq!(status.health, Health::Healthy, "{:?}", status.problems);
    close(engines).await;
}

/// Rewrites the applied record of `shard` in the data store at `path`.
fn raise_version(path: &std::path::Path, shard: ShardId) {
    let store = rocksdb::DB::open(&rocksdb::Options::default(), path).expect("opens");
    let mut found = 0;
    // Spaces are given out in the order of the shards, the meta shard's first.
    let space = shard.0 + 1;
    let key = (2 * space).to_be_bytes();
    if let Some(bytes) = store.get(key).expect("readable") {
        let mut record = AppliedRecord::decode(&bytes).expect("sound");
        record.epoch.version += 1;
        store.put(key, record.encode()).expect("written");
        found += 1;
    }
    store.flush().expect("flushed");
    assert_eq!(found, 1, "the store holds the shard's record");
}
