//! Goal: two nodes that can't reach each other, while a third one reaches both, serve every
//! request, and the cluster's status says what is wrong. Method: three engines; the datagrams
//! between nodes 1 and 3, and between 1 and 2, pass through the test's own links, which are cut and
//! mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate::{
    Engine, Health, IncrementError, Lag, NodeId, ReadLevel, ShardId, ShardState, WriteError,
};
use quorate_node::report::{ClusterReport, ReplicaReport};
use quorate_tests::cluster::{ClusterSpec, READY, close, key, let_lead};
use quorate_tests::link::Link;

const SHARDS: u32 = 6;
const KEYS: u64 = 30;
const ASK: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);
const WRITERS: u64 = 8;

struct Apart {
    engines: Vec<Engine>,
    first_and_third: Link,
    first_and_second: Link,
    _directory: tempfile::TempDir,
}

impl Apart {
    /// Nodes 1, 2 and 3 lead the shards in turn.
    async fn open() -> Apart {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spec = ClusterSpec::new(directory.path(), SHARDS);
        let open = |node: &NodeId| spec.open(*node).expect("a sound directory opens");
        let engines: Vec<Engine> = spec.nodes.iter().map(open).collect();
        let (first, second, third) = (&engines[0], &engines[1], &engines[2]);
        let between = |a: &Engine, b: &Engine| Link::between(a.local_address(), b.local_address());
        let first_and_third = between(first, third).await;
        let first_and_second = between(first, second).await;
        first.set_peer(NodeId(2), first_and_second.second());
        second.set_peer(NodeId(1), first_and_second.first());
        first.set_peer(NodeId(3), first_and_third.second());
        third.set_peer(NodeId(1), first_and_third.first());
        second.set_peer(NodeId(3), third.local_address());
        third.set_peer(NodeId(2), second.local_address());
        for engine in &engines {
            engine.wait_ready(READY).await.expect("every shard has a leader");
        }
        for shard in 0..=u64::from(SHARDS) {
            let_lead(&engines, ShardId(shard), NodeId(shard % 3 + 1)).await;
        }
        Apart { engines, first_and_third, first_and_second, _directory: directory }
    }

