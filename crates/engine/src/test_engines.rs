//! Engines in one process over real QUIC and real directories, for tests that look inside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_host::{KvMachine, StateMachine};
use quorate_transport::ClusterAuthority;
use quorate_types::{ClusterId, NodeId, ShardId};
use tempfile::TempDir;

use crate::bootstrap::Bootstrap;
use crate::engine::Engine;

/// Longest wait for what is sure to come.
pub(crate) const HANG: Duration = Duration::from_secs(60);
/// A key of the one shard.
pub(crate) const KEY: [u8; 3] = [0, 0, b'k'];

/// Nodes 1 to n with one shard. Its replicas are on the first ones.
pub(crate) struct TestEngines {
    pub(crate) engines: Vec<Engine>,
    pub(crate) shard: ShardId,
    /// Outlives the engines.
    pub(crate) directory: TempDir,
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cluster = ClusterId(7);
        let authority = ClusterAuthority::generate(cluster).expect("certificates can be made");
        let founders: Vec<NodeId> = (1..=nodes).map(NodeId).take(replicas).collect();
        let machine = Arc::new(move |_| machine());
        let open = |node| {
            Engine::builder(directory.path().join(format!("{node}")))
                .cluster(cluster)
                .node(node)
                .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
                .tls(authority.issue(node).expect("a certificate"))
                .bootstrap(Bootstrap::even_slots(&founders, 1, replicas))
                .state_machine(Arc::clone(&machine) as _)
                .open()
                .expect("a new directory")
        };
        let engines: Vec<Engine> = (1..=nodes).map(NodeId).map(open).collect();
        for engine in &engines {
            for other in engines.iter().filter(|other| other.node() != engine.node()) {
                engine.set_peer(other.node(), other.local_address());
            }
        }
        for engine in &engines {
            engine.wait_ready(HANG).await.expect("all are up");
        }
        let shard = engines[0].running.core.route(&KEY).expect("one shard has every key").shard;
        TestEngines { engines, shard, directory }
    }

    /// The engine that leads the shard, and the others.
    pub(crate) fn leader_and_others(&self) -> (&Engine, Vec<&Engine>) {
        let leader = self.engines[0].locate(&KEY).expect("one shard").leader.expect("ready");
        let (leader, others): (Vec<_>, Vec<_>) =
            self.engines.iter().partition(|engine| engine.node() == leader);
        (leader[0], others)
    }

    pub(crate) async fn close(self) {
        for engine in self.engines {
            engine.shutdown().await;
        }
    }
}
