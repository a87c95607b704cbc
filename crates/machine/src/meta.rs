//! The meta shard's state machine: the directory of the cluster. Pure, over any [`OrderedMap`].
//!
//! It holds the nodes, a copy of every shard's descriptor, the highest ids, and the cluster
//! version. A shard's own log is the truth about the shard; this is the copy that every node looks
//! up.
//!
//! ```text
//!  MetaCommand ──▶ MetaMachine ──▶ OrderedMap ──▶ MetaMap ──▶ caches of all nodes
//!                       └──▶ MetaReply
//! ```
//!
//! The map's bytes; numbers are big-endian in keys, so that they sort, and little-endian in values:
//!
//! | key                | value |
//! |---|---|
//! | `[0]`              | head: format u8 (1), revision u64, cluster version u32, and the highest id ever seen of shards, replicas and nodes, u64 each |
//! | `[1, node u64]`    | node record: format u8 (2), node u64, store u128, incarnation u64 and nonce u64 of its newest start, address, service count u8, and per service its name and value, ascending by name; each text is a u32 length and UTF-8 |
//! | `[2, shard u64]`   | descriptor: format u8 (1), shard u64, start (u32 length, bytes), end (u8 0, or 1 and as start), epoch membership u64 and version u64, member count u32, and per member replica u64 and node u64 |
//! | `[3, ..]`          | kept for operations in progress; readers pass over it |
//!
//! A cluster exists once its head does. The revision grows by one with every command that changed
//! anything, and with no other, so that an equal revision means an equal map.
//!
//! What it is not: it asks no node anything, and it does not search for shards that overlap. A new
//! descriptor here may overlap an older one of another shard for a while, until that shard reports
//! its own new one; `RouteMap::update` at the reader tells which of the two holds a key.
//!
//! [`OrderedMap`]: crate::OrderedMap

mod command;
mod descriptor;
mod error;
mod head;
mod machine;
mod map;
mod node;
mod reply;

pub use command::{IdKind, MetaCommand};
pub use descriptor::{decode_descriptor, encode_descriptor};
pub use error::MetaError;
pub use machine::MetaMachine;
pub use map::MetaMap;
pub use node::NodeRecord;
pub use reply::MetaReply;

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;
