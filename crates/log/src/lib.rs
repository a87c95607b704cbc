//! Every shard's durable log, in one RocksDB.
//!
//! Turns of the engine's workers are one ordered stream of changes: writes, purges, installs of
//! snapshots, ends of replicas. All turns that wait for a sync share one batch and its cost. A log is stored as the runs that its kernel made, byte for
//! byte; hard states, identities and bases are small records beside them.
//!
//! The crate decides nothing about consensus (that is `quorate-raft`), keeps no entries in memory
//! for readers (the kernel and the engine's cache do), and holds no data of state machines.
//!
//! ```text
//!  worker ─┐ TurnWrite            ┌───────────────────────── LogStore ─────────────────────────┐
//!  worker ─┼──────────▶ LogWriter │ one batch ─▶ write-ahead log ─▶ sync ─▶ memtables ─▶ tables │
//!  worker ─┘   queue     thread ──▶   runs      families s1 s2 .. (own), p0 p1 .. (shared)       │
//!     ▲                     │     │   records   family default: identity, places, hard states  │
//!     └─────────────────────┘     └──────────────▲──────────────────────────────────────────────┘
//!       completions, in order                    └─ read: contiguous verified runs, any thread
//! ```
//!
//! - A failed write or sync latches the store for good (RULE 8), and a start syncs what it replayed
//!   before it returns.
//! - Runs are disjoint (RULE 7); a start verifies each and that none is missing. A replica whose
//!   runs are damaged is reported, never repaired by guessing (RULE 5).
//! - The first index and the bytes of every stored run are in memory: a purge reads nothing, and
//!   [`LogStore::held`] and its like tell at any time how much is stored.
//! - A torn tail of the write-ahead log was never acknowledged and is dropped, even one with a hole
//!   instead of an early end; a directory with any other damage in that log is refused (RULE 9). So
//!   is, for any RocksDB, what a power cut left of the last change to its list of files
//!   ([`mend_manifest`]).
//!
//! ```
//! use quorate_log::{LogOptions, LogStore, NewReplica, ShardWrite, TurnWrite};
//! use quorate_raft::{EntryKind, HardState, Member, Membership, RunDraft, Write};
//! use quorate_types::{
//!     ClusterId, Index, LogId, NodeId, ReplicaId, ShardId, StoreId, Term, WriteNumber,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let open = || {
//!     let path = dir.path().join("log");
//!     LogStore::open(&path, ClusterId(7), NodeId(1), StoreId(9), LogOptions::default())
//! };
//! let (log, _) = open()?;
//! let member = Member { replica: ReplicaId(1), node: NodeId(1) };
//! log.create_replicas(&[NewReplica {
//!     shard: ShardId(1),
//!     replica: member.replica,
//!     space: log.next_space()?,
//!     base: LogId::new(Term(1), Index(1)),
//!     base_membership: Membership::of_voters([member]),
//!     hard_state: HardState { term: Term(1), vote: None, committed: Index(1) },
//! }])?;
//!
//! let mut draft = RunDraft::new();
//! draft.push(EntryKind::Command, &[b"hello"]);
//! let write = Write {
//!     number: WriteNumber(1),
//!     install: None,
//!     hard_state: None,
//!     truncate_from: None,
//!     runs: vec![draft.seal(Term(1), Index(2))],
//! };
//! let write = ShardWrite { shard: ShardId(1), replica: member.replica, write, space: None };
//! log.write(&[TurnWrite { writes: vec![write], ..TurnWrite::default() }])?;
//! log.close()?;
//!
//! let (log, recovery) = open()?;
//! assert_eq!(recovery.replicas[0].restored.last, LogId::new(Term(1), Index(2)));
//! let runs = log.read(ShardId(1), Index(2)..Index(3), 1 << 20)?;
//! assert_eq!(&runs[0].payload(Index(2))[..], b"hello");
//! # Ok(())
//! # }
//! ```

mod damage_mark;
mod directory;
mod error;
mod families;
mod first_fault;
mod held;
mod journal;
mod keys;
mod latch;
mod manifest_repair;
mod notes;
mod open;
mod options;
mod record;
mod recovery;
mod replicas;
mod rewrite;
mod run_index;
mod runs;
mod settings;
mod stage;
mod start;
mod statistics;
mod store;
mod tables;
mod turn;
mod wal_repair;
mod writer;

pub use damage_mark::DamageMark;
pub use directory::{holds_database, make_durably};
pub use error::{CreateError, Holder, LogFault, LogOpenError, LogReadError};
pub use first_fault::FirstFault;
pub use held::HeldLog;
pub use manifest_repair::{ManifestError, mend_manifest};
pub use options::{LogOptions, SyncMode, WriteHook};
pub use record::Identity;
pub use recovery::{RecoveredReplica, Recovery};
pub use replicas::NewReplica;
pub use statistics::{LatencyHistogram, LogStatistics};
pub use store::LogStore;
pub use turn::{EndReason, ReplicaEnd, ShardPurge, ShardWrite, TurnWrite};
pub use writer::LogWriter;
