//! The route map: from a key to its shard and the replicas, as an ordered map with epochs.
//!
//! Floor 1, pure: no clock, no thread, no lock, no hash order. The map is a *belief*: a shard's own
//! log is the truth about its range and members, and every request carries the version that it was
//! routed by, so a stale map costs a refusal and never a wrong answer. The map does not say who
//! leads a shard (the engine knows, it changes faster), nor where a node lives.
//!
//! ```text
//!   key ──▶ RouteMap::lookup ──▶ ShardDescriptor { shard, [start, end), epoch, members }
//!                 ▲
//!   refusals, meta shard, splits ──▶ RouteMap::update   newer evicts older, never the reverse
//! ```
//!
//! ```
//! use bytes::Bytes;
//! use quorate_router::{Replica, RouteMap, ShardDescriptor, Updated};
//! use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};
//!
//! let whole = ShardDescriptor {
//!     shard: ShardId(1),
//!     start: Bytes::new(),
//!     end: None,
//!     epoch: Epoch { membership: 1, version: 1 },
//!     members: vec![Replica { replica: ReplicaId(1), node: NodeId(1) }],
//! };
//! let mut map = RouteMap::from_descriptors([whole.clone()])?;
//!
//! // The shard splits at "m": its left half and the child both carry the next version.
//! let epoch = Epoch { membership: 1, version: 2 };
//! let left = ShardDescriptor { end: Some(Bytes::from("m")), epoch, ..whole.clone() };
//! let right = ShardDescriptor { shard: ShardId(2), start: Bytes::from("m"), epoch, ..whole.clone() };
//! map.update(right)?;
//! assert_eq!(map.lookup(b"a"), None, "the old whole is known to be wrong; the left is not known");
//! map.update(left)?;
//! assert_eq!(map.update(whole)?, Updated::Stale);
//!
//! assert_eq!(map.lookup(b"apple").map(|d| d.shard), Some(ShardId(1)));
//! assert_eq!(map.lookup(b"melon").map(|d| d.shard), Some(ShardId(2)));
//! # Ok::<(), quorate_router::UpdateError>(())
//! ```

mod descriptor;
mod map;

pub use descriptor::{Replica, ShardDescriptor};
pub use map::{RouteMap, UpdateError, Updated};
