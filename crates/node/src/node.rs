//! One node: an engine, its Redis port and its admin port.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use quorate::{Bootstrap, Engine, NodeId, NodeTls, OpenError, SyncMode};
use tokio::net::TcpListener;

use crate::admin::AdminServer;
use crate::descriptors::Descriptors;
use crate::metrics::Metrics;
use crate::redis::{RedisServer, RedisStatistics};

/// How long a node that stops tries to hand its leaderships over: a few transfers one after the
/// other, each bounded by `limits::TRANSFER_TIMEOUT`. What is left elects a new leader by itself.
const HAND_OVER: Duration = Duration::from_secs(3);

/// What one node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's id.
    pub node: NodeId,
    /// Where its data lives; made if missing.
    pub directory: PathBuf,
    /// The UDP address for other nodes; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The other nodes; the engine learns of more, and of new addresses, by itself or by its user.
    pub peers: Vec<(NodeId, SocketAddr)>,
    /// The address for Redis clients; port 0 takes a free one.
    pub redis: SocketAddr,
    /// The address for HTTP; port 0 takes a free one.
    pub admin: SocketAddr,
    /// Where others reach this node, if that is not where it listens.
    pub reached_at: Option<ReachedAt>,
    /// Certificates.
    pub tls: NodeTls,
    /// The cluster's first map.
    pub bootstrap: Bootstrap,
    /// How the log reaches the disk.
    pub sync: SyncMode,
    /// How many files and sockets it may have.
    pub descriptors: Descriptors,
    /// Where an operator set the ports.
    pub settings: PortSettings,
}

/// Where others reach a node; published to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachedAt {
    /// UDP, for other nodes.
    pub address: SocketAddr,
    /// TCP, for Redis clients.
    pub redis: SocketAddr,
    /// TCP, for HTTP.
    pub admin: SocketAddr,
}

/// Where an operator set the ports, so that a taken one can be named with its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSettings {
    /// Flags of `quorate demo`.
    Flags,
    /// A file as [`crate::config`] reads it.
    File,
}

/// The ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Quic,
    Redis,
    Admin,
}

impl Port {
    fn purpose(self) -> &'static str {
        match self {
            Port::Quic => "other nodes (UDP)",
            Port::Redis => "Redis clients",
            Port::Admin => "HTTP",
        }
    }

    /// As `ss` has it.
    fn protocol(self) -> char {
        match self {
            Port::Quic => 'u',
            Port::Redis | Port::Admin => 't',
        }
    }

    fn setting(self, settings: PortSettings) -> &'static str {
        match (settings, self) {
            (PortSettings::Flags, Port::Quic) => "a free port, by starting again",
            (PortSettings::Flags, Port::Redis) => "others with --redis-port",
            (PortSettings::Flags, Port::Admin) => "others with --admin-port",
            (PortSettings::File, Port::Quic) => {
                "another `address`, under [listen] or under this node's [[nodes]]"
            }
            (PortSettings::File, Port::Redis) => {
                "another `redis`, under [listen] or under this node's [[nodes]]"
            }
            (PortSettings::File, Port::Admin) => {
                "another `admin`, under [listen] or under this node's [[nodes]]"
            }
        }
    }

    fn refused(self, config: &NodeConfig, address: SocketAddr, cause: io::Error) -> NodeError {
        let setting = self.setting(config.settings);
        let remedy = match cause.kind() {
            io::ErrorKind::AddrNotAvailable => {
                format!("this machine does not have that address; choose {setting}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need a privilege; choose {setting}")
            }
            io::ErrorKind::AddrInUse => {
                let (protocol, port) = (self.protocol(), address.port());
                format!(
                    "something listens on port {port} already: `ss -{protocol}lnp 'sport = :{port}'` \
                     shows what; stop it, or choose {setting}"
                )
            }
            _ => format!("stop what uses the port, or choose {setting}"),
        };
        NodeError::Listen { node: config.node, address, purpose: self.purpose(), cause, remedy }
    }
}

