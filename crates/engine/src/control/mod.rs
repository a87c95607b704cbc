//! What keeps a node in step with its cluster: who is let in, the map, where leaders are.

pub(crate) mod admission;
pub(crate) mod balance;
pub(crate) mod drain;
pub(crate) mod map_sync;
