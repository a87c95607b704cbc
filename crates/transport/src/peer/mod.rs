//! One peer: its queues, its counters, and its connection, if there is one.

pub(crate) mod lane;
pub(crate) mod room;
pub(crate) mod statistics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::Connection;
use quorate_types::{NodeId, NodeInstance};
use tokio::sync::Notify;

use crate::frame::{Forward, ShardMessage};
use crate::hello::handshake_error::tells_not_admitted;
use crate::peer::lane::{PeerQueues, SendError};
use crate::peer::room::LaneRoom;
use crate::peer::statistics::{Counters, PeerStatistics, UdpTotals, add};

pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) outbox: PeerQueues,
    pub(crate) counters: Counters,
    /// Held by the session that serves this peer, from before `handle_connected` until after
    /// `handle_disconnected`: a successor waits here, so the receiver sees them in order.
    pub(crate) session: tokio::sync::Mutex<()>,
    /// Number of connections to be served so far.
    arrivals: AtomicU64,
    address: Mutex<Option<SocketAddr>>,
    address_changed: Notify,
    connected: AtomicBool,
    /// The peer went without a goodbye, which was reported, and has not come back.
    missed: AtomicBool,
    link: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    /// The process at the other end of `connection`.
    instance: NodeInstance,
    /// What former connections have counted.
    past: UdpTotals,
    last_failure: Option<String>,
}

impl Peer {
    pub(crate) fn new(node: NodeId, room: &Arc<LaneRoom>) -> Peer {
        Peer {
            node,
            outbox: PeerQueues::new(room),
            counters: Counters::default(),
            session: tokio::sync::Mutex::new(()),
            arrivals: AtomicU64::new(0),
            address: Mutex::new(None),
            address_changed: Notify::new(),
            connected: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            link: Mutex::new(Link::default()),
        }
    }

    /// Sets the address; true if it is the first one.
    pub(crate) fn set_address(&self, address: SocketAddr) -> bool {
        let before = self.address.lock().replace(address);
        if before.is_some_and(|before| before != address) {
            self.address_changed.notify_one();
        }
        before.is_none()
    }

    /// The address, if one is known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock()
    }

    /// Returns when the address was changed.
    pub(crate) async fn address_changed(&self) {
        self.address_changed.notified().await;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whether the peer's loss was reported, and its return not yet.
    pub(crate) fn is_missed(&self) -> bool {
        self.missed.load(Ordering::Acquire)
    }

    /// Sets whether the peer is missed; returns whether it was.
    pub(crate) fn set_missed(&self, missed: bool) -> bool {
        self.missed.swap(missed, Ordering::AcqRel)
    }

    /// The open connection.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.link.lock().connection.clone()
    }

    /// The open connection, if another process than that of `instance` holds it.
    pub(crate) fn connection_of_another_instance(
        &self,
        instance: NodeInstance,
    ) -> Option<Connection> {
        let link = self.link.lock();
        link.connection.clone().filter(|_| link.instance != instance)
    }

    /// Numbers a connection that is to be served.
    pub(crate) fn arrive(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether there is a newer connection than `arrival`.
    pub(crate) fn is_outdated(&self, arrival: u64) -> bool {
        self.arrivals.load(Ordering::SeqCst) != arrival
    }

    /// Records that a connection is open from here on.
    pub(crate) fn attach(&self, connection: Connection, instance: NodeInstance) {
        let mut link = self.link.lock();
        let before = link.connection.replace(connection);
        link.instance = instance;
        drop(link);
        assert!(before.is_none(), "one session at a time holds the peer");
        add(&self.counters.connections, 1);
        self.outbox.open();
        self.connected.store(true, Ordering::Release);
    }

    /// Records that the connection is gone, and drops everything that waited for it.
    pub(crate) fn detach(&self, reason: &str) {
        self.connected.store(false, Ordering::Release);
        self.outbox.close();
        let mut link = self.link.lock();
        if let Some(connection) = link.connection.take() {
            link.past = link.past.plus(&connection.stats());
        }
        link.last_failure = Some(reason.to_owned());
    }

    /// Stores the reason; true if it differs from the one before.
    pub(crate) fn set_failure(&self, reason: &str) -> bool {
        let before = self.link.lock().last_failure.replace(reason.to_owned());
        before.as_deref() != Some(reason)
    }

    pub(crate) fn send_messages(&self, messages: Vec<ShardMessage>) {
        let offered = self.outbox.push_messages(messages);
        add(&self.counters.dropped_full, offered.full);
        add(&self.counters.dropped_unconnected, offered.unconnected);
        add(&self.counters.dropped_oversize, offered.oversize);
    }

    pub(crate) fn send_forwards(
        &self,
        forwards: Vec<Forward>,
    ) -> Result<(), (SendError, Vec<Forward>)> {
        self.outbox.forwards().push_all(forwards)
    }

    pub(crate) fn send_snapshot_part(&self, part: Bytes) -> Result<(), SendError> {
        self.outbox.snapshots().push_all(vec![part]).map_err(|(error, _)| error)
    }

    pub(crate) fn statistics(&self) -> PeerStatistics {
        let mut statistics = self.counters.read();
        statistics.connected = self.is_connected();
        let waiting = self.outbox.waiting();
        statistics.waiting = waiting.count as u64;
        statistics.waiting_bytes = waiting.bytes as u64;
        let link = self.link.lock();
        statistics.last_failure.clone_from(&link.last_failure);
        statistics.is_not_admitted = link.last_failure.as_deref().is_some_and(tells_not_admitted);
        let mut udp = link.past;
        if let Some(connection) = &link.connection {
            let current = connection.stats();
            udp = udp.plus(&current);
            statistics.round_trip = Some(current.path.rtt);
            statistics.mtu_bytes = Some(current.path.current_mtu);
        }
        udp.write_to(&mut statistics);
        statistics
    }
}
