//! The host of all shards of one worker, without I/O: events go in, one [`Turn`] comes out.
//!
//! A [`Host`] owns the kernels of the shards that are pinned to one worker. It gathers what all of
//! them want done into one [`Turn`], so that its driver does one log write, one frame per peer and
//! one hand-over to apply for thousands of shards. It holds back the messages that may not leave
//! before a sync (RULE 2). The engine drives it with threads, disks and sockets; the simulator
//! drives the same code with a seed.
//!
//! `quorate-machine`, which both drivers run, defines what a committed entry means;
//! [`quorate_liveness`] defines the rules of support, bindings and leases.
//!
//! ```text
//!  messages, writes, reads ─┐               ┌─ send      at once, per peer
//!  persisted, applied ──────┼──▶  Host  ──▶─┼─ writes    one batch, one sync
//!  fetched runs, time ──────┘   (kernels)   ├─ applies   committed runs and their callers
//!                                           └─ accepted, answers, fetches, roles
//! ```
//!
//! A cluster of one, whose disk is instant (see `quorate-sim` for three and for faults):
//!
//! ```
//! use bytes::Bytes;
//! use quorate_host::{Event, Host, HostConfig, ReplicaInit, Ticket};
//! use quorate_machine::KvCommand;
//! use quorate_raft::{HardState, Member, Membership, Restored};
//! use quorate_types::{
//!     Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, Term, WallMillis,
//! };
//!
//! let (shard, replica, node) = (ShardId(1), ReplicaId(1), NodeId(1));
//! let base = LogId::new(Term(1), Index(1));
//! let restored = Restored {
//!     hard_state: HardState { term: base.term, vote: None, committed: base.index },
//!     base,
//!     base_membership: Membership::of_voters([Member { replica, node }]),
//!     terms: vec![],
//!     memberships: vec![],
//!     last: base,
//!     applied: base.index,
//! };
//! let mut host = Host::new(HostConfig::new(node, Incarnation(1), 7));
//! host.add(Monotonic(0), ReplicaInit { shard, replica, descriptor_version: 1, restored });
//!
//! let (mut now, mut asked, mut answered) = (Monotonic(0), false, false);
//! while !answered {
//!     now = host.poll_timeout().unwrap_or(now).max(now);
//!     host.handle_timeouts(now);
//!     let turn = host.take_turn(now);
//!     if turn.roles.iter().any(|role| role.role.serving) && !asked {
//!         let put = KvCommand::Put { key: Bytes::from("k"), value: Bytes::from("v") };
//!         let (ticket, command) = (Ticket(1), Bytes::from(put.encode()));
//!         let (session, progress) = (None, false);
//!         let write =
//!             Event::Write { shard, ticket, descriptor_version: 1, session, command, progress };
//!         host.handle(now, WallMillis(0), write);
//!         asked = true;
//!     }
//!     if let Some((turn, _writes)) = turn.write {
//!         host.handle(now, WallMillis(0), Event::Persisted { turn });
//!     }
//!     for apply in turn.applies {
//!         answered |= apply.tickets.iter().any(|(_, ticket)| *ticket == Ticket(1));
//!         let (replica, index) = (apply.replica, apply.committed.range.end.previous());
//!         host.handle(now, WallMillis(0), Event::Applied { shard, replica, index });
//!     }
//! }
//! ```
//!
//! What it is not: it has no thread, clock, socket, disk or random source, and knows callers only
//! by [`Ticket`].

mod config;
mod host;
mod shard;
mod turn;

pub use config::{HostConfig, ReplicaInit};
pub use host::{Host, ShardView};
pub use turn::{
    Answer, Apply, Event, HostRefusal, ShardFetch, ShardInstall, ShardLoss, ShardPurge, ShardRole,
    ShardSnapshot, ShardWrite, Ticket, Turn,
};
