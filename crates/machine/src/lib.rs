//! What a committed entry means: state machines, the commands in a log, and how they are applied.
//!
//! A [`StateMachine`] interprets commands over an [`OrderedMap`], or over a store of its own
//! ([`OwnStore`]); [`KvMachine`] is the built-in key-value store, [`MetaMachine`] the directory of
//! the cluster. [`apply_committed`] takes each command out of its [`Envelope`], runs the machine, and
//! updates the [`AppliedRecord`], which says how far a shard's data has come. The engine and the
//! simulator run the same code.
//!
//! ```text
//!  committed entries ──▶ apply_committed ──▶ Envelope ──▶ StateMachine ──▶ OrderedMap
//!  of the kernel               │                               │            (a store, or memory)
//!                              ▼                               ▼
//!                        AppliedRecord                  reply for the caller
//!                      in the same batch
//! ```
//!
//! A machine of your own, which keeps the longest command that it was given:
//!
//! ```
//! use std::collections::BTreeMap;
//! use bytes::Bytes;
//! use quorate_machine::{ApplyContext, OrderedMap, StateMachine};
//! use quorate_types::{Index, LogId, ShardId, Term, WallMillis};
//!
//! struct Longest;
//!
//! impl StateMachine for Longest {
//!     fn apply(&mut self, _: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
//!         let longest = map.get(b"longest").unwrap_or_default();
//!         if command.len() > longest.len() {
//!             map.put(b"longest", command);
//!         }
//!         longest // The reply: what it was before.
//!     }
//! }
//!
//! // The engine brings a map over its data store; here it is one in memory.
//! #[derive(Default)]
//! struct Memory(BTreeMap<Vec<u8>, Vec<u8>>);
//!
//! impl OrderedMap for Memory {
//!     fn get(&mut self, key: &[u8]) -> Option<Bytes> {
//!         self.0.get(key).map(|value| Bytes::copy_from_slice(value))
//!     }
//!     fn put(&mut self, key: &[u8], value: &[u8]) {
//!         self.0.insert(key.to_vec(), value.to_vec());
//!     }
//!     fn delete(&mut self, key: &[u8]) {
//!         self.0.remove(key);
//!     }
//!     fn delete_range(&mut self, start: &[u8], end: &[u8]) {
//!         self.0.retain(|key, _| &key[..] < start || &key[..] >= end);
//!     }
//!     fn scan(
//!         &mut self,
//!         start: &[u8],
//!         end: Option<&[u8]>,
//!         visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
//!     ) {
//!         let pairs = self.0.range(start.to_vec()..);
//!         let mut within = pairs.take_while(|(key, _)| end.is_none_or(|end| &key[..] < end));
//!         within.all(|(key, value)| visit(key, value));
//!     }
//! }
//!
//! let mut map = Memory::default();
//! let id = LogId::new(Term(1), Index(2));
//! let context = ApplyContext { shard: ShardId(1), id, time: WallMillis(0) };
//! assert_eq!(Longest.apply(context, b"short", &mut map), "");
//! assert_eq!(Longest.apply(context, b"longer", &mut map), "short");
//! assert_eq!(Longest.apply(context, b"tiny", &mut map), "longer");
//! ```
//!
//! What it is not: it knows of no leader, caller, clock, thread or disk. From the kernel it takes
//! committed entries and their membership, from the router the form of a descriptor.

mod applied_record;
mod apply;
mod envelope;
mod kv;
mod meta;
mod own_store;
#[cfg(test)]
mod plain_map;
mod state_machine;

pub use applied_record::{AppliedRecord, AppliedRecordError};
pub use apply::{ApplyOutcome, apply_committed};
pub use envelope::{Envelope, EnvelopeError, SessionId, SessionStamp};
pub use kv::{CommandError, KvCommand, KvMachine, KvReply};
pub use meta::{
    IdKind, MetaCommand, MetaError, MetaMachine, MetaMap, MetaReply, NodeRecord, decode_descriptor,
    encode_descriptor,
};
pub use own_store::{OwnStore, SnapshotChunks, StoreFault, StoreSnapshot, StoreSync};
pub use state_machine::{ApplyContext, ApplyTarget, OrderedMap, StateMachine};
