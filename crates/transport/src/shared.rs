//! The state that the tasks of a transport and its callers share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::RwLock;
use quorate_types::{NodeId, WallMillis};
use tokio::sync::watch;

use crate::hello::{Hello, PeerHello};
use crate::peer::Peer;
use crate::peer::room::{FrameRoom, LaneRoom};
use crate::receiver::Receiver;
use crate::tls::validity::Validity;

/// Reads the wall clock.
pub type WallClock = Arc<dyn Fn() -> WallMillis + Send + Sync>;

/// The shared state of one transport.
pub(crate) struct Shared {
    /// What every hello says, except for the wall clock.
    pub(crate) hello: Hello,
    pub(crate) wall_clock: WallClock,
    pub(crate) receiver: Arc<dyn Receiver>,
    pub(crate) lane_room: Arc<LaneRoom>,
    pub(crate) frame_room: FrameRoom,
    pub(crate) snapshot_room: FrameRoom,
    /// Made from the node's newest certificates.
    pub(crate) client: RwLock<quinn::ClientConfig>,
    pub(crate) validity: RwLock<Validity>,
    pub(crate) peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    pub(crate) refused: AtomicU64,
    pub(crate) messages_unknown_peer: AtomicU64,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Shared {
    /// This node's hello, with the current time.
    pub(crate) fn hello(&self) -> Hello {
        Hello { wall: (self.wall_clock)(), ..self.hello.clone() }
    }

    /// The open connection of the newcomer's node, if another process holds it.
    pub(crate) fn connection_of_another_instance(
        &self,
        newcomer: &PeerHello,
    ) -> Option<quinn::Connection> {
        self.peer(newcomer.node)?.connection_of_another_instance(newcomer.instance)
    }

    pub(crate) fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().get(&node).cloned()
    }

    pub(crate) fn peer_or_new(&self, node: NodeId) -> Arc<Peer> {
        self.peers
            .write()
            .entry(node)
            .or_insert_with(|| Arc::new(Peer::new(node, &self.lane_room)))
            .clone()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}
