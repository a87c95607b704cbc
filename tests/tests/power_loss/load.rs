//! The recorded program: three nodes, clients, transfers of leadership, restarts.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate::{Engine, NodeId, Observer, ShardId, SyncMode, Term};
use quorate_raft::{Body, Message};
use quorate_tests::cluster::{ClusterSpec, READY, close, introduce, key};
use quorate_types::SplitMix64;

/// Shards of the cluster, all on all three nodes.
pub(crate) const SHARDS: u32 = 8;
/// Length of a client's mark, so that a file's length tells their number.
pub(crate) const MARK_BYTES: u64 = 11;
/// Writes under way at each node.
const CLIENTS_PER_NODE: u64 = 6;
/// Pause between two transfers of leadership.
const TRANSFER_PAUSE: Duration = Duration::from_millis(40);

/// The only value that is ever written under `key(number)`.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(number);
    let length = random.below(600);
    let mut value = number.to_be_bytes().to_vec();
    value.extend((0..length).map(|_| random.bits() as u8));
    value
}

/// What this process is to do.
pub(crate) struct Task {
    root: PathBuf,
    generations: u64,
    writes_per_generation: u64,
    /// A node whose log does not sync.
    unsynced: Option<u64>,
}

impl Task {
    /// The task of this process, unless it is an ordinary run of ignored tests.
    pub(crate) fn find() -> Option<Task> {
        let root = std::env::var_os("QUORATE_POWER_ROOT")?.into();
        let number = |name| std::env::var(name).ok()?.parse().ok();
        Some(Task {
            root,
            generations: number("QUORATE_POWER_GENERATIONS")?,
            writes_per_generation: number("QUORATE_POWER_WRITES")?,
            unsynced: number("QUORATE_POWER_UNSYNCED"),
        })
    }
}

/// Starts the nodes on the same directories in every generation; the last one never ends.
pub(crate) fn run(task: &Task) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let spec = ClusterSpec::new(&task.root, SHARDS);
        let clients = marks(&task.root, "clients");
        let load = Arc::new(Load { clients, started: 0.into(), acknowledged: 0.into() });
        for generation in 1..=task.generations {
            let engines = open(&spec, task).await;
            let last = generation == task.generations;
            let until = if last { u64::MAX } else { generation * task.writes_per_generation };
            load.run(&engines, until, generation).await;
            close(engines).await;
        }
    });
}

/// The stream of marks of this name, appended to in every generation.
fn marks(root: &Path, name: &str) -> File {
    let path = root.join(format!("ANNOTATIONS-{name}"));
    OpenOptions::new().create(true).append(true).open(path).expect("a file of marks")
}

/// One mark is one write, so that no cut splits it.
fn mark(mut marks: &File, line: String) {
    marks.write_all(line.as_bytes()).expect("marked");
}

async fn open(spec: &ClusterSpec, task: &Task) -> Vec<Engine> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let open = |node: &NodeId| {
        let notary = Notary {
            node: *node,
            marks: marks(&task.root, &format!("node-{node}")),
            leads: Mutex::default(),
        };
        let sync = match task.unsynced == Some(node.0) {
            true => SyncMode::UnsafeNoSync,
            false => SyncMode::Sync,
        };
        let builder = spec.builder(*node, listen).observer(Arc::new(notary)).sync(sync);
        builder.open().expect("opens")
    };
    let engines: Vec<Engine> = spec.nodes.iter().map(open).collect();
    introduce(&engines);
    for engine in &engines {
        engine.wait_ready(READY).await.expect("every shard has a leader");
    }
    engines
}

/// Marks a node's promises before their messages leave.
struct Notary {
    node: NodeId,
    marks: File,
    /// Terms in which leadership was marked.
    leads: Mutex<BTreeSet<(ShardId, Term)>>,
}

impl Observer for Notary {
    fn handle_sent(&self, _to: NodeId, shard: ShardId, message: &Message) {
        let (node, term) = (self.node, message.term);
        let vote = match &message.body {
            Body::VoteReply { pre: false, granted: true, .. } => message.to,
            // A leader has counted its own vote.
            Body::Append { .. } | Body::Heartbeat { .. } => {
                if !self.leads.lock().insert((shard, term)) {
                    return;
                }
                message.from
            }
            Body::Accepted { matched } => {
                mark(&self.marks, format!("accepted {node} {shard} {term} {matched}\n"));
                return;
            }
            _ => return,
        };
        mark(&self.marks, format!("vote {node} {shard} {term} {vote}\n"));
    }
}

/// Writes of distinct keys, and which of them were acknowledged.
struct Load {
    clients: File,
    started: AtomicU64,
    acknowledged: AtomicU64,
}

impl Load {
    /// Writes through `engines` until `until` writes are acknowledged in all generations together.
    async fn run(self: &Arc<Self>, engines: &[Engine], until: u64, seed: u64) {
        let mut tasks = tokio::task::JoinSet::new();
        for engine in engines {
            for _ in 0..CLIENTS_PER_NODE {
                tasks.spawn(Arc::clone(self).write(engine.clone(), until));
            }
        }
        tasks.spawn(Arc::clone(self).transfer(engines.to_vec(), until, seed));
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no client panics");
        }
    }

    fn goes_on(&self, until: u64) -> bool {
        self.acknowledged.load(Ordering::Relaxed) < until
    }

    async fn write(self: Arc<Self>, engine: Engine, until: u64) {
        while self.goes_on(until) {
            let number = self.started.fetch_add(1, Ordering::Relaxed);
            // A write that was refused or got no answer was promised to nobody.
            if engine.put(key(number), value(number)).await.is_ok() {
                mark(&self.clients, format!("put {number:06}\n"));
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Makes terms and votes by transferring leadership.
    async fn transfer(self: Arc<Self>, engines: Vec<Engine>, until: u64, seed: u64) {
        let mut random = SplitMix64::new(seed);
        while self.goes_on(until) {
            let shard = ShardId(1 + random.below(u64::from(SHARDS)));
            let to = engines[random.below(engines.len() as u64) as usize].node();
            for engine in &engines {
                // All nodes but the leader refuse.
                if engine.transfer_leader(shard, to).await.is_ok() {
                    break;
                }
            }
            tokio::time::sleep(TRANSFER_PAUSE).await;
        }
    }
}
