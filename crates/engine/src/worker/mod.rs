//! The threads that carry a shard's work: step, apply, read back.

pub(crate) mod apply;
pub(crate) mod fetch;
pub(crate) mod inbox;
pub(crate) mod pending_calls;
pub(crate) mod queue;
pub(crate) mod shared;
pub(crate) mod step;