/// How a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The others go on: its shards get other leaders first, so that clients hardly notice.
    HandOver,
    /// The whole cluster stops, or there is nothing to hand over any more.
    AtOnce,
}

/// Why a node did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port could not be taken.
    #[error("node {node}: can't listen on {address} for {purpose}: {cause}; {remedy}")]
    Listen {
        /// The node.
        node: NodeId,
        /// The address.
        address: SocketAddr,
        /// Who would connect there.
        purpose: &'static str,
        /// The operating system's answer.
        cause: io::Error,
        /// What to do.
        remedy: String,
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
        // The engine takes the UDP port itself, but only after it has touched the directory. Port 0
        // is free by its nature.
        if config.listen.port() != 0 {
            UdpSocket::bind(config.listen)
                .map_err(|cause| Port::Quic.refused(config, config.listen, cause))?;
        }
        let bind = async |port: Port, address| {
            TcpListener::bind(address).await.map_err(|cause| port.refused(config, address, cause))
        };
        let redis = bind(Port::Redis, config.redis).await?;
        let admin = bind(Port::Admin, config.admin).await?;
        Ok(NodePorts { redis, admin })
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
        let services = match config.reached_at {
            Some(ReachedAt { redis, admin, .. }) => (redis, admin),
            None => (redis_address, admin_address),
        };
        let descriptors = config.descriptors;
        // Opening blocks on the disk; the runtime's own threads must not.
        let opening = tokio::task::spawn_blocking(move || open_engine(config, services));
        let engine = opening
            .await
            .map_err(|error| interrupted(error.to_string()))?
            .map_err(|cause| NodeError::Open { node, cause })?;
        let redis = match RedisServer::start(engine.clone(), ports.redis, descriptors.clients_max) {
            Ok(redis) => redis,
            Err(error) => {
                engine.shutdown().await;
                return Err(interrupted(error.to_string()));
            }
        };
        if descriptors.are_few() {
            engine.set_warning("descriptors", descriptors.shortage());
        }
        let metrics = Metrics::new(redis.statistics().clone(), descriptors);
        let connections_max = descriptors.admin_connections_max;
        let admin = AdminServer::start(engine.clone(), metrics, ports.admin, connections_max);
        Ok(Node { engine, redis, admin, redis_address, admin_address })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The totals of its Redis port.
    #[must_use]
    pub fn redis_statistics(&self) -> &RedisStatistics {
        self.redis.statistics()
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

    /// Hands leaderships over if asked to, which takes a few seconds at most; then lets running
    /// requests end, closes the ports, and shuts the engine down.
    pub async fn stop(self, leave: Leave) {
        // While the ports still serve: what comes in is forwarded to the new leaders.
        if leave == Leave::HandOver && self.engine.fatal().is_none() {
            let handed = self.engine.drain(HAND_OVER).await;
            tracing::info!(node = %self.engine.node(), ?handed, "handed leaderships over");
        }
        tokio::join!(self.redis.stop(), self.admin.stop());
        self.engine.shutdown().await;
    }
}

fn open_engine(
    config: NodeConfig,
    (redis, admin): (SocketAddr, SocketAddr),
) -> Result<Engine, OpenError> {
    let builder = Engine::builder(config.directory)
        .cluster(config.tls.cluster())
        .node(config.node)
        .listen(config.listen)
        .service("redis", redis)
        .service("admin", admin)
        .tls(config.tls)
        .bootstrap(config.bootstrap)
        .table_files_max(config.descriptors.table_files_max)
        .sync(config.sync);
    let reachable = match config.reached_at {
        Some(ReachedAt { address, .. }) => builder.advertise(address),
        None => builder,
    };
    let with_peers = config
        .peers
        .into_iter()
        .fold(reachable, |builder, (node, address)| builder.peer(node, address));
    with_peers.open()
}
