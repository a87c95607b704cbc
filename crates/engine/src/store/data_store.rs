//! The data store: every local shard's keys and applied record in one RocksDB without WAL.
//!
//! The log is the WAL. A crash loses memtables; their entries are applied again from the log, from
//! the applied record on, which is lost or kept together with them (RULE 10).
//!
//! Keys: space u64 big-endian, then the user's key. Space 0 holds the applied records, under the
//! shard id as u64 big-endian, and the store's identity, under the one byte 1.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_log::FirstFault;
use quorate_machine::{AppliedRecord, AppliedRecordError};
use quorate_types::{ShardId, SpaceId};
use rocksdb::event_listener::{DBBackgroundErrorReason, EventListener, MutableStatus};
use rocksdb::{DB, DBCompressionType, Options, ReadOptions, WriteBatch, WriteOptions};

use crate::store::identity::{IdentityError, StoreIdentity};

/// An error of the data store.
pub(crate) use rocksdb::Error as DataError;

/// The space that holds applied records; never given to a replica.
pub(crate) const RECORD_SPACE: SpaceId = SpaceId(0);
/// Bytes of a space before a user's key.
pub(crate) const SPACE_BYTES: usize = 8;

/// Memtable size: large, because a flush rewrites what the log already holds.
const MEMTABLE_BYTES: usize = 64 << 20;

/// Sizes of the data store, for status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataStatistics {
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Bytes in table files.
    pub table_bytes: u64,
    /// RocksDB's estimate of how many keys there are, applied records included.
    pub keys_estimate: u64,
}

/// The values of many keys, or their lengths, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The values.
    All(Vec<Option<Bytes>>),
    /// The values have more bytes than wanted: the length of each.
    Lengths(Vec<Option<u64>>),
}

impl Found {
    /// The length of each value.
    #[must_use]
    pub fn into_lengths(self) -> Vec<Option<u64>> {
        match self {
            Found::All(values) => values.into_iter().map(length_of).collect(),
            Found::Lengths(lengths) => lengths,
        }
    }
}

fn length_of(value: Option<Bytes>) -> Option<u64> {
    value.map(|value| value.len() as u64)
}

/// The RocksDB that holds all local shards' keys and applied records.
pub(crate) struct DataStore {
    db: DB,
    background: Arc<FirstFault<String>>,
}

/// Learns of a flush or compaction that failed: without a write-ahead log RocksDB continues to take
/// writes after some of these failures, until its memtables are full.
struct BackgroundErrors(Arc<FirstFault<String>>);

impl EventListener for BackgroundErrors {
    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        if let Err(error) = status.result() {
            self.0.close(|| format!("background work failed ({reason:?}): {error}"));
        }
    }
}

impl DataStore {
    /// [`DataStore::open_bounded`] with a usual bound.
    #[cfg(test)]
    pub(crate) fn open(directory: &Path, may_be_new: bool) -> Result<DataStore, rocksdb::Error> {
        DataStore::open_bounded(directory, may_be_new, 64)
    }

    /// Opens the store in `directory`, or creates it there if it `may_be_new`. Keeps at most
    /// `open_files_max` table files open.
    pub(crate) fn open_bounded(
        directory: &Path,
        may_be_new: bool,
        open_files_max: i32,
    ) -> Result<DataStore, rocksdb::Error> {
        let mut options = Options::default();
        options.create_if_missing(may_be_new);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_max_write_buffer_number(4);
        options.set_max_background_jobs(2);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bytes_per_sync(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(open_files_max);
        // One apply thread writes at a time; the write group's machinery would only cost.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        let mut blocks = rocksdb::BlockBasedOptions::default();
        blocks.set_bloom_filter(10.0, false);
        blocks.set_format_version(5);
        options.set_block_based_table_factory(&blocks);
        // RULE 8: RocksDB would retry after some errors and continue; here the first one is final.
        options.set_max_bgerror_resume_count(0);
        let background = Arc::new(FirstFault::new());
        options.add_event_listener(BackgroundErrors(Arc::clone(&background)));
        Ok(DataStore { db: DB::open(&options, directory)?, background })
    }

    /// Calls `listener` once with the first failure of a flush or compaction, now if there was one.
    /// It must not block.
    pub(crate) fn listen_fault(&self, listener: impl FnOnce(&str) + Send + 'static) {
        self.background.listen(move |what| listener(what));
    }

    /// The identity of this store; `None` if it has none yet.
    pub(crate) fn identity(
        &self,
    ) -> Result<Option<Result<StoreIdentity, IdentityError>>, rocksdb::Error> {
        Ok(self.db.get(identity_key())?.map(|bytes| StoreIdentity::decode(&bytes)))
    }

    /// The identity of the store in `directory`, which is opened only to read it.
    pub(crate) fn peek_identity(directory: &Path) -> Option<StoreIdentity> {
        let db = DB::open_for_read_only(&Options::default(), directory, false).ok()?;
        StoreIdentity::decode(&db.get(identity_key()).ok()??).ok()
    }

    /// Makes this the data store of `identity`. Blocks for a flush.
    pub(crate) fn take_identity(&self, identity: StoreIdentity) -> Result<(), rocksdb::Error> {
        let mut batch = WriteBatch::default();
        batch.put(identity_key(), identity.encode());
        self.write(&batch)?;
        self.flush()
    }

    /// True if nothing was ever written here.
    pub(crate) fn is_empty(&self) -> Result<bool, rocksdb::Error> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek_to_first();
        iterator.status().map(|()| !iterator.valid())
    }

