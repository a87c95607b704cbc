//! The cluster as this node knows it: who it is, the map, where the others are, its first map.

pub(crate) mod addresses;
pub(crate) mod bootstrap;
pub(crate) mod bootstrap_state;
pub(crate) mod identity;
pub(crate) mod map;
