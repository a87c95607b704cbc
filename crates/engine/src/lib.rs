//! Quorate: a Multi-Raft sharded storage engine that a database embeds.
//!
//! One [`Engine`] is one node of a cluster. It hosts many independent consensus groups (shards)
//! over one shared log with one sync per turn for all of them, and one QUIC connection per peer.
//! Any node takes any request and finds the shard's leader itself.
//!
//! ```text
//!  put, get ──▶ router ──▶ worker (kernels of its shards) ──▶ one Turn
//!                             ▲                                 ├─▶ QUIC lanes to the peers
//!                             │ persisted, applied              ├─▶ log: one batch, one sync
//!                             └─────────────────────────────────┴─▶ apply ──▶ the caller's reply
//! ```
//!
//! It is not a SQL database, a transaction system across shards, or an RPC framework.
//!
//! A first cluster, of one node (`examples/embedded.rs` has three):
//!
//! ```
//! use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, NodeId, ReadLevel};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let directory = tempfile::tempdir()?;
//! let (cluster, node) = (ClusterId(7), NodeId(1));
//! let engine = Engine::builder(directory.path())
//!     .cluster(cluster)
//!     .node(node)
//!     .listen("127.0.0.1:0".parse()?)
//!     .tls(ClusterAuthority::generate(cluster)?.issue(node)?)
//!     .bootstrap(Bootstrap::split_at(&[node], 1, ["g", "t"]))
//!     .open()?;
//! engine.put("colour", "blue").await?;
//! let colour = engine.get(b"colour", ReadLevel::Linearizable).await?;
//! assert_eq!(colour.as_deref(), Some(&b"blue"[..]));
//! engine.shutdown().await;
//! # Ok(())
//! # })
//! # }
//! ```

mod api;
mod calls;
mod cluster;
mod control;
mod error;
mod lifecycle;
mod peer;
mod request;
mod serve;
mod snapshot;
mod state;
mod status;
mod store;
#[cfg(test)]
mod test_engines;
#[cfg(test)]
mod test_file_store;
#[cfg(test)]
mod test_memory_store;
mod upkeep;
mod worker;

pub use api::builder::EngineBuilder;
pub use api::engine::{Engine, Location, NotReady};
pub use api::entries::{CommittedEntries, CommittedEntry, CommittedKind, EntriesError};
pub use api::submission::Submission;
pub use api::watches::{LeaderWatch, MapWatch, PositionWatch};
pub use calls::call::Applied;
pub use calls::read::ReadLevel;
pub use cluster::bootstrap::{Bootstrap, BootstrapShard};
pub use cluster::map::MapView;
pub use error::{
    DiskLow, FatalError, IncrementError, Indeterminate, Invalid, OpenError, OpenFault, ReadError,
    Refusal, WriteError,
};
pub use quorate_log::SyncMode;
pub use quorate_machine::{
    ApplyContext, KvCommand, KvMachine, KvReply, OrderedMap, OwnStore, SnapshotChunks,
    StateMachine, StoreFault, StoreSnapshot, StoreSync,
};
pub use quorate_router::{Replica, ShardDescriptor};
pub use quorate_transport::{
    BindError, CertificateError, ClusterAuthority, NodeTls, PemRole, Validity, WallClock, utc,
};
pub use quorate_types::{
    ClusterId, Duration, Epoch, Incarnation, Index, LogId, NodeId, ReplicaId, ShardId, StoreId,
    Term, WallMillis, limits,
};
pub use request::range_reads::{KeyPage, ScanPage};
pub use state::counters::CounterValues;
pub use state::position::Position;
pub use state::shards::{DamagedReplica, Leadership};
pub use status::cluster_status::{
    Balanced, CatchUp, ClusterStatus, Drained, Health, Lag, NodeState, NodeStatus, Note, Readiness,
    Reason, ReplicaRole, ReplicaSummary, ShardState, ShardSummary, UnheardNode,
};
pub use status::log_status::{LogStatus, TimesStatus};
pub use status::node_status::{PeerStatus, ShardStatus, Status};
pub use status::problems::{Problem, SnapshotsLeft};
pub use status::resources::{ResourceStatus, Warning};
pub use status::snapshots::{
    IncomingSnapshot, SnapshotCounts, SnapshotDirection, SnapshotProgress, SnapshotStatus,
    SnapshotsStatus,
};
pub use store::data_store::{DataStatistics, Found};
pub use worker::step::Observer;