    /// The shard's applied record, if it has one.
    pub(crate) fn record(
        &self,
        shard: ShardId,
    ) -> Result<Option<Result<AppliedRecord, AppliedRecordError>>, rocksdb::Error> {
        let bytes = self.db.get(record_key(shard))?;
        Ok(bytes.map(|bytes| AppliedRecord::decode(&bytes)))
    }

    /// Makes the records of new replicas durable. Blocks for a flush.
    pub(crate) fn put_records(
        &self,
        records: &[(ShardId, AppliedRecord)],
    ) -> Result<(), rocksdb::Error> {
        let mut batch = WriteBatch::default();
        for (shard, record) in records {
            batch.put(record_key(*shard), record.encode());
        }
        self.write(&batch)?;
        self.flush()
    }

    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>, rocksdb::Error> {
        with_prefix(space, key, |full| self.db.get(full)).map(|value| value.map(Bytes::from))
    }

    /// The values of `keys`, all as of one moment, if they have at most `bytes_max` bytes together,
    /// else the length of each. No more than `bytes_max` is ever copied.
    pub(crate) fn get_within(
        &self,
        space: SpaceId,
        keys: &[Bytes],
        bytes_max: usize,
    ) -> Result<Found, rocksdb::Error> {
        if let [key] = keys {
            let pinned = with_prefix(space, key, |full| self.db.get_pinned(full))?;
            return Ok(match pinned {
                Some(value) if value.len() > bytes_max => {
                    Found::Lengths(vec![Some(value.len() as u64)])
                }
                pinned => Found::All(vec![pinned.map(|value| Bytes::copy_from_slice(&value))]),
            });
        }
        let snapshot = self.db.snapshot();
        let pin = |key: &Bytes| with_prefix(space, key, |full| snapshot.get_pinned(full));
        let mut values: Vec<Option<Bytes>> = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for key in keys {
            let pinned = pin(key)?;
            bytes += pinned.as_ref().map_or(0, |value| value.len());
            if bytes > bytes_max {
                break;
            }
            values.push(pinned.map(|value| Bytes::copy_from_slice(&value)));
        }
        if values.len() == keys.len() {
            return Ok(Found::All(values));
        }
        let known = values.len();
        let mut lengths: Vec<Option<u64>> = values.into_iter().map(length_of).collect();
        for key in &keys[known..] {
            lengths.push(pin(key)?.map(|value| value.len() as u64));
        }
        Ok(Found::Lengths(lengths))
    }

    /// Passes the pairs of `space` in `[start, end)` to `visit`, in order, until it returns false.
    pub(crate) fn scan(
        &self,
        space: SpaceId,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), rocksdb::Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end_of(space, end));
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(prefixed(space, start));
        while let Some((key, value)) = iterator.item() {
            if !visit(&key[SPACE_BYTES..], value) {
                return Ok(());
            }
            iterator.next();
        }
        iterator.status()
    }

    /// Applies a batch to the memtables. It is durable when the log is, or after a flush.
    pub(crate) fn write(&self, batch: &WriteBatch) -> Result<(), rocksdb::Error> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options)
    }

    /// Writes the memtables to table files, so that the next start has nothing to apply again.
    pub(crate) fn flush(&self) -> Result<(), rocksdb::Error> {
        self.db.flush()
    }

    pub(crate) fn statistics(&self) -> DataStatistics {
        let number = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        DataStatistics {
            memtable_bytes: number("rocksdb.cur-size-all-mem-tables"),
            table_bytes: number("rocksdb.total-sst-files-size"),
            keys_estimate: number("rocksdb.estimate-num-keys"),
        }
    }
}

/// Key of the identity: no replica's space, and no applied record's key.
fn identity_key() -> [u8; SPACE_BYTES + 1] {
    let mut key = [1; SPACE_BYTES + 1];
    key[..SPACE_BYTES].copy_from_slice(&RECORD_SPACE.0.to_be_bytes());
    key
}

/// Key of a shard's applied record.
pub(crate) fn record_key(shard: ShardId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..SPACE_BYTES].copy_from_slice(&RECORD_SPACE.0.to_be_bytes());
    key[SPACE_BYTES..].copy_from_slice(&shard.0.to_be_bytes());
    key
}

/// The store's key for `key` of `space`.
pub(crate) fn prefixed(space: SpaceId, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(SPACE_BYTES + key.len());
    full.extend_from_slice(&space.0.to_be_bytes());
    full.extend_from_slice(key);
    full
}

/// The store's key for `end` of `space`; without one, the end of the space.
pub(crate) fn end_of(space: SpaceId, end: Option<&[u8]>) -> Vec<u8> {
    match end {
        Some(end) => prefixed(space, end),
        None => (space.0 + 1).to_be_bytes().to_vec(),
    }
}

/// As [`prefixed`], but without an allocation for keys of a usual length.
fn with_prefix<T>(space: SpaceId, key: &[u8], run: impl FnOnce(&[u8]) -> T) -> T {
    let mut small = [0; 128];
    if SPACE_BYTES + key.len() > small.len() {
        return run(&prefixed(space, key));
    }
    small[..SPACE_BYTES].copy_from_slice(&space.0.to_be_bytes());
    small[SPACE_BYTES..SPACE_BYTES + key.len()].copy_from_slice(key);
    run(&small[..SPACE_BYTES + key.len()])
}
