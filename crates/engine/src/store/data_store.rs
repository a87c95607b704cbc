//! The data store: every local shard's keys and applied record in one RocksDB without WAL.
//!
//! The log is the WAL. A crash loses memtables; their entries are applied again from the log, from
//! the applied record on, which is lost or kept together with them (RULE 10).
//!
//! Every replica has a space of its own, with its keys and its applied record (layout.rs). There is
//! one column family: a flush makes the records durable exactly as far as the data beside them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_log::{DamageMark, FirstFault};
use quorate_machine::{AppliedRecord, AppliedRecordError};
use quorate_types::{LogId, SpaceId, limits};
use rocksdb::event_listener::{
    DBBackgroundErrorReason, EventListener, FlushJobInfo, MutableStatus,
};
use rocksdb::{
    DB, DBCompressionType, Options, Range, ReadOptions, ReadTier, SizeApproximationOptions,
    WriteBatch, WriteOptions,
};

use crate::store::identity::{IdentityError, StoreIdentity};
use crate::store::layout::{
    PREFIX_BYTES, STORE_SPACE, end_of, identity_key, record_key, space_of, user_key, whole,
    with_user_key,
};

/// An error of the data store.
pub(crate) use rocksdb::Error as DataError;

/// Where table files of snapshots are written until they are complete, within the store's directory:
/// moving them from there into the store copies nothing.
const INCOMING: &str = "incoming";

/// Bytes of tables that one merge below the first level takes in: what the floor of the disk is derived
/// from. RocksDB's own bound is three times as high.
const MERGE_BYTES_MAX: u64 = 512 << 20;

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

/// Whether an error says that stored bytes are not what was written, rather than that the disk or
/// the system fails.
pub(crate) fn is_damage(error: &DataError) -> bool {
    matches!(error.kind(), rocksdb::ErrorKind::Corruption)
}

/// The RocksDB that holds all local shards' keys and applied records.
pub(crate) struct DataStore {
    db: DB,
    background: Arc<FirstFault<String>>,
    flushes: Arc<AtomicU64>,
    options: Options,
    directory: PathBuf,
    incoming: PathBuf,
    /// Tells the next start of damaged tables.
    mark: DamageMark,
}

/// Learns of a flush or compaction that failed: without a write-ahead log RocksDB continues to take
/// writes after some of these failures, until its memtables are full. Of damage it leaves a note
/// first: the damaged table stays among RocksDB's files.
struct BackgroundErrors {
    first: Arc<FirstFault<String>>,
    mark: DamageMark,
}

/// Counts the flushes that have ended.
struct Flushes(Arc<AtomicU64>);

impl EventListener for Flushes {
    fn on_flush_completed(&self, _: &FlushJobInfo) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl EventListener for BackgroundErrors {
    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        let Err(error) = status.result() else { return };
        if !is_damage(error) {
            self.first.close(|| format!("background work failed ({reason:?}): {error}"));
            return;
        }
        self.mark.note(&format!("{reason:?}: {error}"));
        self.first.close(|| {
            format!(
                "a table is damaged ({reason:?}: {error}): start the node again, which writes what can \
                 be read into new tables, and gives up the replicas of which something can't be read"
            )
        });
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
        options.set_write_buffer_size(limits::DATA_MEMTABLE_BYTES);
        // Until the node has looked at the room on its disk: a merge that begins with the opening would
        // fill a disk that is nearly full, and so would each further start.
        options.set_disable_auto_compactions(true);
        options.set_max_compaction_bytes(MERGE_BYTES_MAX);
        options.set_max_write_buffer_number(4);
        options.set_max_background_jobs(2);
        // Each table that waits to be merged may be overwritten already. At RocksDB's four, a small
        // set of keys that is overwritten takes five times its size.
        options.set_level_zero_file_num_compaction_trigger(3);
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
        let (first, mark) = (Arc::clone(&background), DamageMark::of(directory));
        options.add_event_listener(BackgroundErrors { first, mark });
        let flushes = Arc::new(AtomicU64::new(0));
        options.add_event_listener(Flushes(Arc::clone(&flushes)));
        let db = DB::open(&options, directory)?;
        let (directory, incoming) = (directory.to_owned(), directory.join(INCOMING));
        let mark = DamageMark::of(&directory);
        Ok(DataStore { db, background, flushes, options, directory, incoming, mark })
    }

    /// Whether `error`, of a read, says that stored bytes are not what was written. If so, the next
    /// start is told to write the store anew: the damaged table would end every merge that takes it in.
    pub(crate) fn note_damage(&self, error: &DataError) -> bool {
        let is_damage = is_damage(error);
        if is_damage {
            self.mark.note(error.as_ref());
        }
        is_damage
    }

    /// What was noted of damaged tables, by this start or earlier ones; `None` if there is none.
    pub(crate) fn noted_damage(&self) -> std::io::Result<Option<String>> {
        self.mark.read()
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

    /// The applied record of a space, if it has one.
    pub(crate) fn record(
        &self,
        space: SpaceId,
    ) -> Result<Option<Result<AppliedRecord, AppliedRecordError>>, rocksdb::Error> {
        let bytes = self.db.get(record_key(space))?;
        Ok(bytes.map(|bytes| AppliedRecord::decode(&bytes)))
    }

    /// The last entry of a space that a power cut can't take away any more (RULE 10): its record as
    /// it stands in table files. `None` if it has no record there.
    pub(crate) fn persisted(&self, space: SpaceId) -> Result<Option<LogId>, rocksdb::Error> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let bytes = self.db.get_opt(record_key(space), &options)?;
        // One that can't be read is found by whoever needs what it says.
        Ok(bytes.and_then(|bytes| AppliedRecord::decode(&bytes).ok()).map(|record| record.applied))
    }

