//! One node: an engine, its Redis port and its admin port.

mod config;
mod error;
mod ports;

use std::net::SocketAddr;
use std::time::Duration;

use quorate::{Engine, OpenError};
use tokio::net::TcpListener;

use crate::admin::metrics::Metrics;
use crate::admin::server::AdminServer;
use crate::redis::{RedisServer, RedisStatistics};

pub use config::{NodeConfig, PortSettings, ReachedAt};
pub use error::NodeError;
pub use ports::NodePorts;

/// How long a stopping node tries to transfer its leaderships: a few transfers one after the other,
/// each bounded by `limits::TRANSFER_TIMEOUT`. The other shards elect a new leader by themselves.
const HAND_OVER: Duration = Duration::from_secs(3);

/// How a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The other nodes keep serving: its shards get other leaders first, so that clients hardly
    /// notice.
    HandOver,
    /// The whole cluster stops, or no leadership is left to transfer.
    AtOnce,
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

    /// Transfers leaderships if asked to, which takes a few seconds at most; then lets running
    /// requests end, closes the ports, and shuts the engine down.
    pub async fn stop(self, leave: Leave) {
        // The ports still serve meanwhile: requests are forwarded to the new leaders.
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
        .log_kept_bytes_max(config.log_kept_bytes_max)
        .sync(config.sync);
    let reachable = match config.reached_at {
        Some(ReachedAt { address, .. }) => builder.advertise(address),
        None => builder,
    };
    let floored = match config.disk_floor_bytes {
        Some(bytes) => reachable.disk_floor_bytes(bytes),
        None => reachable,
    };
    let with_peers = config
        .peers
        .into_iter()
        .fold(floored, |builder, (node, address)| builder.peer(node, address));
    with_peers.open()
}
