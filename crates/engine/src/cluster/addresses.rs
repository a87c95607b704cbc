//! Where the other nodes are: as this node's owner says, and else as the cluster's map says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_transport::Transport;
use quorate_types::NodeId;

/// See the module's documentation. What the owner says is never overwritten by the map.
pub(crate) struct PeerAddresses {
    told: Mutex<BTreeMap<NodeId, SocketAddr>>,
    transport: Arc<Transport>,
}

impl PeerAddresses {
    /// As the owner says at the start; `transport` knows these already.
    pub(crate) fn new(
        told: BTreeMap<NodeId, SocketAddr>,
        transport: Arc<Transport>,
    ) -> PeerAddresses {
        PeerAddresses { told: Mutex::new(told), transport }
    }

    /// The owner says where `node` listens from now on.
    pub(crate) fn set(&self, node: NodeId, address: SocketAddr) {
        // Under the lock, so that what the map says can't come after.
        let mut told = self.told.lock();
        told.insert(node, address);
        self.transport.set_peer(node, address);
    }

    /// The map says where `node` listens. False if the owner knows better.
    pub(crate) fn hint(&self, node: NodeId, address: SocketAddr) -> bool {
        let told = self.told.lock();
        if told.contains_key(&node) {
            return false;
        }
        self.transport.set_peer(node, address);
        true
    }

    /// The nodes whose address the owner has told.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.told.lock().keys().copied().collect()
    }

    /// As the owner has told it.
    pub(crate) fn get(&self, node: NodeId) -> Option<SocketAddr> {
        self.told.lock().get(&node).copied()
    }
}
