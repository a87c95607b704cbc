//! The simulated data store of one node: spaces, each with the data and the applied record of one
//! replica (RULES 10 and 12). Applied data is volatile until a flush of it has completed; a crash
//! undoes the unflushed part from a journal, so that a flush copies nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_machine::{AppliedRecord, ApplyTarget, OrderedMap};
use quorate_raft::EntryKind;
use quorate_types::LogId;

use crate::observation::{entry_hash, scramble};

/// Names the space of one replica's data; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SpaceId(pub(crate) u64);

/// Data and applied record of one replica.
pub(crate) struct Space {
    map: BTreeMap<Bytes, Bytes>,
    pub(crate) record: AppliedRecord,
    flushed: AppliedRecord,
    /// The old values of the keys changed since the flush, oldest change first.
    undo: Vec<(Bytes, Option<Bytes>)>,
    /// A flush is under way: the record as it began, and how much of `undo` it makes superfluous.
    flushing: Option<(AppliedRecord, usize)>,
}

impl Space {
    /// Makes a space that is durable at once, as ingested tables are.
    pub(crate) fn new(map: BTreeMap<Bytes, Bytes>, record: AppliedRecord) -> Space {
        Space { map, flushed: record.clone(), record, undo: Vec::new(), flushing: None }
    }

    /// Makes a space whose data is still volatile (RULE 13 forbids naming it), for a mutant.
    pub(crate) fn unflushed(map: &BTreeMap<Bytes, Bytes>, record: &AppliedRecord) -> Space {
        let nothing = AppliedRecord { applied: LogId::default(), ..record.clone() };
        let mut space = Space::new(BTreeMap::new(), nothing);
        map.iter().for_each(|(key, value)| space.put(key, value));
        space.record = record.clone();
        space
    }

    /// The record that would survive a crash.
    pub(crate) fn flushed(&self) -> &AppliedRecord {
        &self.flushed
    }

    /// Begins to flush everything applied so far, unless a flush is under way.
    pub(crate) fn begin_flush(&mut self) {
        self.flushing.get_or_insert_with(|| (self.record.clone(), self.undo.len()));
    }

    /// A flush under way has completed: what was applied when it began is durable. True if there was
    /// one.
    pub(crate) fn end_flush(&mut self) -> bool {
        let Some((record, undone)) = self.flushing.take() else { return false };
        self.undo.drain(..undone);
        self.flushed = record;
        true
    }

    /// A consistent copy of data and record, for a snapshot.
    pub(crate) fn view(&self) -> (BTreeMap<Bytes, Bytes>, AppliedRecord) {
        (self.map.clone(), self.record.clone())
    }

    /// A hash that depends on the data alone, not on how it was made.
    pub(crate) fn digest(&self) -> u64 {
        let pairs = self.map.iter();
        pairs.fold(0, |digest, (key, value)| {
            let of = |bytes: &Bytes| entry_hash(EntryKind::Command, bytes);
            scramble(digest ^ scramble(of(key)) ^ of(value))
        })
    }

    fn crash(&mut self) {
        self.flushing = None;
        for (key, value) in self.undo.drain(..).rev() {
            match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
        self.record.clone_from(&self.flushed);
    }
}

impl OrderedMap for Space {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.map.get(key).cloned()
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let key = Bytes::copy_from_slice(key);
        let old = self.map.insert(key.clone(), Bytes::copy_from_slice(value));
        self.undo.push((key, old));
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some((key, old)) = self.map.remove_entry(key) {
            self.undo.push((key, Some(old)));
        }
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        use std::ops::Bound::{Excluded, Included};
        if start >= end {
            return;
        }
        let range = (Included(start), Excluded(end));
        let doomed = self.map.range::<[u8], _>(range).map(|(key, _)| key.clone());
        for key in doomed.collect::<Vec<_>>() {
            self.delete(&key);
        }
    }

    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        use std::ops::Bound::{Included, Unbounded};
        for (key, value) in self.map.range::<[u8], _>((Included(start), Unbounded)) {
            if end.is_some_and(|end| &key[..] >= end) || !visit(key, value) {
                return;
            }
        }
    }
}

impl ApplyTarget for Space {
    fn finish_entry(&mut self, _: &AppliedRecord) {}
}

/// All spaces of one node.
#[derive(Default)]
pub(crate) struct DataStore {
    spaces: BTreeMap<SpaceId, Space>,
    /// The last id given out. Durable: an id that a crash made garbage is not given out again.
    last: u64,
}

impl DataStore {
    /// Adds a space under a fresh id.
    pub(crate) fn create(&mut self, space: Space) -> SpaceId {
        self.last += 1;
        self.spaces.insert(SpaceId(self.last), space);
        SpaceId(self.last)
    }

    /// The space, unless it was removed.
    pub(crate) fn find(&mut self, id: SpaceId) -> Option<&mut Space> {
        self.spaces.get_mut(&id)
    }

    /// # Panics
    /// If the space was removed.
    pub(crate) fn space(&mut self, id: SpaceId) -> &mut Space {
        self.spaces.get_mut(&id).expect("a replica's space exists")
    }

    /// Deletes a space.
    pub(crate) fn remove(&mut self, id: SpaceId) {
        self.spaces.remove(&id);
    }

    /// Deletes every space that is not named any more.
    pub(crate) fn retain(&mut self, is_named: impl Fn(SpaceId) -> bool) {
        self.spaces.retain(|id, _| is_named(*id));
    }

    /// Whether a crash would lose anything.
    pub(crate) fn is_volatile(&self) -> bool {
        self.spaces.values().any(|space| space.record.applied != space.flushed.applied)
    }

    /// Loses everything that was not flushed.
    pub(crate) fn crash(&mut self) {
        self.spaces.values_mut().for_each(Space::crash);
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Membership;
    use quorate_types::{Epoch, LogId, WallMillis};

    use super::*;

    fn record(index: u64) -> AppliedRecord {
        AppliedRecord {
            applied: LogId::new(quorate_types::Term(1), quorate_types::Index(index)),
            epoch: Epoch { membership: 1, version: 1 },
            start: Bytes::new(),
            end: None,
            membership: Membership::default(),
            clock: WallMillis(0),
        }
    }

    /// Goal: a crash gives back exactly what was applied when the last completed flush began, data
    /// and record together.
    #[test]
    fn a_crash_goes_back_to_the_flush() {
        let mut space = Space::new(BTreeMap::new(), record(1));
        space.put(b"a", b"1");
        space.put(b"b", b"1");
        space.record = record(2);
        space.begin_flush();
        let before = space.view();
        space.put(b"a", b"2");
        assert_eq!(space.flushed().applied, record(1).applied, "it is under way");
        assert!(space.end_flush());
        assert_eq!(space.flushed().applied, record(2).applied);
        space.begin_flush();
        space.put(b"a", b"3");
        space.delete(b"b");
        space.put(b"c", b"1");
        space.delete_range(b"a", b"z");
        space.record = record(3);
        space.crash();
        assert_eq!(space.view(), before);
    }
}
