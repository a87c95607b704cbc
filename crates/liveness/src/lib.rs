//! Node liveness, bindings and leases as pure state: one heartbeat per pair of nodes takes the
//! place of one per shard.
//!
//! A node supports another ([`Supporter`], [`Requester`]); replicas bind themselves to a
//! leader for as long as that support stands ([`BoundReplica`]); a leader whose quorum is bound and
//! supporting has a [`Lease`]: nobody else can be elected, so it reads without asking, and its
//! followers run no timers. The nearest relative is CockroachDB's store liveness with leader
//! fortification.
//!
//! ```text
//!   node L                                              node F
//!   Requester ─────── Heartbeat (incarnation, epoch) ───▶ Supporter
//!        ▲ ◀───────── HeartbeatAnswer ──────────────────       │ Standings: "epoch e stands"
//!        │ SupportHeld: until                                  ▼
//!   Lease ─────────── BindRequest (term, epoch) ────────▶ BoundReplica  decides on every message
//!     ▲ └◀─────────── Binding ──────────────────────────       │
//!     │                                                        ▼
//!   BoundThere ◀───── one bucket on each heartbeat ──────  BoundHere    audit, 64 buckets
//!   WakeIndex         whom a loss or return wakes          WakeIndex
//! ```
//!
//! [`NodeLiveness`] holds what belongs to a node; [`BoundReplica`], [`Lease`] and [`LeaderMonitor`]
//! belong to a replica, [`WakeIndex`] to a worker.
//!
//! Two nodes, one of which supports the other:
//!
//! ```
//! use quorate_liveness::{Datagram, LivenessConfig, NodeLiveness};
//! use quorate_types::{ClusterId, Incarnation, Monotonic, NodeId, limits};
//!
//! let (one, two, now) = (NodeId(1), NodeId(2), Monotonic::from_millis(1_000));
//! let support = limits::SUPPORT;
//! let begin = |peer| {
//!     let peers = vec![peer];
//!     // Both have a support of this length on their disks: they may give as much at once.
//!     let (cluster, incarnation, longest_durable) = (ClusterId(7), Incarnation(1), support);
//!     let config = LivenessConfig { cluster, incarnation, support, longest_durable, peers };
//!     NodeLiveness::new(now, &config)
//! };
//! let (mut first, mut second) = (begin(two), begin(one));
//! for (_, heartbeat) in first.handle_timeout(now) {
//!     let answer = second.handle_datagram(now, one, &heartbeat).expect("it is supported");
//!     first.handle_datagram(now, two, &Datagram::Answer(answer));
//! }
//! assert!(first.held(two).is_some_and(|held| held.until > now));
//! assert!(second.supported_until(one) > first.held(two).map(|held| held.until));
//! ```
//!
//! What it is not: it has no clock, thread or socket; it sends nothing, and wakes nothing, itself.
//! Safety of writes does not rest on it: terms and logs alone decide what is committed.

mod audit;
mod binding;
mod node;
mod support;
mod wake_index;

pub use audit::{
    AuditKey, AuditList, AuditSample, BoundHere, BoundThere, BucketNumber, ChangeNumber, Comparison,
};
pub use binding::{
    BindGrant, BindRequest, Binding, BoundReplica, Control, Decision, Followed, Heard, LeaderFacts,
    LeaderMonitor, Lease, LeaseEnd, LivenessNote, StepDown, latest_of_quorum,
};
pub use node::{LivenessConfig, LivenessEvent, NodeLiveness};
pub use support::{
    Datagram, DatagramError, Heartbeat, HeartbeatAnswer, HeartbeatSequence, Requester,
    RequesterEvent, Standing, StandingCause, StandingChange, Standings, SupportEpoch, SupportHeld,
    Supporter, Suspicion, Unfit, Verdict,
};
pub use wake_index::{Wake, WakeIndex};
