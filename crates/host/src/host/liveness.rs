//! What a host knows of other nodes: the support given to them, the support held, and the shards to
//! wake.

use std::collections::BTreeMap;

use quorate_liveness::{Standings, SupportHeld, WakeIndex};
use quorate_types::NodeId;

/// A host's view of the liveness of other nodes.
pub(crate) struct HostLiveness {
    pub(crate) standings: Standings,
    /// The support that this node holds, as the host was told; no entry for a peer never heard.
    pub(crate) held: BTreeMap<NodeId, Option<SupportHeld>>,
    pub(crate) wakes: WakeIndex,
}

impl HostLiveness {
    pub(crate) fn new(standings: Standings, seed: u64) -> HostLiveness {
        HostLiveness { standings, held: BTreeMap::new(), wakes: WakeIndex::new(seed) }
    }

    pub(crate) fn held(&self, node: NodeId) -> Option<SupportHeld> {
        self.held.get(&node).copied().flatten()
    }
}
