//! The map that state machines write into: one RocksDB batch for many shards' entries.
//!
//! A batch reaches the store only between entries, each shard's part with its applied record, so
//! that a crash finds either all of an entry and its index, or neither. A machine's reads see its
//! batch: those of the entry under way from a small list, those of earlier entries by writing the
//! batch out first, which happens only if the key read is among those written.

use std::ops::Range;

use bytes::Bytes;
use quorate_host::{AppliedRecord, ApplyTarget, OrderedMap};
use quorate_types::{ShardId, SpaceId};
use rocksdb::WriteBatch;
use rustc_hash::{FxBuildHasher, FxHashSet};
use std::hash::BuildHasher;

use crate::data::{DataStore, prefixed, record_key};

/// Batch size after which a batch is written although more entries wait.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A write of the entry under way; ranges of `Staged::bytes`, keys with their space.
enum Write {
    Put { key: Range<usize>, value: Range<usize> },
    Delete { key: Range<usize> },
    DeleteRange { start: Range<usize>, end: Range<usize> },
}

/// What the entry under way has written.
#[derive(Default)]
struct Staged {
    bytes: Vec<u8>,
    writes: Vec<Write>,
}

impl Staged {
    fn push(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        start..self.bytes.len()
    }

    /// The newest word on `key`: `None` if the entry has not touched it.
    fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.writes.iter().rev().find_map(|write| match write {
            Write::Put { key: k, value } if &self.bytes[k.clone()] == key => {
                Some(Some(&self.bytes[value.clone()]))
            }
            Write::Delete { key: k } if &self.bytes[k.clone()] == key => Some(None),
            Write::DeleteRange { start, end }
                if &self.bytes[start.clone()] <= key && key < &self.bytes[end.clone()] =>
            {
                Some(None)
            }
            _ => None,
        })
    }
}

/// See the module's documentation. The first failure of the store is kept and everything after it
/// is void.
pub(crate) struct ApplyBatch<'a> {
    store: &'a DataStore,
    batch: WriteBatch,
    /// Hashes of the keys in `batch`; a false hit costs one early write.
    written: FxHashSet<u64>,
    range_deleted: bool,
    staged: Staged,
    shard: ShardId,
    space: SpaceId,
    /// The shard's record after its last complete entry, if the batch holds entries of it.
    record: Option<AppliedRecord>,
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
            shard: ShardId(0),
            space: SpaceId(0),
            record: None,
            failure: None,
        }
    }

    /// The entries that follow belong to `shard`, whose data lives in `space`.
    pub(crate) fn begin_shard(&mut self, shard: ShardId, space: SpaceId) {
        self.put_record();
        self.shard = shard;
        self.space = space;
        if self.batch.size_in_bytes() > BATCH_BYTES_MAX {
            self.write_out();
        }
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
            self.batch.put(record_key(self.shard), record.encode());
        }
    }

    /// Writes the complete entries gathered so far.
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
        let full = prefixed(self.space, key);
        if let Some(newest) = self.staged.get(&full) {
            return newest.map(Bytes::copy_from_slice);
        }
        if self.range_deleted || self.written.contains(&hash(&full)) {
            self.write_out();
        }
        match self.store.get(self.space, key) {
            Ok(value) => value,
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let key = self.staged.push(&[&self.space.0.to_be_bytes(), key]);
        let value = self.staged.push(&[value]);
        self.staged.writes.push(Write::Put { key, value });
    }

    fn delete(&mut self, key: &[u8]) {
        let key = self.staged.push(&[&self.space.0.to_be_bytes(), key]);
        self.staged.writes.push(Write::Delete { key });
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let space = self.space.0.to_be_bytes();
        let start = self.staged.push(&[&space, start]);
        let end = self.staged.push(&[&space, end]);
        self.staged.writes.push(Write::DeleteRange { start, end });
    }

    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.write_out();
        if self.staged.writes.is_empty() {
            if let Err(error) = self.store.scan(self.space, start, end, visit) {
                self.failure.get_or_insert(error);
            }
            return;
        }
        self.scan_over_staged(start, end, visit);
    }
}

impl ApplyBatch<'_> {
    /// A scan by a machine that has already written in the same entry: rare, so it may gather.
    fn scan_over_staged(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        let mut pairs = std::collections::BTreeMap::new();
        let gathered = self.store.scan(self.space, start, end, &mut |key, value| {
            pairs.insert(key.to_vec(), value.to_vec());
            true
        });
        if let Err(error) = gathered {
            self.failure.get_or_insert(error);
        }
        let strip = |range: &Range<usize>| self.staged.bytes[range.clone()][8..].to_vec();
        for write in &self.staged.writes {
            match write {
                Write::Put { key, value } => {
                    pairs.insert(strip(key), self.staged.bytes[value.clone()].to_vec());
                }
                Write::Delete { key } => {
                    pairs.remove(&strip(key));
                }
                Write::DeleteRange { start, end } => {
                    let (start, end) = (strip(start), strip(end));
                    pairs.retain(|key, _| !(start <= *key && *key < end));
                }
            }
        }
        for (key, value) in pairs.range(start.to_vec()..) {
            if end.is_some_and(|end| key.as_slice() >= end) || !visit(key, value) {
                return;
            }
        }
    }
}

impl ApplyTarget for ApplyBatch<'_> {
    fn finish_entry(&mut self, record: &AppliedRecord) {
        for write in self.staged.writes.drain(..) {
            let bytes = &self.staged.bytes;
            match write {
                Write::Put { key, value } => {
                    self.written.insert(hash(&bytes[key.clone()]));
                    self.batch.put(&bytes[key], &bytes[value]);
                }
                Write::Delete { key } => {
                    self.written.insert(hash(&bytes[key.clone()]));
                    self.batch.delete(&bytes[key]);
                }
                Write::DeleteRange { start, end } => {
                    self.range_deleted = true;
                    self.batch.delete_range(&bytes[start], &bytes[end]);
                }
            }
        }
        self.staged.bytes.clear();
        match &mut self.record {
            // Range and membership change seldom; the hot path copies two numbers.
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
