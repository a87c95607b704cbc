//! Who this engine is in its cluster.

use quorate_types::{ClusterId, NodeId, NodeLife};

/// Which node of which cluster, and which start of which directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeIdentity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) life: NodeLife,
}
