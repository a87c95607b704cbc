//! The recorded program: three nodes under load. In each round one of them is away until it needs a
//! snapshot, comes back and gets it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::{Engine, EngineBuilder, EntriesError, Index, NodeId, ShardId};
use quorate_tests::cluster::{ClusterSpec, READY, introduce};
use quorate_types::SplitMix64;

/// Clients, each of which writes its own keys in turn, one write after the other.
pub(crate) const LANES: u64 = 4;
/// With the values, some more than one part of a snapshot.
pub(crate) const KEYS_PER_LANE: u64 = 140;
const VALUE_BYTES: usize = 4096;
pub(crate) const ROUNDS: u64 = 3;
/// The shard of all keys.
const SHARD: ShardId = ShardId(1);
/// The node that is away.
pub(crate) const RECEIVER: NodeId = NodeId(3);
/// Writes of each lane after a snapshot, in which purges and flushes follow.
const WRITES_AFTER: u64 = 60;
/// So little that a log is purged through what the data store has flushed, and no less.
const LOG_KEPT_BYTES: u64 = 8 << 10;
/// Pause between two writes of a lane: what is recorded stays in memory.
const THINK: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(2);

/// A builder as all nodes here have it.
pub(crate) fn builder(spec: &ClusterSpec, node: NodeId) -> EngineBuilder {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    spec.builder(node, listen).log_kept_bytes_max(LOG_KEPT_BYTES)
}

/// Where the write `number` of `lane` goes. The first two bytes are a slot.
pub(crate) fn key(lane: u64, number: u64) -> Vec<u8> {
    format!("\0\0{lane}-{:06}", number % KEYS_PER_LANE).into_bytes()
}

/// What it writes there.
pub(crate) fn value(lane: u64, number: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(number * LANES + lane);
    let mut value = number.to_be_bytes().to_vec();
    value.extend((8..VALUE_BYTES).map(|_| random.bits() as u8));
    value
}

/// Runs all rounds and returns while everything runs: the process is to end at once.
pub(crate) fn run(root: &Path) {
    // What the nodes say tells more than a wait that ends in vain.
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let spec = ClusterSpec::new(root, 1);
        let open = |node: &NodeId| builder(&spec, *node).open().expect("it opens");
        let mut engines: Vec<Engine> = spec.nodes.iter().map(open).collect();
        introduce(&engines);
        for engine in &engines {
            engine.wait_ready(READY).await.expect("every shard has a leader");
        }
        let lanes = Arc::new(Lanes {
            marks: marks(root, "clients"),
            written: (0..LANES).map(|_| AtomicU64::new(0)).collect(),
        });
        for lane in 0..LANES {
            // Not through the node that is away.
            let engine = engines[lane as usize % 2].clone();
            tokio::spawn(Arc::clone(&lanes).write(lane, engine));
        }
        let stages = marks(root, "stages");
        lanes.flow(KEYS_PER_LANE).await;
        for round in 0..ROUNDS {
            engines.pop().expect("the receiver").shutdown().await;
            let commits = engines
                .iter()
                .map(|engine| engine.watch_position(SHARD).expect("a replica").current().commit);
            // Where its log ends: of each lane one write may be under way, and a leader's first entry.
            let left_at = commits.max().expect("two others").0 + LANES + 1;
            for engine in &engines {
                wait_purged(engine, Index(left_at)).await;
            }
            engines.push(open(&RECEIVER));
            introduce(&engines);
            mark(&stages, format!("back {round}\n"));
            let receiver = engines.last().expect("just opened");
            let arrival = async {
                while receiver.status().await.counters.snapshots_received == 0 {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(READY, arrival).await.expect("a snapshot arrives");
            lanes.flow(WRITES_AFTER).await;
            mark(&stages, format!("done {round}\n"));
        }
        // Nothing is closed in order.
        std::process::exit(0);
    });
}

/// Waits until the log of `engine` does not hold `index` any more.
async fn wait_purged(engine: &Engine, index: Index) {
    let purged = async {
        loop {
            let mut entries = engine.committed_entries(SHARD, index).expect("a replica");
            if let Err(EntriesError::Purged { .. }) = entries.next().await {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(READY, purged).await.expect("nobody needs it");
}

/// The stream of marks of this name.
fn marks(root: &Path, name: &str) -> File {
    let path = root.join(format!("ANNOTATIONS-{name}"));
    OpenOptions::new().create(true).append(true).open(path).expect("a file of marks")
}

/// One mark is one write, so that no cut splits it.
fn mark(mut marks: &File, line: String) {
    marks.write_all(line.as_bytes()).expect("marked");
}

struct Lanes {
    marks: File,
    written: Vec<AtomicU64>,
}

impl Lanes {
    /// A write that got no answer is made again: it changes nothing the second time, because the
    /// next one comes after it.
    async fn write(self: Arc<Self>, lane: u64, engine: Engine) {
        for number in 0.. {
            while engine.put(key(lane, number), value(lane, number)).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
            mark(&self.marks, format!("put {lane} {number}\n"));
            self.written[lane as usize].fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(THINK).await;
        }
    }

    /// Waits until every lane has written so many more.
    async fn flow(&self, count: u64) {
        let counts = || self.written.iter().map(|written| written.load(Ordering::Relaxed));
        let aims: Vec<u64> = counts().map(|written| written + count).collect();
        let waiting = async {
            while counts().zip(&aims).any(|(written, aim)| written < *aim) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(READY, waiting).await.expect("two of three are up");
    }
}
