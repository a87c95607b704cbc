//! Node liveness, bindings and leases as pure state: heartbeats in, support out, for one pair of
//! nodes what would otherwise be one heartbeat per shard.
//!
//! A node supports another ([`SupportGiver`], [`SupportAsker`]); replicas bind themselves to a
//! leader for as long as that support stands ([`BoundReplica`]); a leader whose quorum is bound and
//! supporting has a [`Lease`]: nobody else can be elected, so it reads without asking, and its
//! followers run no timers. The nearest relative is CockroachDB's store liveness with leader
//! fortification.
//!
//! ```text
//!   node L                                              node F
//!   SupportAsker ──── Heartbeat (incarnation, epoch) ───▶ SupportGiver
//!        ▲ ◀───────── HeartbeatAnswer ──────────────────       │ Standings: "epoch e stands"
//!        │ SupportHeld: until                                  ▼
//!   Lease ─────────── BindRequest (term, epoch) ────────▶ BoundReplica  judges every message
//!     ▲ └◀─────────── Binding ──────────────────────────       │
//!     │                                                        ▼
//!   BoundThere ◀───── one bucket on each heartbeat ──────  BoundHere    audit, 64 buckets
//!   WakeIndex         whom a loss or return wakes          WakeIndex
//! ```
//!
//! [`NodeLiveness`] holds what belongs to a node; [`BoundReplica`], [`Lease`] and [`LeaderWatch`]
//! belong to a replica, [`WakeIndex`] to a worker.
//!
//! What it is not: it has no clock, thread or socket; it sends nothing, and wakes nothing, itself.
//! Safety of writes does not rest on it: terms and logs alone decide what is committed.

mod audit;
mod binding;
mod control;
mod index;
mod lease;
mod messages;
mod node;
mod quorum;
mod random;
mod support;
mod support_asker;
mod support_giver;
#[cfg(test)]
mod support_tests;
mod suspicion;
mod watch;

pub use audit::{
    AuditKey, AuditList, AuditSample, BoundHere, BoundThere, BucketNumber, ChangeNumber, Comparison,
};
pub use binding::{BindRequest, Binding, Bound, BoundReplica, Followed, Heard, Judgement};
pub use control::{Control, LivenessNote};
pub use index::{Wake, WakeIndex};
pub use lease::{Lease, LeaseEnd};
pub use messages::{Datagram, DatagramError, Heartbeat, HeartbeatAnswer, Verdict};
pub use node::{LivenessConfig, LivenessEvent, NodeLiveness};
pub use quorum::latest_of_quorum;
pub(crate) use random::mix;
pub use support::{
    HeartbeatSequence, Standing, StandingCause, StandingChange, Standings, SupportEpoch,
};
pub use support_asker::{AskerEvent, SupportAsker, SupportHeld, Unfit};
pub use support_giver::SupportGiver;
pub use suspicion::Suspicion;
pub use watch::{LeaderFacts, LeaderWatch, StepDown};
