//! A request for one shard while it is under way: what it asks, who waits for it, its outcome.

pub(crate) mod call;
pub(crate) mod progress;
pub(crate) mod read;
