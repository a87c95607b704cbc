//! One connection from its handshake to its end, and the connections of a node.

pub(crate) mod closing;
mod greeting;
mod handshakes;
pub(crate) mod links;
mod news;
mod reader;
mod session;
mod snapshots;
