//! Receives what other nodes send, and serves their requests.

pub(crate) mod inbound;
pub(crate) mod peer_reads;
pub(crate) mod peer_service;
pub(crate) mod relay;
