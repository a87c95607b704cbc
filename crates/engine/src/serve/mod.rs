//! What comes in from other nodes, and what this node does for them.

pub(crate) mod inbound;
pub(crate) mod peer_reads;
pub(crate) mod peer_service;
pub(crate) mod relay;
