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
//! What it is not: a SQL database, a transaction system across shards, or an RPC framework.
//!
//! A cluster of one node, to begin with (see `examples/embedded.rs` for three):
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
//!     .bootstrap(Bootstrap::even_slots(&[node], 4, 1))
//!     .open()?;
//! engine.put("colour", "blue").await?;
//! let colour = engine.get(b"colour", ReadLevel::Linearizable).await?;
//! assert_eq!(colour.as_deref(), Some(&b"blue"[..]));
//! engine.shutdown().await;
//! # Ok(())
//! # })
//! # }
//! ```

mod admission;
mod apply;
mod apply_batch;
mod balance;
mod bootstrap;
mod budget;
mod builder;
mod call;
mod callers;
mod clock;
mod cluster_map;
mod cluster_status;
mod command_route;
mod core;
mod counters;
mod data;
mod ending;
mod engine;
mod entries;
mod error;
mod fatal;
mod fetch;
mod forward;
mod forwarder;
mod founding;
mod gather;
mod guarded;
mod hand_over;
mod inbox;
mod key_reads;
mod lag;
mod look;
mod map_keeper;
mod open;
mod peer_reads;
mod position;
mod problems;
mod progress;
mod queue;
mod range_reads;
mod reads;
mod receiver;
mod recover;
mod relay;
mod replies;
mod resources;
mod room;
mod running;
mod session;
mod shard_read;
mod shards;
mod shared;
mod staged;
mod stall;
mod status;
mod store_identity;
mod submission;
#[cfg(test)]
mod test_engines;
mod tidy;
mod tries;
mod watches;
mod worker;
mod writes;

pub use bootstrap::{Bootstrap, BootstrapShard, SLOTS};
pub use builder::{EngineBuilder, MachineFactory};
pub use cluster_status::{
    Balanced, ClusterStatus, HandedOver, Health, Lag, NodeState, NodeStatus, Readiness,
    ReplicaSummary, SCHEMA, ShardState, ShardSummary, UnheardNode,
};
pub use counters::CounterValues;
pub use data::{DataStatistics, Found};
pub use engine::{Engine, Location, NotAnInteger, NotReady};
pub use entries::{CommittedEntries, CommittedEntry, CommittedKind, EntriesError};
pub use error::{Doubt, FatalError, Invalid, OpenError, OpenFault, ReadError, Refusal, WriteError};
pub use position::Position;
pub use quorate_log::SyncMode;
pub use quorate_machine::{ApplyContext, KvCommand, KvMachine, KvReply, OrderedMap, StateMachine};
pub use quorate_router::{Replica, ShardDescriptor};
pub use quorate_transport::{
    BindError, CertificateError, ClusterAuthority, NodeTls, PemRole, Validity, WallClock, utc,
};
pub use quorate_types::{
    ClusterId, Duration, Epoch, Incarnation, Index, LogId, NodeId, ReplicaId, ShardId, StoreId,
    Term, WallMillis, limits,
};
pub use range_reads::{KeyPage, ScanPage};
pub use reads::ReadLevel;
pub use resources::ResourceStatus;
pub use session::{Session, SessionError};
pub use status::{LogStatus, PeerStatus, ShardStatus, Status};
pub use submission::{Applied, Submission};
pub use watches::{LeaderWatch, Leadership, MapView, MapWatch, PositionWatch};
pub use worker::Observer;
