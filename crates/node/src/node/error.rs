//! Why a node did not start.

use std::io;
use std::net::SocketAddr;

use quorate::{NodeId, OpenError};

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
        /// The peers that would connect there.
        purpose: &'static str,
        /// The operating system's error.
        cause: io::Error,
        /// What to do.
        remedy: String,
    },
    /// The engine refused to open.
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
