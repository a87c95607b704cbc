//! Bindings of replicas to leaders, and the lease that a leader has from them.

mod bound_replica;
mod control;
mod leader_watch;
mod lease;
mod quorum;

pub use bound_replica::{BindRequest, Binding, Bound, BoundReplica, Decision, Followed, Heard};
pub use control::{Control, LivenessNote};
pub use leader_watch::{LeaderFacts, LeaderWatch, StepDown};
pub use lease::{Lease, LeaseEnd};
pub use quorum::latest_of_quorum;
