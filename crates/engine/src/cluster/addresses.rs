//! The addresses of the other nodes: from this node's owner, or else from the cluster's map.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_transport::Transport;
use quorate_types::NodeId;

/// The peers' addresses. The map never overwrites what the owner has set.
pub(crate) struct PeerAddresses {
    told: Mutex<BTreeMap<NodeId, SocketAddr>>,
    transport: Arc<Transport>,
}

impl PeerAddresses {
    /// The addresses that the owner gave at the start; `transport` knows these already.
    pub(crate) fn new(
        told: BTreeMap<NodeId, SocketAddr>,
        transport: Arc<Transport>,
    ) -> PeerAddresses {
        PeerAddresses { told: Mutex::new(told), transport }
    }

    /// Sets the address at which `node` listens from now on, as the owner says.
    pub(crate) fn set(&self, node: NodeId, address: SocketAddr) {
        // Under the lock, so that a hint of the map can't come after.
        let mut told = self.told.lock();
        told.insert(node, address);
        self.transport.set_peer(node, address);
    }

    /// Sets the address of `node` from the map. False if the owner has set it.
    pub(crate) fn hint(&self, node: NodeId, address: SocketAddr) -> bool {
        let told = self.told.lock();
        if told.contains_key(&node) {
            return false;
        }
        self.transport.set_peer(node, address);
        true
    }

    /// The nodes whose address the owner has set.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.told.lock().keys().copied().collect()
    }

    /// The address that the owner has set for `node`.
    pub(crate) fn get(&self, node: NodeId) -> Option<SocketAddr> {
        self.told.lock().get(&node).copied()
    }
}
