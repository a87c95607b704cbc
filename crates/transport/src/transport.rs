//! The transport of one node: one UDP port, one connection per peer.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::{AsyncUdpSocket, Endpoint, Runtime};
use quorate_types::{ClusterId, NodeId, NodeInstance, WallMillis, limits};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connection::closing::CODE_STOPPED;
use crate::connection::links::{accept, dial, dial_late};
use crate::frame::{Forward, ShardMessage};
use crate::guard::{GuardedRuntime, guarded};
use crate::hello::Hello;
use crate::peer::lane::SendError;
use crate::peer::room::FrameRoom;
use crate::peer::statistics::{TransportStatistics, add};
use crate::receiver::Receiver;
use crate::shared::{Shared, WallClock};
use crate::tls::certificate_error::CertificateError;
use crate::tls::certificates::NodeTls;
use crate::tls::config::{QuicConfig, quic_config};
use crate::tls::validity::Validity;

/// Kernel buffers requested on both sides of the socket; the system may give less. Bursts of a
/// whole frame then wait instead of being dropped and sent again.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Interval at which a shutdown checks whether the socket is closed.
const SOCKET_POLL: Duration = Duration::from_millis(1);
/// Time for connections to say goodbye at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The configuration of a node's transport.
#[derive(Clone)]
pub struct TransportConfig {
    /// The cluster; its certificates must agree.
    pub cluster: ClusterId,
    /// This node; its certificate must agree.
    pub node: NodeId,
    /// The directory this node runs from, its start, its process.
    pub instance: NodeInstance,
    /// Sent to peers, which may refuse a node whose clock is far from theirs.
    pub wall_clock: WallClock,
    /// Sent to peers, which may refuse a node that was made for another first map; 0: none.
    pub first_map: u32,
    /// The UDP address to claim; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the other nodes are, as far as known; an entry for this node is ignored.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// The certificates that prove this node's identity.
    pub tls: NodeTls,
}

