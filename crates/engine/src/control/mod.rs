//! Keeps a node in step with its cluster: admission of peers, the map, the places of leaders.

pub(crate) mod admission;
pub(crate) mod balance;
pub(crate) mod drain;
pub(crate) mod map_sync;
pub(crate) mod relief;
