//! Addresses on loopback: free ports for servers, and connections that never take one of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

const SERVERS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The clients' address. A client with the servers' address could be given the port of a node that
/// is down, whose restart would then fail, or even connect to itself.
const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

/// The three addresses of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// UDP, for other nodes.
    pub address: SocketAddr,
    /// TCP, for Redis clients.
    pub redis: SocketAddr,
    /// TCP, for HTTP.
    pub admin: SocketAddr,
}

impl Addresses {
    /// Draws the addresses of `count` nodes. All ports are held until the last one is drawn, so
    /// that none comes twice.
    ///
    /// # Panics
    /// If the system has no free ports.
    #[must_use]
    pub fn draw(count: usize) -> Vec<Addresses> {
        let any = SocketAddr::new(SERVERS, 0);
        let tcp = || TcpListener::bind(any).expect("a free TCP port");
        let held: Vec<_> = (0..count)
            .map(|_| (UdpSocket::bind(any).expect("a free UDP port"), tcp(), tcp()))
            .collect();
        let bound = "a bound socket has an address";
        held.iter()
            .map(|(address, redis, admin)| Addresses {
                address: address.local_addr().expect(bound),
                redis: redis.local_addr().expect(bound),
                admin: admin.local_addr().expect(bound),
            })
            .collect()
    }
}

/// Connects to a server on loopback.
///
/// # Errors
/// The system's, or [`io::ErrorKind::TimedOut`].
pub async fn connect(server: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(CLIENTS)?;
    socket.set_nodelay(true)?;
    tokio::time::timeout(within, socket.connect(server))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