/// Why the transport can't be set up, or can't take another identity.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The UDP port could not be claimed.
    #[error(
        "UDP address {address} can't be claimed ({error}); does this process, or another, use it already?"
    )]
    Socket {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate is another node's.
    #[error("the certificate names {found:?}, this is {expected:?}: issue one for this node")]
    Node {
        /// As the certificate says.
        found: NodeId,
        /// As configured.
        expected: NodeId,
    },
    /// The certificate is another cluster's.
    #[error("the certificate is of cluster {found}, this node of {expected}")]
    Cluster {
        /// As the certificate says.
        found: ClusterId,
        /// As configured.
        expected: ClusterId,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A claimed port: its address is known, nothing is received yet.
pub struct BoundSocket {
    socket: UdpSocket,
    address: SocketAddr,
    config: TransportConfig,
    quic: QuicConfig,
}

impl BoundSocket {
    /// The address with the port that was claimed.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

/// The running transport. Dropping it closes every connection without waiting.
pub struct Transport {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Handle,
    /// Taken at shutdown.
    endpoint: Mutex<Option<Endpoint>>,
    /// Dead once the port is released.
    socket: Weak<dyn AsyncUdpSocket>,
    tasks: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

impl Transport {
    /// Checks the certificates and claims the UDP port. Blocks for a moment.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: TransportConfig) -> Result<BoundSocket, BindError> {
        check_identity(&config.tls, config.node, config.cluster)?;
        let quic = quic_config(&config.tls)?;
        let claimed = claim(config.listen).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) =
            claimed.map_err(|error| BindError::Socket { address: config.listen, error })?;
        Ok(BoundSocket { socket, address, config, quic })
    }

    /// Begins to listen and to dial, on `runtime` alone.
    ///
    /// # Errors
    /// [`BindError::Socket`] if the socket can't be registered with the runtime.
    ///
    /// # Panics
    /// If `runtime` was built without I/O or without time.
    pub fn start(
        bound: BoundSocket,
        runtime: &Handle,
        receiver: Arc<dyn Receiver>,
    ) -> Result<Transport, BindError> {
        let BoundSocket { socket, address, config, quic } = bound;
        let _context = runtime.enter();
        let failed = |error| BindError::Socket { address, error };
        let quinn_runtime = Arc::new(GuardedRuntime::new(receiver.clone()));
        let socket = quinn_runtime.wrap_udp_socket(socket).map_err(failed)?;
        let weak = Arc::downgrade(&socket);
        let server = Some(quic.server);
        let endpoint =
            Endpoint::new_with_abstract_socket(quic.endpoint, server, socket, quinn_runtime)
                .map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            hello: Hello {
                first_map: config.first_map,
                ..Hello::new(config.cluster, config.node, config.instance, WallMillis(0))
            },
            wall_clock: config.wall_clock,
            receiver,
            lane_room: Arc::default(),
            frame_room: FrameRoom::new(limits::RECEIVING_BYTES_MAX),
            snapshot_room: FrameRoom::new(limits::SNAPSHOTS_RECEIVING_BYTES_MAX),
            client: RwLock::new(quic.client),
            validity: RwLock::new(config.tls.validity()),
            peers: RwLock::default(),
            refused: AtomicU64::new(0),
            messages_unknown_peer: AtomicU64::new(0),
            stop: stopped,
        });
        let mut tasks = JoinSet::new();
        let accepting = accept(shared.clone(), endpoint.clone());
        tasks.spawn_on(guarded(shared.receiver.clone(), "accept", accepting, drop), runtime);
        let transport = Transport {
            shared,
            address,
            runtime: runtime.clone(),
            endpoint: Mutex::new(Some(endpoint)),
            socket: weak,
            tasks: Mutex::new(tasks),
            stop,
        };
        for (node, address) in config.peers {
            transport.set_peer(node, address);
        }
        Ok(transport)
    }

    /// The address with the port that was claimed.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the address of a node that is new or has moved. An open connection stays.
    pub fn set_peer(&self, node: NodeId, address: SocketAddr) {
        let own = self.shared.hello.node;
        let endpoint = match &*self.endpoint.lock() {
            Some(endpoint) if node != own => endpoint.clone(),
            _ => return,
        };
        let peer = self.shared.peer_or_new(node);
        if peer.set_address(address) {
            let (shared, receiver) = (self.shared.clone(), self.shared.receiver.clone());
            let mut tasks = self.tasks.lock();
            if own < node {
                let dialing = dial(shared, endpoint, peer);
                tasks.spawn_on(guarded(receiver, "dial", dialing, drop), &self.runtime);
            } else {
                let dialing = dial_late(shared, endpoint, peer);
                tasks.spawn_on(guarded(receiver, "dial late", dialing, drop), &self.runtime);
            }
        }
    }

    /// Replaces the node's certificates: new connections use the new ones, and open connections
    /// continue.
    ///
    /// # Errors
    /// [`BindError`] if they are another node's or can't be used; nothing has changed then.
    pub fn set_tls(&self, tls: &NodeTls) -> Result<(), BindError> {
        check_identity(tls, self.shared.hello.node, self.shared.hello.cluster)?;
        let quic = quic_config(tls)?;
        if let Some(endpoint) = &*self.endpoint.lock() {
            endpoint.set_server_config(Some(quic.server));
        }
        *self.shared.client.write() = quic.client;
        *self.shared.validity.write() = tls.validity();
        Ok(())
    }

    /// When the certificates in use are valid.
    #[must_use]
    pub fn validity(&self) -> Validity {
        *self.shared.validity.read()
    }

    /// Queues messages; never blocks. A message that exceeds the bounds of its lane, or whose node
    /// is not connected, is dropped and counted: Raft sends it again.
    pub fn send_messages(&self, to: NodeId, messages: Vec<ShardMessage>) {
        match self.shared.peer(to) {
            Some(peer) => peer.send_messages(messages),
            None => add(&self.shared.messages_unknown_peer, messages.len() as u64),
        }
    }

    /// Queues requests or responses, all of them or none; never blocks.
    ///
    /// # Errors
    /// [`SendError`] and the forwards themselves: nothing was sent.
    pub fn send_forwards(
        &self,
        to: NodeId,
        forwards: Vec<Forward>,
    ) -> Result<(), (SendError, Vec<Forward>)> {
        match self.shared.peer(to) {
            Some(peer) => peer.send_forwards(forwards),
            None => Err((SendError::Unreachable, forwards)),
        }
    }

    /// Queues one opaque part of a snapshot transfer, or an answer to one; never blocks. It has its
    /// place in the lane until the peer's [`Receiver::handle_snapshot_parts`] has returned. It is
    /// lost if the connection ends before that.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent. An answer, too, may find the lane full, and is offered again
    /// later.
    pub fn send_snapshot_part(&self, to: NodeId, part: Bytes) -> Result<(), SendError> {
        let peer = self.shared.peer(to).ok_or(SendError::Unreachable)?;
        peer.send_snapshot_part(part)
    }

    /// Sends one unreliable datagram, past every queue; never blocks. About 1,100 bytes always fit.
    /// When the connection is congested, the oldest waiting datagrams are dropped.
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent.
    pub fn send_datagram(&self, to: NodeId, datagram: Bytes) -> Result<(), SendError> {
        let peer = self.shared.peer(to).ok_or(SendError::Unreachable)?;
        let connection = peer.connection().ok_or(SendError::Unreachable)?;
        let found = datagram.len();
        connection.send_datagram(datagram).map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => {
                SendError::TooLarge { found, max: connection.max_datagram_size().unwrap_or(0) }
            }
            _ => SendError::Unreachable,
        })
    }

    /// Whether a connection to the node is open.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.shared.peer(node).is_some_and(|peer| peer.is_connected())
    }

    /// A reading of every counter.
    #[must_use]
    pub fn statistics(&self) -> TransportStatistics {
        let peers = self.shared.peers.read();
        TransportStatistics {
            peers: peers.iter().map(|(node, peer)| (*node, peer.statistics())).collect(),
            refused: self.shared.refused.load(Ordering::Relaxed),
            messages_unknown_peer: self.shared.messages_unknown_peer.load(Ordering::Relaxed),
        }
    }

    /// Closes every connection and returns when the peers have been told, every
    /// [`Receiver::handle_disconnected`] has returned and the port is free again, or after a
    /// bounded time. May be awaited on any runtime.
    pub async fn shutdown(&self) {
        let Some(endpoint) = self.close() else { return };
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let socket = self.socket.clone();
        let stopping = self.runtime.spawn(async move {
            let all = async {
                while tasks.join_next().await.is_some() {}
                endpoint.wait_idle().await;
                drop(endpoint);
                // The library's task releases the socket last, without a signal.
                while socket.strong_count() > 0 {
                    tokio::time::sleep(SOCKET_POLL).await;
                }
            };
            tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await.is_ok()
        });
        if !stopping.await.unwrap_or(false) {
            tracing::warn!(own = %self.shared.hello.node, "shutdown was cut short");
        }
    }

    /// [`Transport::shutdown`] for a thread outside of any runtime.
    ///
    /// # Panics
    /// On a thread of a tokio runtime, which must not be blocked.
    pub fn shutdown_blocking(&self) {
        self.runtime.block_on(self.shutdown());
    }

    fn close(&self) -> Option<Endpoint> {
        self.stop.send_replace(true);
        let endpoint = self.endpoint.lock().take()?;
        endpoint.close(CODE_STOPPED, b"the node is stopping");
        Some(endpoint)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let _closed = self.close();
        // Sessions end by the closed endpoint and still report to the receiver.
        self.tasks.get_mut().detach_all();
    }
}

fn check_identity(tls: &NodeTls, node: NodeId, cluster: ClusterId) -> Result<(), BindError> {
    if tls.node() != node {
        return Err(BindError::Node { found: tls.node(), expected: node });
    }
    if tls.cluster() != cluster {
        return Err(BindError::Cluster { found: tls.cluster(), expected: cluster });
    }
    Ok(())
}

fn claim(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    for (what, set) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)),
    ] {
        if let Err(error) = set {
            tracing::warn!(%address, %error, "the socket's {what} buffer stays at its default");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
