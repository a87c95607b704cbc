//! Requests of this node's callers: routed to a shard, sent, retried, answered.

pub(crate) mod dispatch;
pub(crate) mod key_reads;
pub(crate) mod local_reads;
pub(crate) mod range_reads;
pub(crate) mod reads;
#[cfg(test)]
mod refusals_tests;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod writes;
