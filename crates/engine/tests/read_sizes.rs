//! Goal: an answer too large for a frame comes in pages, or is refused at once by its size, also
//! through a node without a replica. Method: two nodes, and all data on the first.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use quorate::{
    Bootstrap, ClusterAuthority, ClusterId, Engine, Found, Invalid, NodeId, ReadLevel, Refusal,
    limits,
};

const CLUSTER: ClusterId = ClusterId(5);
const HANG: Duration = Duration::from_secs(60);
const LEVEL: ReadLevel = ReadLevel::Linearizable;
const VALUES: usize = 40;
const MIB: usize = 1 << 20;

fn open(directory: &Path, authority: &ClusterAuthority, node: u64) -> Engine {
    Engine::builder(directory.join(node.to_string()))
        .cluster(CLUSTER)
        .node(NodeId(node))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .tls(authority.issue(NodeId(node)).expect("a certificate"))
        .bootstrap(Bootstrap::single(&[NodeId(1)], 1))
        .open()
        .expect("a new directory")
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("key{number:04}"))
}

/// Every key comes once, whatever the size of a page, and no page exceeds its size.
async fn keys_come_in_pages(engine: &Engine, keys: &[Bytes]) {
    for (keys_max, bytes_max) in [(7, usize::MAX), (1_000, 40), (1, 1)] {
        let mut found = Vec::new();
        let mut next = Some(Bytes::new());
        while let Some(from) = next {
            let page = engine.scan_keys(&from, None, keys_max, bytes_max, LEVEL).await;
            let page = page.expect("up");
            assert!(page.keys.len() <= keys_max, "{}", page.keys.len());
            let bytes: usize = page.keys.iter().map(Bytes::len).sum();
            assert!(bytes <= bytes_max || page.keys.len() == 1, "{bytes}");
            found.extend(page.keys);
            next = page.next;
        }
        assert_eq!(found, keys);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_come_whole_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = ClusterAuthority::generate(CLUSTER).expect("certificates can be made");
    let engines = [1, 2].map(|node| open(directory.path(), &authority, node));
    engines[0].set_peer(NodeId(2), engines[1].local_address());
    engines[1].set_peer(NodeId(1), engines[0].local_address());
    engines[0].wait_ready(HANG).await.expect("its replicas are alone");
    // With its key each pair is exactly 1 MiB, so that bounds are met exactly.
    let value = Bytes::from(vec![7; MIB - key(0).len()]);
    for number in 0..VALUES {
        engines[0].put(key(number), value.clone()).await.expect("up");
    }
    let keys: Vec<Bytes> = (0..VALUES).map(key).collect();
    for engine in &engines {
        let found = engine.get_many(&keys, LEVEL).await.expect("40 MiB in pages");
        assert!(found.iter().all(|found| found.as_ref() == Some(&value)));
        let pairs = engine.scan(b"", None, 1_000, LEVEL).await.expect("40 MiB in pages");
        assert!(pairs.iter().map(|(key, _)| key).eq(&keys), "{} pairs", pairs.len());
        assert_eq!(engine.count(b"", None, LEVEL).await, Ok(VALUES as u64));
        keys_come_in_pages(engine, &keys).await;
        // They are refused by their sizes alone: nothing of that length is ever held.
        let many: Vec<Bytes> = keys.iter().cycle().take(300).cloned().collect();
        let refused = engine.get_many(&many, LEVEL).await.expect_err("300 MiB");
        let found = value.len() * 300;
        let max = limits::READ_BYTES_MAX;
        assert_eq!(refused.0, Refusal::Invalid(Invalid::AnswerTooLong { found, max }));
        let lengths = vec![Some(value.len() as u64); VALUES];
        let short = engine.get_within(&keys, value.len() * VALUES - 1, LEVEL).await;
        assert_eq!(short, Ok(Found::Lengths(lengths)));
        let just = engine.get_within(&keys, value.len() * VALUES, LEVEL).await.expect("up");
        assert!(matches!(just, Found::All(values) if values.len() == VALUES));
    }
    for engine in engines {
        engine.shutdown().await;
    }
}
