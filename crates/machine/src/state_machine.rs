//! The trait of state machines, and the map that they write into.

use bytes::Bytes;
use quorate_types::{LogId, ShardId, WallMillis};

use crate::applied_record::AppliedRecord;
use crate::own_store::OwnStore;

/// Facts about the entry being applied; the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyContext {
    /// The shard.
    pub shard: ShardId,
    /// The entry.
    pub id: LogId,
    /// The shard's clock: the maximum of all leader times so far.
    pub time: WallMillis,
}

/// A replica's deterministic interpreter of commands, run on an apply thread.
///
/// The same commands in the same order must leave the same map and give the same replies on every
/// replica: no clock but [`ApplyContext::time`], no random source, no hash order. Usually it names no
/// store: it writes into an [`OrderedMap`], which its driver makes durable together with the applied
/// record (RULE 10). Or else it keeps a store of its own, [`OwnStore`], and commits that record there.
pub trait StateMachine: Send {
    /// Applies one command and gives the reply for its proposer. Malformed bytes must give a reply
    /// that says so, the same on every replica: an entry in the log can no longer be refused.
    fn apply(&mut self, context: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes;

    /// The store that this machine keeps beside the engine's; always `Some` or always `None`. If there
    /// is one, `apply` changes that store and gets a map that is empty and must not be written to, and
    /// the engine's reads of keys are refused: the author reads the store.
    fn own_store(&mut self) -> Option<&mut dyn OwnStore> {
        None
    }
}

/// An ordered map from keys to values, which holds a shard's data.
///
/// Reads see the writes before them, those of the same batch included. A map over a disk latches
/// its first failure: from then on its answers mean nothing, and nothing of it is made durable.
pub trait OrderedMap {
    /// The value of `key`.
    fn get(&mut self, key: &[u8]) -> Option<Bytes>;
    /// Sets `key` to `value`.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Removes `key`.
    fn delete(&mut self, key: &[u8]);
    /// Removes every key in `[start, end)`.
    fn delete_range(&mut self, start: &[u8], end: &[u8]);
    /// Passes pairs in `[start, end)` in order to `visit`, until `visit` returns false; no `end` is
    /// no bound.
    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    );
}

/// The map of one shard as the apply loop sees it: it also learns where entries end, so that what
/// it makes durable never holds half an entry.
pub trait ApplyTarget: OrderedMap {
    /// The entry `record.applied` is complete.
    fn finish_entry(&mut self, record: &AppliedRecord);
}
