//! One node: an engine, its Redis port and its admin port.

use std::net::SocketAddr;
use std::path::PathBuf;

use quorate::{Bootstrap, Engine, NodeId, NodeTls, OpenError, SyncMode};
use tokio::net::TcpListener;

use crate::admin::AdminServer;
use crate::metrics::Metrics;
use crate::redis::RedisServer;

/// Redis connections of one node at once; as Redis has it.
pub const CLIENTS_MAX: usize = 10_000;

/// What one node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's id.
    pub node: NodeId,
    /// Where its data lives; made if missing.
    pub directory: PathBuf,
    /// The UDP address for other nodes; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The other nodes; more can be told to the engine later.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// The address for Redis clients; port 0 takes a free one.
    pub redis: SocketAddr,
    /// The address for HTTP; port 0 takes a free one.
    pub admin: SocketAddr,
    /// Certificates.
    pub tls: NodeTls,
    /// The cluster's first map.
    pub bootstrap: Bootstrap,
    /// How the log reaches the disk.
    pub sync: SyncMode,
}

/// Why a node did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A TCP port could not be taken.
    #[error("node {node}: can't listen on {address} for {purpose}: {cause}; {remedy}")]
    Listen {
        /// The node.
        node: NodeId,
        /// The address.
        address: SocketAddr,
        /// Who would connect there.
        purpose: &'static str,
        /// The operating system's answer.
        cause: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The engine refused.
    #[error("node {node}: {cause}")]
    Open {
        /// The node.
        node: NodeId,
        /// The engine's faults.
        cause: OpenError,
    },
    /// A thread of the start-up failed.
    #[error("node {node}: the start was interrupted: {cause}")]
    Interrupted {
        /// The node.
        node: NodeId,
        /// What happened.
        cause: String,
    },
}

/// The two TCP ports of a node, taken before anything on disk is touched.
#[derive(Debug)]
pub struct NodePorts {
    redis: TcpListener,
    admin: TcpListener,
}

impl NodePorts {
    /// Takes the ports of `config`.
    ///
    /// # Errors
    /// [`NodeError::Listen`] names the port and the remedy.
    pub async fn bind(config: &NodeConfig) -> Result<NodePorts, NodeError> {
        let bind = async |address, purpose, remedy| {
            TcpListener::bind(address).await.map_err(|cause| NodeError::Listen {
                node: config.node,
                address,
                purpose,
                cause,
                remedy,
            })
        };
        let redis = bind(
            config.redis,
            "Redis clients",
            "stop what uses the port, or choose others with --redis-port",
        );
        let redis = redis.await?;
        let admin = bind(
            config.admin,
            "HTTP",
            "stop what uses the port, or choose others with --admin-port",
        );
        Ok(NodePorts { redis, admin: admin.await? })
    }
}

/// A running node.
pub struct Node {
    engine: Engine,
    redis: RedisServer,
    admin: AdminServer,
    redis_address: SocketAddr,
    admin_address: SocketAddr,
}

impl Node {
    /// Takes the ports, opens the directory, recovers what it holds and starts serving.
    ///
    /// # Errors
    /// [`NodeError`]; nothing runs then.
    pub async fn start(config: NodeConfig) -> Result<Node, NodeError> {
        let ports = NodePorts::bind(&config).await?;
        Node::start_on(config, ports).await
    }

    /// As [`Node::start`], on ports that were taken before.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_on(config: NodeConfig, ports: NodePorts) -> Result<Node, NodeError> {
        let node = config.node;
        let interrupted = |cause: String| NodeError::Interrupted { node, cause };
        let address = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| interrupted(error.to_string()))
        };
        let (redis_address, admin_address) = (address(&ports.redis)?, address(&ports.admin)?);
        // Opening blocks on the disk; the runtime's own threads must not.
        let opening = tokio::task::spawn_blocking(move || open_engine(config));
        let engine = opening
            .await
            .map_err(|error| interrupted(error.to_string()))?
            .map_err(|cause| NodeError::Open { node, cause })?;
        let redis = match RedisServer::start(engine.clone(), ports.redis, CLIENTS_MAX) {
            Ok(redis) => redis,
            Err(error) => {
                engine.shutdown().await;
                return Err(interrupted(error.to_string()));
            }
        };
        let metrics = Metrics::new(redis.statistics().clone());
        let admin = AdminServer::start(engine.clone(), metrics, ports.admin);
        Ok(Node { engine, redis, admin, redis_address, admin_address })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where Redis clients connect.
    #[must_use]
    pub fn redis_address(&self) -> SocketAddr {
        self.redis_address
    }

    /// Where HTTP clients connect.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Lets running requests end, closes the ports, and shuts the engine down.
    pub async fn stop(self) {
        tokio::join!(self.redis.stop(), self.admin.stop());
        self.engine.shutdown().await;
    }
}

fn open_engine(config: NodeConfig) -> Result<Engine, OpenError> {
    let builder = Engine::builder(config.directory)
        .cluster(config.tls.cluster())
        .node(config.node)
        .listen(config.listen)
        .tls(config.tls)
        .bootstrap(config.bootstrap)
        .sync(config.sync);
    let with_peers = config
        .peers
        .into_iter()
        .fold(builder, |builder, (node, address)| builder.peer(node, address));
    with_peers.open()
}
