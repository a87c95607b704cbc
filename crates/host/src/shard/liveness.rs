//! A replica's part in node liveness: its binding to a leader and, while it leads, its lease.

use quorate_liveness::{BoundReplica, LeaderMonitor, Lease};
use quorate_types::{Monotonic, ReplicaId};

/// The state of node liveness for one replica.
pub(crate) struct ShardLiveness {
    pub(crate) bound: BoundReplica,
    pub(crate) leading: Option<LeaderLiveness>,
    /// When it last asked whether its leader still leads.
    pub(crate) asked_at: Option<Monotonic>,
}

/// The liveness state of a replica while it leads.
pub(crate) struct LeaderLiveness {
    pub(crate) lease: Lease,
    pub(crate) watch: LeaderMonitor,
    /// It was quiesced at the last check: what the watch saw before says nothing about now.
    pub(crate) was_quiesced: bool,
}

impl ShardLiveness {
    pub(crate) fn new(replica: ReplicaId) -> ShardLiveness {
        ShardLiveness { bound: BoundReplica::new(replica), leading: None, asked_at: None }
    }
}
