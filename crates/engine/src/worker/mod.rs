//! The threads that do a shard's work: step, apply, read back from the log.

pub(crate) mod applier;
pub(crate) mod apply;
pub(crate) mod fetch;
pub(crate) mod inbox;
pub(crate) mod pending_calls;
pub(crate) mod queue;
pub(crate) mod shared;
pub(crate) mod snapshots;
pub(crate) mod step;
