//! One shard's consensus: the Raft kernel.
//!
//! It is pure and sans-IO: messages, time and completions come in through `handle_*`; everything
//! that the kernel wants done comes out of [`Kernel::take_ready`] and [`Kernel::poll_timeout`]. It
//! owns no clock, no thread, no socket, no disk and no random source but a seed, so one history of
//! inputs gives one history of outputs, to the byte. It knows nothing of shards: a host runs many
//! kernels.
//!
//! ```text
//!  handle_message ───┐                    ┌─ send_now             beside the disk write
//!  handle_timeout ───┤   ┌────────────┐   ├─ write, install       numbered, one after the other
//!  propose, read ────┤   │            │   ├─ send_after_sync      once every write so far is durable
//!  change_membership ┼──▶│   Kernel   │──▶┼─ committed            to the state machine
//!  handle_persisted ─┤   │            │   ├─ fetches, snapshots   for followers that lag
//!  handle_applied ───┤   └────────────┘   └─ reads, role
//!  handle_bound ... ─┤
//!  install, purge ───┘
//! ```
//!
//! Left to the host: moving the state of a snapshot, which the kernel only asks for
//! ([`Ready::snapshots`]) and is told of ([`Kernel::install`]); which members a group should have;
//! what happens to a replica that was removed; leases.
//!
//! A group of one commits what is durable on its own disk:
//!
//! ```
//! use quorate_raft::{
//!     Config, EntryKind, HardState, Kernel, Member, Membership, Ready, Restored, Role, RunDraft,
//! };
//! use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, Term};
//!
//! let member = Member { replica: ReplicaId(1), node: NodeId(1) };
//! let base = LogId::new(Term(1), Index(1));
//! let restored = Restored {
//!     hard_state: HardState { term: Term(1), vote: None, committed: base.index },
//!     base,
//!     base_membership: Membership::of_voters([member]),
//!     terms: Vec::new(),
//!     memberships: Vec::new(),
//!     last: base,
//!     applied: base.index,
//! };
//! let mut kernel = Kernel::new(Config::new(ReplicaId(1), 42, 0), restored, Monotonic(0));
//!
//! // The driver's part: sync each write, then say so.
//! let sync = |kernel: &mut Kernel| -> Ready {
//!     let ready = kernel.take_ready();
//!     if let Some(write) = &ready.write {
//!         kernel.handle_persisted(write.number);
//!     }
//!     ready
//! };
//!
//! let now = kernel.poll_timeout();
//! kernel.handle_timeout(now); // Nobody else was heard: an election.
//! sync(&mut kernel); // Its own vote is durable: it leads.
//! sync(&mut kernel); // So is the blank entry that opens the term.
//! assert_eq!(kernel.role().role, Role::Leader);
//!
//! let mut draft = RunDraft::new();
//! draft.push(EntryKind::Command, &[b"a command"]);
//! let id = kernel.propose(now, draft).map_err(|(error, _)| error)?;
//! sync(&mut kernel);
//! assert_eq!(kernel.commit(), id.index);
//! let committed = kernel.take_ready().committed.expect("handed out once durable");
//! assert_eq!(&committed.runs[0].payload(id.index)[..], b"a command");
//! # Ok::<(), quorate_raft::ProposeError>(())
//! ```

mod addresses;
mod apply;
mod cache;
mod change;
mod config;
mod election;
mod errors;
mod follower;
mod kernel;
mod log;
mod loss;
mod membership;
mod message;
mod outbox;
mod output;
mod progress;
mod quorum;
mod reads;
mod ready;
mod replication;
mod run;
mod snapshot;
mod support;
mod transfer;
mod windows;

pub use config::{Config, Preference};
pub use errors::{ChangeError, InstallError, ProposeError, ReadIndexError, TransferError};
pub use kernel::Kernel;
pub use membership::{Member, Membership, MembershipError};
pub use message::{Body, Message, TransferOf};
pub use ready::{
    Committed, Fetch, HardState, Install, Loss, ReadOutcome, Reader, Ready, Restored, Role,
    RoleState, SnapshotOutcome, SnapshotRequest, Write,
};
pub use run::{Entry, EntryKind, Run, RunDraft, RunError};
pub use support::Attendance;
pub use windows::Windows;
