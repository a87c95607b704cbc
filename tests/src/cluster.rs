//! Three engines in one process, over real QUIC on loopback and real directories.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate::{
    Bootstrap, ClusterAuthority, ClusterId, Engine, EngineBuilder, FatalError, NodeId, OpenError,
    ShardId,
};
use quorate_node::redis::protocol::slot::split_keys;
use quorate_types::SPREAD;

/// Longest wait for every shard to have a leader.
pub const READY: Duration = Duration::from_secs(30);

/// What the nodes of a test cluster have in common.
pub struct ClusterSpec {
    /// Holds one directory per node.
    pub directory: PathBuf,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Its certificate authority.
    pub authority: ClusterAuthority,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Its number of shards.
    pub shards: u32,
}

impl ClusterSpec {
    /// Three nodes below `directory`.
    #[must_use]
    pub fn new(directory: &Path, shards: u32) -> ClusterSpec {
        let cluster = ClusterId(0xc1);
        ClusterSpec {
            directory: directory.to_owned(),
            cluster,
            authority: ClusterAuthority::generate(cluster).expect("certificates can be made"),
            nodes: (1..=3).map(NodeId).collect(),
            shards,
        }
    }

    /// A builder for `node` that listens on `listen`.
    pub fn builder(&self, node: NodeId, listen: SocketAddr) -> EngineBuilder {
        Engine::builder(self.directory.join(format!("node-{node}")))
            .cluster(self.cluster)
            .node(node)
            .listen(listen)
            .tls(self.authority.issue(node).expect("a certificate can be issued"))
            .bootstrap(even(&self.nodes, self.shards))
    }

    /// Opens `node` on a free port.
    ///
    /// # Errors
    /// As [`EngineBuilder::open`].
    pub fn open(&self, node: NodeId) -> Result<Engine, OpenError> {
        self.builder(node, SocketAddr::from(([127, 0, 0, 1], 0))).open()
    }

    /// Opens every node, makes them known to each other and waits until every shard has a leader.
    ///
    /// # Panics
    /// If that fails.
    pub async fn open_all(&self) -> Vec<Engine> {
        let open = |node: &NodeId| self.open(*node).expect("a sound directory opens");
        let engines: Vec<Engine> = self.nodes.iter().map(open).collect();
        introduce(&engines);
        for engine in &engines {
            engine.wait_ready(READY).await.expect("every shard has a leader");
        }
        engines
    }
}

/// Tells every engine where the others are.
pub fn introduce(engines: &[Engine]) {
    for engine in engines {
        for other in engines {
            engine.set_peer(other.node(), other.local_address());
        }
    }
}

/// Transfers the leadership of `shard` until `node` has it.
///
/// # Panics
/// If `node` does not lead in time.
pub async fn let_lead(engines: &[Engine], shard: ShardId, node: NodeId) {
    let deadline = tokio::time::Instant::now() + READY;
    loop {
        let leader = engines[0].watch_leader(shard).expect("a replica is here").current().leader;
        if leader == Some(node) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{leader:?} keeps shard {shard}");
        if let Some(leading) = engines.iter().find(|engine| Some(engine.node()) == leader) {
            // The transfer may be refused while another election runs.
            let _begun = leading.transfer_leader(shard, node).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops every engine.
pub async fn close(engines: Vec<Engine>) {
    for engine in engines {
        engine.shutdown().await;
    }
}

/// Copies a closed directory, as a backup does.
///
/// # Panics
/// If that fails.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Why the cluster refused `engine`.
///
/// # Panics
/// If the engine ends for another reason, or not in time.
pub async fn identity_error(engine: &Engine) -> String {
    match tokio::time::timeout(READY, engine.wait_fatal()).await.expect("refused in time") {
        FatalError::Identity(reason) => reason,
        other => panic!("ended by something else: {other}"),
    }
}

/// The first map of a cluster whose keys begin with a Redis hash slot: the given number of shards,
/// of equally many slots each, with three replicas each.
#[must_use]
pub fn even(nodes: &[NodeId], shards: u32) -> Bootstrap {
    Bootstrap::split_at(nodes, 3, split_keys(shards))
}

/// A key; `number` spreads the keys over the slots.
#[must_use]
pub fn key(number: u64) -> Vec<u8> {
    let slot = u16::try_from(number.wrapping_mul(SPREAD) >> 50).expect("14 bits");
    let mut key = slot.to_be_bytes().to_vec();
    key.extend_from_slice(format!("key-{number}").as_bytes());
    key
}
