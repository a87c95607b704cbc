//! The documented JSON of a node and of a cluster, with sentences for operators. Pure.
//!
//! `quorate status` shows the same sentences: they are composed once, by the node that is asked.

pub(crate) mod amounts;
mod cluster;
mod node;
mod problems;
mod reasons;

pub use cluster::{ClusterReport, NodeReport, ReplicaReport, SCHEMA, ShardReport, UnconnectedNode};
pub use node::StatusReport;
