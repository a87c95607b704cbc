//! Goal: a read of many keys sees all changes that one write made in one shard, or none. Method: a
//! writer gives two keys the same value in one batch, over and over, while one request reads both.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, KvCommand, NodeId, ReadLevel};

const CLUSTER: ClusterId = ClusterId(6);
const KEYS: [&str; 2] = ["a", "b"];
const WRITES: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_seen_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = ClusterAuthority::generate(CLUSTER).expect("certificates can be made");
    let engine = Engine::builder(directory.path())
        .cluster(CLUSTER)
        .node(NodeId(1))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .tls(authority.issue(NodeId(1)).expect("a certificate"))
        .bootstrap(Bootstrap::single(&[NodeId(1)], 1))
        .open()
        .expect("a new directory");
    engine.wait_ready(Duration::from_secs(60)).await.expect("one node is enough");

    let writer = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                let value = Bytes::copy_from_slice(&number.to_le_bytes());
                let put = |key: &str| KvCommand::Put {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    value: value.clone(),
                };
                let batch = KvCommand::Batch(KEYS.map(put).to_vec());
                engine.execute(batch).await.expect("up");
            }
        })
    };
    let keys = KEYS.map(Bytes::from);
    while !writer.is_finished() {
        let found = engine.get_many(&keys, ReadLevel::Linearizable).await.expect("up");
        assert_eq!(found[0], found[1], "one write gave both their values");
    }
    writer.await.expect("no panic");
    engine.shutdown().await;
}
