//! What all floors of Quorate share: identifiers, time, limits, a byte reader and a seeded generator.
//!
//! Floor 0: nothing here knows of consensus, does I/O or reads a clock. A number with a meaning has a
//! type of its own, so that a shard can never be mistaken for a replica, nor a term for an index.
//!
//! ```
//! use quorate_types::{Index, LogId, Term};
//! let id = LogId::new(Term(3), Index(17));
//! assert!(id > LogId::new(Term(2), Index(90)), "a newer term wins over a longer log");
//! ```

mod byte_reader;
mod ids;
pub mod limits;
mod mutation;
mod splitmix;
mod time;

pub use byte_reader::{ByteReader, CutShort, put_count, put_field, put_optional_field};
pub use ids::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, NodeInstance, ParseIdError, ReplicaId,
    ShardId, SpaceId, StoreId, Term, WriteNumber,
};
pub use mutation::{Mutant, Mutation};
pub use splitmix::{SPREAD, SplitMix64, mix};
pub use time::{Duration, Monotonic, WallMillis};
