//! The identity of this engine in its cluster.

use quorate_types::{ClusterId, NodeId, NodeInstance};

/// Which node of which cluster, and which start of which directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeIdentity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) instance: NodeInstance,
}
