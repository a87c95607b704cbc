//! Goal: no read walks over data on its caller's own runtime, whose other tasks would be blocked.
//! Method: a runtime whose one thread for blocking work is taken; reads of many keys must wait for
//! it, however often they are polled, and answer once it is free.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, KvCommand, NodeId, ReadLevel};

const CLUSTER: ClusterId = ClusterId(4);
const KEYS: usize = 1_000;

fn keys() -> Vec<Bytes> {
    (0..KEYS).map(|number| Bytes::from(format!("key{number:04}"))).collect()
}

async fn opened(directory: &std::path::Path) -> Engine {
    let authority = ClusterAuthority::generate(CLUSTER).expect("a certificate");
    let engine = Engine::builder(directory)
        .cluster(CLUSTER)
        .node(NodeId(1))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .tls(authority.issue(NodeId(1)).expect("a certificate"))
        .bootstrap(Bootstrap::single(&[NodeId(1)], 1))
        .open()
        .expect("a new directory");
    engine.wait_ready(Duration::from_secs(60)).await.expect("one node is enough");
    let put = |key| KvCommand::Put { key, value: Bytes::from_static(b"v") };
    engine.execute(KvCommand::Batch(keys().into_iter().map(put).collect())).await.expect("up");
    engine
}

/// Returns the answer of `read`, once `read` was seen to wait for a thread that may block.
async fn waits_for_a_thread<T>(read: impl Future<Output = T>) -> T {
    let (open, opened) = mpsc::channel::<()>();
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let taken = tokio::task::spawn_blocking(move || {
        began.send(()).expect("awaited");
        opened.recv().expect("opened");
    });
    has_begun.await.expect("begins");
    let mut read = pin!(read);
    for _ in 0..1_000 {
        let polled = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "it was read on the caller's thread");
        tokio::task::yield_now().await;
    }
    open.send(()).expect("awaited");
    taken.await.expect("ends");
    read.await
}

#[test]
fn walks_are_not_on_the_callers_runtime() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = opened(directory.path()).await;
        // Stale, so that the read waits for nothing else.
        let level = ReadLevel::Stale;
        let counted = waits_for_a_thread(engine.count(b"", None, level)).await;
        assert_eq!(counted, Ok(KEYS as u64));
        let scanned = waits_for_a_thread(engine.scan(b"", None, KEYS, level)).await;
        assert_eq!(scanned.expect("up").len(), KEYS);
        let keys = keys();
        let found = waits_for_a_thread(engine.get_many(&keys, level)).await.expect("up");
        assert!(found.iter().all(Option::is_some));
        engine.shutdown().await;
    });
}