    /// Waits until the cluster's status at node 2 satisfies `wanted`.
    async fn seen(&self, wanted: impl Fn(&ClusterReport) -> bool) -> ClusterReport {
        let deadline = tokio::time::Instant::now() + READY;
        loop {
            let status = ClusterReport::from(&self.engines[1].cluster_status(ASK).await);
            if wanted(&status) {
                return status;
            }
            let now = tokio::time::Instant::now();
            assert!(now < deadline, "never came: {:?} {:?}", status.health, status.problems);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Cuts nodes 1 and 3 off from each other, and waits until they serve all keys nevertheless.
    async fn cut(&self) {
        self.first_and_third.cut();
        for engine in [&self.engines[0], &self.engines[2]] {
            for number in 0..KEYS {
                let deadline = tokio::time::Instant::now() + READY;
                while let Err(error) = engine.put(key(number), "0").await {
                    let now = tokio::time::Instant::now();
                    assert!(now < deadline, "node {}: {error}", engine.node());
                }
            }
        }
    }
}

fn is_apart(status: &ClusterReport) -> bool {
    status.problems.iter().any(|problem| problem.contains("nodes 1 and 3 do not hear each other"))
}

/// Goal: while nodes 1 and 3 are apart, every write and read through any node is done, and once;
/// the status is degraded and names the pair and the replicas that get nothing; afterwards all is
/// well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_take_the_way_over_a_third_node() {
    let apart = Apart::open().await;
    apart.seen(|status| status.health == Health::Healthy).await;
    apart.cut().await;
    for number in 0..KEYS {
        for engine in &apart.engines {
            let sum = engine.increment(key(number), 1).await;
            sum.expect("a way is there, and it is an integer");
        }
    }
    let keys: Vec<Bytes> = (0..KEYS).map(|number| Bytes::from(key(number))).collect();
    for engine in &apart.engines {
        let values = engine.get_many(&keys, ReadLevel::Linearizable).await.expect("a way is there");
        assert!(values.iter().all(|value| value.as_deref() == Some(b"3")), "{values:?}");
        let count = engine.count(b"", None, ReadLevel::Linearizable).await;
        assert_eq!(count.expect("a way is there"), KEYS);
    }
    let relayed = apart.engines[1].status().await.counters.relayed;
    assert!(relayed > 0, "node 2 has passed requests on");

    let status = apart.seen(is_apart).await;
    assert_eq!(status.health, Health::Degraded, "{:?}", status.problems);
    let gets_nothing = |problem: &String| problem.starts_with("node 3 gets nothing of shards");
    assert!(status.problems.iter().any(gets_nothing), "{:?}", status.problems);
    for shard in &status.shards {
        let expected = match shard.leader {
            Some(1) => Some(3),
            Some(3) => Some(1),
            _ => None,
        };
        let lag = |replica: &&ReplicaReport| replica.lag == Some(Lag::Leaderless);
        let found = shard.replicas.iter().find(lag).map(|replica| replica.node);
        assert_eq!(found, expected, "{shard:?}");
        let state = expected.map_or(ShardState::Healthy, |_| ShardState::UnderReplicated);
        assert_eq!(shard.state, state, "{shard:?}");
    }
    assert_eq!(status.nodes[0].unheard.len(), 1);

    apart.first_and_third.mend();
    apart.seen(|status| status.health == Health::Healthy).await;
    close(apart.engines).await;
}

/// Goal: a forwarded write whose answer is lost is never sent again: the counters hold what was
/// acknowledged, and at most the unknown writes besides. Method: node 3 counts over node 2 in
/// shards that node 1 leads, and node 1 is cut off from both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_sent_on_counts_once() {
    let apart = Apart::open().await;
    apart.cut().await;
    let (stop, third) = (Arc::new(AtomicBool::new(false)), &apart.engines[2]);
    let lost = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (engine, stop, lost) = (third.clone(), Arc::clone(&stop), Arc::clone(&lost));
            tokio::spawn(count(engine, number, stop, lost))
        })
        .collect();
    let relayed = apart.engines[1].status().await.counters.relayed;
    apart.wait_relayed(relayed + 10 * WRITERS).await;
    apart.first_and_second.cut();
    // Nodes 2 and 3 elect new leaders; what was sent to node 1 has an unknown outcome.
    let waiting = async {
        while lost.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(READY, waiting).await.expect("an answer is lost");
    apart.first_and_second.mend();
    apart.first_and_third.mend();
    apart.seen(|status| status.health == Health::Healthy).await;
    stop.store(true, Ordering::SeqCst);
    for (number, writer) in (0..).zip(writers) {
        let (acknowledged, unknown) = writer.await.expect("no panic");
        let value = apart.engines[0].get(&key(number), ReadLevel::Linearizable).await.expect("up");
        let text = String::from_utf8(value.expect("written").to_vec()).expect("decimal");
        let counted: u64 = text.parse().expect("a number");
        let bounds = acknowledged..=acknowledged + unknown;
        assert!(bounds.contains(&counted), "{counted} of {acknowledged} and {unknown} unknown");
    }
    close(apart.engines).await;
}

impl Apart {
    async fn wait_relayed(&self, wanted: u64) {
        let relayed = async || self.engines[1].status().await.counters.relayed;
        let waiting = async {
            while relayed().await < wanted {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(READY, waiting).await.expect("node 2 passes requests on");
    }
}

/// Increments its own counter until `stop`: how many were acknowledged, and how many are unknown.
async fn count(
    engine: Engine,
    number: u64,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
) -> (u64, u64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    while !stop.load(Ordering::SeqCst) {
        match engine.increment(key(number), 1).await {
            Ok(_) => acknowledged += 1,
            Err(IncrementError::Write(WriteError::OutcomeUnknown(_))) => {
                unknown += 1;
                lost.fetch_add(1, Ordering::SeqCst);
            }
            Err(IncrementError::Write(WriteError::DidNotHappen(_))) => {}
            Err(other) => panic!("an integer: {other}"),
        }
    }
    (acknowledged, unknown)
}
