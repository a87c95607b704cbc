//! The configuration of one node.

use std::net::SocketAddr;
use std::path::PathBuf;

use quorate::{Bootstrap, NodeId, NodeTls, SyncMode};

use crate::process::descriptors::Descriptors;

/// The configuration of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's id.
    pub node: NodeId,
    /// Where its data lives; made if missing.
    pub directory: PathBuf,
    /// Bytes of applied entries that its log keeps for nodes that were away.
    pub log_kept_bytes_max: u64,
    /// The UDP address for other nodes; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The other nodes; the engine learns of more, and of new addresses, itself or from its user.
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
    /// Free bytes of its disk below which it takes no writes, if not the usual.
    pub disk_floor_bytes: Option<u64>,
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
