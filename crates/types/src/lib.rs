//! Identifiers, time and limits that every floor of Quorate shares.
//!
//! Floor 0: no logic, no I/O, no clock. A number that means something has a type of its own here,
//! so that a shard can never be taken for a replica, nor a term for an index.
//!
//! ```
//! use quorate_types::{Index, LogId, Term};
//! let id = LogId::new(Term(3), Index(17));
//! assert!(id > LogId::new(Term(2), Index(90)), "a newer term wins over a longer log");
//! ```

mod ids;
pub mod limits;
mod mutation;
mod time;

pub use ids::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, NodeLife, ParseIdError, ReplicaId,
    ShardId, SpaceId, StoreId, Term, WriteNumber,
};
pub use mutation::{Mutant, Mutation};
pub use time::{Duration, Monotonic, WallMillis};
