//! Bindings of replicas to leaders, and the lease that a leader has from them.

mod bound_replica;
mod control;
mod leader_monitor;
mod lease;
mod quorum;

pub use bound_replica::{BindGrant, BindRequest, Binding, BoundReplica, Decision, Followed, Heard};
pub use control::{Control, LivenessNote};
pub use leader_monitor::{LeaderFacts, LeaderMonitor, StepDown};
pub use lease::{Lease, LeaseEnd};
pub use quorum::latest_of_quorum;
