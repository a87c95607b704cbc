//! The status of this node, and of the cluster.

pub(crate) mod cached;
pub(crate) mod cluster_reporter;
pub(crate) mod cluster_status;
pub(crate) mod lag;
pub(crate) mod leader_spread;
pub(crate) mod log_status;
pub(crate) mod node_status;
pub(crate) mod problems;
pub(crate) mod resources;
pub(crate) mod shard_summary;
pub(crate) mod snapshots;

#[cfg(test)]
mod engine_tests;