    /// How many flushes of memtables have ended. What is [`persisted`](DataStore::persisted) changes
    /// only with them.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// The spaces of replicas that hold anything, ascending.
    pub(crate) fn spaces(&self) -> Result<Vec<SpaceId>, rocksdb::Error> {
        let mut spaces = Vec::new();
        let mut iterator = self.db.raw_iterator();
        iterator.seek(whole(STORE_SPACE).end);
        while let Some(space) = iterator.key().and_then(space_of) {
            spaces.push(space);
            iterator.seek(whole(space).end);
        }
        iterator.status().map(|()| spaces)
    }

    /// Deletes everything of a space; views that were taken before still see it. Not durable by
    /// itself: a start deletes again what no replica owns, and no space is given out twice (RULE
    /// 12).
    pub(crate) fn delete_space(&self, space: SpaceId) -> Result<(), rocksdb::Error> {
        let range = whole(space);
        let mut batch = WriteBatch::default();
        batch.delete_range(range.start, range.end);
        self.write(&batch)
    }

    /// As [`DataStore::delete_space`], of a space that nothing reads: whole files go at once, damaged
    /// ones too, which no view would survive.
    pub(crate) fn delete_unread_space(&self, space: SpaceId) -> Result<(), rocksdb::Error> {
        // RocksDB includes the end: it must be a key of this space.
        let last = user_key(space, &[0xff; 16]);
        self.db.delete_file_in_range(&record_key(space)[..], &last[..])?;
        self.delete_space(space)
    }

    /// Makes the records of new replicas durable. Blocks for a flush.
    pub(crate) fn put_records(
        &self,
        records: &[(SpaceId, AppliedRecord)],
    ) -> Result<(), rocksdb::Error> {
        let mut batch = WriteBatch::default();
        for (space, record) in records {
            batch.put(record_key(*space), record.encode());
        }
        self.write(&batch)?;
        self.flush()
    }

    pub(crate) fn get(&self, space: SpaceId, key: &[u8]) -> Result<Option<Bytes>, rocksdb::Error> {
        with_user_key(space, key, |full| self.db.get(full)).map(|value| value.map(Bytes::from))
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
            let pinned = with_user_key(space, key, |full| self.db.get_pinned(full))?;
            return Ok(match pinned {
                Some(value) if value.len() > bytes_max => {
                    Found::Lengths(vec![Some(value.len() as u64)])
                }
                pinned => Found::All(vec![pinned.map(|value| Bytes::copy_from_slice(&value))]),
            });
        }
        let snapshot = self.db.snapshot();
        let pin = |key: &Bytes| with_user_key(space, key, |full| snapshot.get_pinned(full));
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
        iterator.seek(user_key(space, start));
        while let Some((key, value)) = iterator.item() {
            if !visit(&key[PREFIX_BYTES..], value) {
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

    /// Whether RocksDB may begin to merge tables by itself. A merge writes its result before it deletes
    /// its input, so on a disk without room none is begun; one that runs goes on. A store that was just
    /// opened merges nothing.
    pub(crate) fn let_merge(&self, may_merge: bool) {
        let value = if may_merge { "false" } else { "true" };
        if let Err(error) = self.db.set_options(&[("disable_auto_compactions", value)]) {
            // Then tables are merged as they would be without this.
            tracing::warn!(%error, may_merge, "merging tables can't be switched");
        }
    }

    /// Writes the memtables to table files, so that the next start has nothing to apply again.
    pub(crate) fn flush(&self) -> Result<(), rocksdb::Error> {
        self.db.flush()
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    /// Reads every table, and checks every block of it.
    #[cfg(test)]
    pub(crate) fn verify_tables(&self) -> Result<(), DataError> {
        self.db.verify_checksum()
    }

    /// Reads and writes every table, also those that RocksDB would move as they are.
    #[cfg(test)]
    pub(crate) fn merge_all_tables(&self) {
        let mut every = rocksdb::CompactOptions::default();
        every.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &every);
    }

    /// How the tables of this store are written.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The store's own directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where snapshots are written that arrive.
    pub(crate) fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// Deletes the files of snapshots that never became complete.
    pub(crate) fn delete_incoming(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.incoming) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// About how many bytes of table files and memtables `space` has.
    pub(crate) fn space_bytes(&self, space: SpaceId) -> u64 {
        let range = whole(space);
        let mut options = SizeApproximationOptions::default();
        options.set_include_memtables(true);
        let ranges = [Range::new(&range.start, &range.end)];
        let sizes = self.db.get_approximate_sizes_with_options(&options, &ranges);
        // A figure for people only.
        sizes.map_or(0, |sizes| sizes.first().copied().unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Goal: no tables are merged while that is switched off, and they are once it is on again. Method:
    /// twice as many tables of the same keys as RocksDB leaves alone.
    #[test]
    fn merges_can_be_put_off() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = DataStore::open(directory.path(), true).expect("a new store");
        let tables = || {
            let told = store.db.property_value("rocksdb.num-files-at-level0").expect("a property");
            told.expect("a figure").parse::<u64>().expect("a number")
        };
        store.let_merge(false);
        for round in 0..8_u8 {
            let mut batch = WriteBatch::default();
            batch.put(b"key", [round]);
            store.write(&batch).expect("written");
            store.flush().expect("flushed");
        }
        assert_eq!(tables(), 8);
        store.let_merge(true);
        let end = Instant::now() + Duration::from_secs(60);
        while tables() == 8 {
            assert!(Instant::now() < end, "nothing is merged");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
