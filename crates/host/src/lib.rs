//! All shards of one node, still sans-IO: events go in, one [`Turn`] comes out.
//!
//! A [`Host`] owns the kernels of the shards that are pinned to one worker. It gathers what all of
//! them want done into one [`Turn`], so that its driver does one log write, one frame per peer and
//! one hand-over to apply for thousands of shards. It keeps back what may not leave before a sync
//! (RULE 2). The engine drives it with threads, disks and sockets; the simulator drives the same
//! code with a seed.
//!
//! The crate also holds what a committed entry means: the command [`Envelope`], the
//! [`StateMachine`] trait, the pure key-value commands, and [`apply_committed`], which both drivers
//! run.
//!
//! ```text
//!  messages, writes, reads ─┐               ┌─ send      at once, per peer
//!  persisted, applied ──────┼──▶  Host  ──▶─┼─ writes    one batch, one sync
//!  fetched runs, time ──────┘   (kernels)   ├─ applies   committed runs and who waits for them
//!                                           └─ answers, fetches, roles
//! ```
//!
//! What it is not: it has no thread, clock, socket, disk or random source, and knows no caller but
//! by [`Ticket`].

mod applied;
mod apply;
mod bytes_reader;
mod command;
mod host;
mod kv;
mod machine;
mod shard;
mod turn;

pub use applied::{AppliedRecord, RecordError};
pub use apply::{ApplyOutcome, apply_committed};
pub use command::{Envelope, EnvelopeError, SessionId, SessionStamp};
pub use host::{Host, HostConfig, ReplicaInit, ShardView};
pub use kv::{CommandError, KvCommand, KvMachine, KvReply};
pub use machine::{ApplyContext, ApplyTarget, OrderedMap, StateMachine};
pub use turn::{Answer, Apply, Event, Refusal, ShardFetch, ShardRole, Ticket, Turn};
