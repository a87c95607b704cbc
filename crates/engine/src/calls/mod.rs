//! A request for one shard while it is under way: what it asks, who waits for it, how it ended.

pub(crate) mod call;
pub(crate) mod progress;
pub(crate) mod read;
