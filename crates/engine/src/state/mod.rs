//! What several rooms share: the latch, shutdown, the public view of shards, counters, bounds.

pub(crate) mod budget;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod disk_floor;
pub(crate) mod disk_room;
pub(crate) mod engine_state;
pub(crate) mod fatal;
pub(crate) mod position;
pub(crate) mod shards;
pub(crate) mod shutdown;
pub(crate) mod spent_peers;
pub(crate) mod stall;
pub(crate) mod tasks;
pub(crate) mod transfers;
