//! The map that state machines write into: one RocksDB batch for many shards' entries.
//!
//! A batch reaches the store only between entries, each shard's part with its applied record, so
//! that a crash leaves either all of an entry and its index, or neither. A machine's reads see its
//! batch: reads find writes of the same entry in what is staged; for those of earlier entries the
//! batch is written out first, which happens only if it may hold the key.

use bytes::Bytes;
use quorate_machine::{AppliedRecord, ApplyTarget, OrderedMap};
use quorate_types::SpaceId;
use rocksdb::WriteBatch;
use rustc_hash::{FxBuildHasher, FxHashSet};
use std::hash::BuildHasher;

use crate::store::data_store::DataStore;
use crate::store::layout::{PREFIX_BYTES, end_of, prefix, record_key, user_key};
use crate::store::staged::{Staged, Staging};

/// Batch size at which a batch is written although more entries wait.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// One batch of entries. It keeps the store's first failure, and ignores everything after it.
pub(crate) struct ApplyBatch<'a> {
    store: &'a DataStore,
    batch: WriteBatch,
    /// Hashes of the keys in `batch`; a false hit costs one early write.
    written: FxHashSet<u64>,
    range_deleted: bool,
    staged: Staged,
    space: SpaceId,
    /// The shard's record after its last complete entry, if the batch holds entries of it.
    record: Option<AppliedRecord>,
    /// What the store could not read for the space that is written now. It concerns no other.
    damage: Option<rocksdb::Error>,
    failure: Option<rocksdb::Error>,
}

impl<'a> ApplyBatch<'a> {
    pub(crate) fn new(store: &'a DataStore) -> ApplyBatch<'a> {
        ApplyBatch {
            store,
            batch: WriteBatch::default(),
            written: FxHashSet::default(),
            range_deleted: false,
            staged: Staged::default(),
            space: SpaceId(0),
            record: None,
            damage: None,
            failure: None,
        }
    }

    /// The entries that follow belong to the replica whose data lives in `space`.
    pub(crate) fn begin(&mut self, space: SpaceId) {
        self.put_record();
        assert!(self.damage.is_none(), "the damage of space {} is not taken", self.space);
        self.space = space;
        if self.batch.size_in_bytes() > BATCH_BYTES_MAX {
            self.write_out();
        }
    }

    /// What the store could not read for the entries since [`ApplyBatch::begin`], if anything. Of
    /// those, none after it is in the batch.
    pub(crate) fn take_damage(&mut self) -> Option<rocksdb::Error> {
        self.damage.take()
    }

    /// Keeps an error of a read: damaged bytes are the fault of this space, anything else of the
    /// store.
    fn fail_read(&mut self, error: rocksdb::Error) {
        let kept =
            if self.store.note_damage(&error) { &mut self.damage } else { &mut self.failure };
        kept.get_or_insert(error);
    }

    /// Writes what is left. Entries may be reported as applied only after this.
    pub(crate) fn finish(mut self) -> Result<(), rocksdb::Error> {
        self.write_out();
        match self.failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn put_record(&mut self) {
        if let Some(record) = self.record.take() {
            self.batch.put(record_key(self.space), record.encode());
        }
    }

    /// Writes the complete entries collected so far.
    fn write_out(&mut self) {
        self.put_record();
        if self.batch.is_empty() {
            return;
        }
        if self.failure.is_none()
            && let Err(error) = self.store.write(&self.batch)
        {
            self.failure = Some(error);
        }
        self.batch.clear();
        self.written.clear();
        self.range_deleted = false;
    }
}

fn hash(key: &[u8]) -> u64 {
    FxBuildHasher.hash_one(key)
}

impl OrderedMap for ApplyBatch<'_> {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        let full = user_key(self.space, key);
        if let Some(newest) = self.staged.get(&full) {
            return newest.map(Bytes::copy_from_slice);
        }
        if self.range_deleted || self.written.contains(&hash(&full)) {
            self.write_out();
        }
        match self.store.get(self.space, key) {
            Ok(value) => value,
            Err(error) => {
                self.fail_read(error);
                None
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.staged.put([&prefix(self.space), key], value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.staged.delete([&prefix(self.space), key]);
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let space = &prefix(self.space);
        self.staged.delete_range([space, start], [space, end]);
    }

    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.write_out();
        let (store, space) = (self.store, self.space);
        let scanned = if self.staged.is_empty() {
            store.scan(space, start, end, visit)
        } else {
            self.scan_over_staged(start, end, visit)
        };
        if let Err(error) = scanned {
            self.fail_read(error);
        }
    }
}

impl ApplyBatch<'_> {
    /// A scan by a machine that has already written in the same entry.
    fn scan_over_staged(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), rocksdb::Error> {
        let (store, space) = (self.store, self.space);
        let (first, last) = (user_key(space, start), end_of(space, end));
        let mut over = self.staged.over(&first, &last);
        let mut visit = |key: &[u8], value: &[u8]| visit(&key[PREFIX_BYTES..], value);
        let mut goes_on = true;
        let mut full = first.clone();
        store.scan(space, start, end, &mut |key, value| {
            full.truncate(PREFIX_BYTES);
            full.extend_from_slice(key);
            goes_on = over.pair(&full, value, &mut visit);
            goes_on
        })?;
        if goes_on {
            over.finish(&mut visit);
        }
        Ok(())
    }
}

impl ApplyTarget for ApplyBatch<'_> {
    fn finish_entry(&mut self, record: &AppliedRecord) {
        if self.damage.is_some() {
            self.staged.drain(|_| {});
            return;
        }
        let (batch, written, range_deleted) =
            (&mut self.batch, &mut self.written, &mut self.range_deleted);
        self.staged.drain(|write| match write {
            Staging::Put { key, value } => {
                written.insert(hash(key));
                batch.put(key, value);
            }
            Staging::Delete { key } => {
                written.insert(hash(key));
                batch.delete(key);
            }
            Staging::DeleteRange { start, end } => {
                *range_deleted = true;
                batch.delete_range(start, end);
            }
        });
        match &mut self.record {
            // Range and membership rarely change; the hot path copies two numbers.
            Some(kept) if kept.epoch == record.epoch => {
                kept.applied = record.applied;
                kept.clock = record.clock;
            }
            kept => *kept = Some(record.clone()),
        }
    }
}

#[cfg(test)]
#[path = "apply_batch_tests.rs"]
mod tests;
