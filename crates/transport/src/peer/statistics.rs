//! Counters per peer: plain numbers, for a caller to export.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_types::NodeId;

/// A reading of every counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportStatistics {
    /// Per peer, since the transport started.
    pub peers: BTreeMap<NodeId, PeerStatistics>,
    /// Incoming connections that failed before or at the hello.
    pub refused: u64,
    /// Messages to nodes that have neither address nor connection.
    pub messages_unknown_peer: u64,
}

/// One peer's counters since the transport started, over all its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatistics {
    /// Whether a connection is open.
    pub connected: bool,
    /// Connections that were established.
    pub connections: u64,
    /// Why the last connection ended or failed, if one did.
    pub last_failure: Option<String>,
    /// Whether the reason was that one of the two nodes does not admit the other.
    pub is_not_admitted: bool,
    /// Frames handed to QUIC.
    pub frames_sent: u64,
    /// Shard messages in them.
    pub messages_sent: u64,
    /// Forwards in them.
    pub forwards_sent: u64,
    /// Parts of snapshot transfers, and answers to such, in them.
    pub snapshot_parts_sent: u64,
    /// The bytes of these parts alone.
    pub snapshot_bytes_sent: u64,
    /// Bytes of all these frames, headers included.
    pub bytes_sent: u64,
    /// Frames received and sound.
    pub frames_received: u64,
    /// Shard messages in them.
    pub messages_received: u64,
    /// Forwards in them.
    pub forwards_received: u64,
    /// Parts of snapshot transfers, and answers to such, in them.
    pub snapshot_parts_received: u64,
    /// The bytes of these parts alone.
    pub snapshot_bytes_received: u64,
    /// Bytes of all these frames.
    pub bytes_received: u64,
    /// Messages dropped at the bound of a queue.
    pub messages_dropped_full: u64,
    /// Messages dropped because the peer was not connected.
    pub messages_dropped_unconnected: u64,
    /// Messages dropped because no frame can hold them: a broken limit.
    pub messages_dropped_oversize: u64,
    /// Items that wait in the queues now; parts of snapshot transfers wait until the peer has taken them.
    pub waiting: u64,
    /// Their bytes, as the queues' bounds count them.
    pub waiting_bytes: u64,
    /// UDP payload bytes sent, TLS and QUIC overhead and retransmissions included.
    pub udp_bytes_sent: u64,
    /// UDP datagrams sent.
    pub udp_datagrams_sent: u64,
    /// UDP payload bytes received.
    pub udp_bytes_received: u64,
    /// UDP datagrams received.
    pub udp_datagrams_received: u64,
    /// QUIC packets taken for lost.
    pub packets_lost: u64,
    /// Smoothed round trip of the open connection.
    pub round_trip: Option<Duration>,
    /// Largest datagram that the path of the open connection is known to carry.
    pub mtu_bytes: Option<u16>,
}

/// The counters that tasks and callers write.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) forwards_sent: AtomicU64,
    pub(crate) snapshot_parts_sent: AtomicU64,
    pub(crate) snapshot_bytes_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) frames_received: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) forwards_received: AtomicU64,
    pub(crate) snapshot_parts_received: AtomicU64,
    pub(crate) snapshot_bytes_received: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) dropped_full: AtomicU64,
    pub(crate) dropped_unconnected: AtomicU64,
    pub(crate) dropped_oversize: AtomicU64,
}

/// Adds to a counter. Relaxed: the numbers order nothing.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn read(&self) -> PeerStatistics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerStatistics {
            connections: load(&self.connections),
            frames_sent: load(&self.frames_sent),
            messages_sent: load(&self.messages_sent),
            forwards_sent: load(&self.forwards_sent),
            snapshot_parts_sent: load(&self.snapshot_parts_sent),
            snapshot_bytes_sent: load(&self.snapshot_bytes_sent),
            bytes_sent: load(&self.bytes_sent),
            frames_received: load(&self.frames_received),
            messages_received: load(&self.messages_received),
            forwards_received: load(&self.forwards_received),
            snapshot_parts_received: load(&self.snapshot_parts_received),
            snapshot_bytes_received: load(&self.snapshot_bytes_received),
            bytes_received: load(&self.bytes_received),
            messages_dropped_full: load(&self.dropped_full),
            messages_dropped_unconnected: load(&self.dropped_unconnected),
            messages_dropped_oversize: load(&self.dropped_oversize),
            ..PeerStatistics::default()
        }
    }
}

/// What the QUIC library counts per connection; summed up over the connections of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UdpTotals {
    bytes_sent: u64,
    datagrams_sent: u64,
    bytes_received: u64,
    datagrams_received: u64,
    packets_lost: u64,
}

impl UdpTotals {
    pub(crate) fn plus(self, stats: &quinn::ConnectionStats) -> UdpTotals {
        UdpTotals {
            bytes_sent: self.bytes_sent + stats.udp_tx.bytes,
            datagrams_sent: self.datagrams_sent + stats.udp_tx.datagrams,
            bytes_received: self.bytes_received + stats.udp_rx.bytes,
            datagrams_received: self.datagrams_received + stats.udp_rx.datagrams,
            packets_lost: self.packets_lost + stats.path.lost_packets,
        }
    }

    pub(crate) fn write_to(self, statistics: &mut PeerStatistics) {
        statistics.udp_bytes_sent = self.bytes_sent;
        statistics.udp_datagrams_sent = self.datagrams_sent;
        statistics.udp_bytes_received = self.bytes_received;
        statistics.udp_datagrams_received = self.datagrams_received;
        statistics.packets_lost = self.packets_lost;
    }
}
