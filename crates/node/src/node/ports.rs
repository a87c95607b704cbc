//! The ports of a node, and what to do if one is taken.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use tokio::net::TcpListener;

use super::config::{NodeConfig, PortSettings};
use super::error::NodeError;

/// The two TCP ports of a node, taken before anything on disk is touched.
#[derive(Debug)]
pub struct NodePorts {
    pub(super) redis: TcpListener,
    pub(super) admin: TcpListener,
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

    /// The protocol's letter, as `ss` has it.
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
