//! Code that several benchmarks share: sample runs, and a cluster of three nodes in this process.

use std::time::Duration;

use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, NodeId};
use quorate_raft::{EntryKind, Run, RunDraft};
use quorate_types::{Index, Term};
use tempfile::TempDir;

/// A run of `count` command entries of `payload` bytes each.
#[must_use]
pub fn sample_run(term: Term, first: Index, count: usize, payload: usize) -> Run {
    let payload = vec![0x5a; payload];
    let mut draft = RunDraft::new();
    for _ in 0..count {
        draft.push(EntryKind::Command, &[&payload]);
    }
    draft.seal(term, first)
}

/// The keys that split the benchmarks' keys, which begin with a number below 16,384 as two bytes,
/// into `parts` equal parts.
fn split_keys(parts: u32) -> impl Iterator<Item = Vec<u8>> {
    (1..parts).map(move |part| {
        let start = u16::try_from(16_384 * part / parts).expect("14 bits");
        start.to_be_bytes().to_vec()
    })
}

/// Three nodes over real QUIC on loopback, each with its own directory and databases.
pub struct Cluster {
    /// The nodes, by id.
    pub engines: Vec<Engine>,
    directory: TempDir,
}

impl Cluster {
    /// Opens the nodes and waits until every shard has a leader.
    ///
    /// # Panics
    /// If the cluster can't be opened: a benchmark has no better answer.
    pub async fn open(shards: u32) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cluster = ClusterId(1);
        let authority = ClusterAuthority::generate(cluster).expect("certificates");
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let open = |node: &NodeId| {
            Engine::builder(directory.path().join(node.to_string()))
                .cluster(cluster)
                .node(*node)
                .listen("127.0.0.1:0".parse().expect("an address"))
                .tls(authority.issue(*node).expect("a certificate"))
                .bootstrap(Bootstrap::split_at(&nodes, 3, split_keys(shards)))
                .open()
                .expect("a new directory opens")
        };
        let engines: Vec<Engine> = nodes.iter().map(open).collect();
        for engine in &engines {
            for other in &engines {
                engine.set_peer(other.node(), other.local_address());
            }
        }
        for engine in &engines {
            engine.wait_ready(Duration::from_secs(30)).await.expect("every shard has a leader");
        }
        Cluster { engines, directory }
    }

    /// The node that leads the shard of `key`.
    #[must_use]
    pub fn leader_of(&self, key: &[u8]) -> &Engine {
        let leader = self.engines[0].locate(key).and_then(|location| location.leader);
        let own = |engine: &&Engine| Some(engine.node()) == leader;
        self.engines.iter().find(own).unwrap_or(&self.engines[0])
    }

    /// Stops every node and removes the directory.
    pub async fn close(self) {
        for engine in self.engines {
            engine.shutdown().await;
        }
        drop(self.directory);
    }
}
