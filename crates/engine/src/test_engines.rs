//! Engines in one process over real QUIC and real directories, for tests that look inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_machine::{KvMachine, StateMachine};
use quorate_transport::ClusterAuthority;
use quorate_types::{ClusterId, NodeId, ShardId, limits};
use tempfile::TempDir;

use crate::api::builder::EngineBuilder;
use crate::api::engine::Engine;
use crate::cluster::bootstrap::Bootstrap;

/// Longest wait for what is sure to come.
pub(crate) const HANG: Duration = Duration::from_secs(60);
/// A key of the one shard.
pub(crate) const KEY: [u8; 3] = [0, 0, b'k'];
/// That shard.
pub(crate) const SHARD: ShardId = ShardId(1);
/// The cluster's id.
pub(crate) const CLUSTER: ClusterId = ClusterId(7);

/// Nodes 1 to n with one shard. Its replicas are on the first ones.
pub(crate) struct TestEngines {
    /// Before the directory: they end before their files do.
    pub(crate) engines: Vec<Engine>,
    founders: Vec<NodeId>,
    machine: Arc<dyn Fn(NodeId, PathBuf) -> Box<dyn StateMachine> + Send + Sync>,
    log_kept_bytes_max: u64,
    /// The floors of disks, of nodes that are given another than the usual.
    pub(crate) disk_floors: BTreeMap<NodeId, u64>,
    authority: ClusterAuthority,
    directory: TempDir,
}

impl TestEngines {
    /// Opens `nodes` engines, `replicas` of them with one of the built-in machine, and waits until
    /// all are ready.
    pub(crate) async fn open(nodes: u64, replicas: usize) -> TestEngines {
        TestEngines::open_with(nodes, replicas, || Box::new(KvMachine)).await
    }

    /// As [`TestEngines::open`], with state machines from `machine`.
    pub(crate) async fn open_with(
        nodes: u64,
        replicas: usize,
        machine: impl Fn() -> Box<dyn StateMachine> + Send + Sync + 'static,
    ) -> TestEngines {
        TestEngines::open_keeping(nodes, replicas, machine, limits::LOG_KEPT_BYTES_MAX).await
    }

    /// As [`TestEngines::open_with`], with logs that keep so many bytes.
    pub(crate) async fn open_keeping(
        nodes: u64,
        replicas: usize,
        machine: impl Fn() -> Box<dyn StateMachine> + Send + Sync + 'static,
        log_kept_bytes_max: u64,
    ) -> TestEngines {
        let directory = tempfile::tempdir().expect("a temporary directory");
        TestEngines::open_in(directory, nodes, replicas, machine, log_kept_bytes_max).await
    }

    /// As [`TestEngines::open_keeping`], in this directory.
    pub(crate) async fn open_in(
        directory: TempDir,
        nodes: u64,
        replicas: usize,
        machine: impl Fn() -> Box<dyn StateMachine> + Send + Sync + 'static,
        log_kept_bytes_max: u64,
    ) -> TestEngines {
        let machine = move |_, _| machine();
        TestEngines::open_each(directory, nodes, replicas, machine, log_kept_bytes_max).await
    }

    /// As [`TestEngines::open_in`], with state machines that are given their node and a directory of
    /// their own.
    pub(crate) async fn open_each(
        directory: TempDir,
        nodes: u64,
        replicas: usize,
        machine: impl Fn(NodeId, PathBuf) -> Box<dyn StateMachine> + Send + Sync + 'static,
        log_kept_bytes_max: u64,
    ) -> TestEngines {
        let mut all = TestEngines {
            engines: Vec::new(),
            founders: (1..=nodes).map(NodeId).take(replicas).collect(),
            machine: Arc::new(machine),
            log_kept_bytes_max,
            disk_floors: BTreeMap::new(),
            authority: ClusterAuthority::generate(CLUSTER).expect("certificates can be made"),
            directory,
        };
        for node in (1..=nodes).map(NodeId) {
            all.engines.push(all.builder(node).open().expect("a new directory"));
        }
        for engine in &all.engines {
            for other in all.engines.iter().filter(|other| other.node() != engine.node()) {
                engine.set_peer(other.node(), other.local_address());
            }
        }
        for engine in &all.engines {
            engine.wait_ready(HANG).await.expect("all are up");
        }
        all
    }

    /// Opens `node` on a free port.
    pub(crate) fn builder(&self, node: NodeId) -> EngineBuilder {
        let machine = Arc::clone(&self.machine);
        let own_directory = self.own_directory(node);
        let builder = match self.disk_floors.get(&node) {
            Some(bytes) => Engine::builder(self.path(node)).disk_floor_bytes(*bytes),
            None => Engine::builder(self.path(node)),
        };
        builder
            .cluster(CLUSTER)
            .node(node)
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .tls(self.authority.issue(node).expect("a certificate"))
            .bootstrap(Bootstrap::single(&self.founders, self.founders.len()))
            .log_kept_bytes_max(self.log_kept_bytes_max)
            .state_machine(move |_| machine(node, own_directory.clone()))
    }

    /// Where the state machine of `node` may keep a store of its own.
    pub(crate) fn own_directory(&self, node: NodeId) -> PathBuf {
        self.directory.path().join(format!("own-{node}"))
    }

    /// Stops all and opens all again, with the floors that are set now.
    pub(crate) async fn reopen_all(&mut self) {
        let nodes: Vec<NodeId> = self.engines.iter().map(Engine::node).collect();
        self.stop().await;
        for node in nodes {
            let engine = self.reopen(node);
            self.engines.push(engine);
        }
        for engine in &self.engines {
            engine.wait_ready(HANG).await.expect("all are up");
        }
    }

    /// Opens `node` again, where it can be reached by the others and reaches them.
    pub(crate) fn reopen(&self, node: NodeId) -> Engine {
        let engine = self.builder(node).open().expect("its own directory");
        for other in self.engines.iter().filter(|other| other.node() != node) {
            engine.set_peer(other.node(), other.local_address());
            other.set_peer(node, engine.local_address());
        }
        engine
    }

    /// The directory of `node`.
    pub(crate) fn path(&self, node: NodeId) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    /// The engine that leads the shard, and the others.
    pub(crate) fn leader_and_others(&self) -> (&Engine, Vec<&Engine>) {
        let leader = self.engines[0].locate(&KEY).expect("one shard").leader.expect("ready");
        let (leader, others): (Vec<_>, Vec<_>) =
            self.engines.iter().partition(|engine| engine.node() == leader);
        (leader[0], others)
    }

    /// Stops the engines; their directories stay.
    pub(crate) async fn stop(&mut self) {
        for engine in self.engines.drain(..) {
            engine.shutdown().await;
        }
    }
}
