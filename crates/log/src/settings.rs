//! How RocksDB is set up, and why.

use std::path::Path;
use std::sync::Arc;

use rocksdb::event_listener::{DBBackgroundErrorReason, EventListener, MutableStatus};
use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DBWithThreadMode, ErrorKind,
    MultiThreaded, Options, WriteBufferManager, WriteOptions,
};

use crate::damage_mark::DamageMark;
use crate::error::{Holder, LogFault};
use crate::latch::Latch;
use crate::options::{LogOptions, SyncMode};

/// Families are created while readers run, so their table is behind RocksDB's own lock.
pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// Idle families hold one arena block each; runs larger than a quarter of it get their own.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// Reads are whole runs in sequence, so small blocks would only cost index entries.
const TABLE_BLOCK_BYTES: usize = 64 << 10;
/// Reads from tables are rare (the entry cache and the memtables answer first) and don't repeat.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// How many of RocksDB's text log files are kept.
const INFO_LOGS_MAX: usize = 4;
const INFO_LOG_BYTES_MAX: usize = 4 << 20;

/// Settings of the whole database. Creates nothing: the caller decides that.
pub(crate) fn database(options: &LogOptions, latch: Arc<Latch>) -> Options {
    let mut settings = Options::default();
    // RULE 9: only a torn tail may be dropped. The default mode stops silently at any damage.
    settings.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // A closed file of the write-ahead log that lost its tail is damage, not a torn tail. A
    // recycled file holds old records beyond its end, which no recovery can tell from damage.
    settings.set_track_and_verify_wals_in_manifest(true);
    settings.set_recycle_log_file_num(0);
    // RULE 8: bytes of a failed sync may be in the page cache only. A start writes all that it
    // replayed into tables, which are synced, before the open returns and any replica votes.
    settings.set_avoid_flush_during_recovery(false);
    // RULE 8: RocksDB would retry after some errors and continue; here the first error is final.
    settings.set_max_bgerror_resume_count(0);
    settings.add_event_listener(BackgroundErrors { mark: DamageMark::of(latch.dir()), latch });
    settings.set_paranoid_checks(true);

    settings.set_max_total_wal_size(options.wal_bytes_max);
    let memory = WriteBufferManager::new_write_buffer_manager(options.memtables_bytes_max, false);
    settings.set_write_buffer_manager(&memory);
    settings.set_max_open_files(options.open_files_max);
    settings.set_max_background_jobs(2);
    // All batches come from one thread at a time: overlapping writers would cost a wake-up for each
    // and per-core arenas, and gain nothing. `unordered_write` stays off: a reader could see half a
    // batch.
    settings.set_allow_concurrent_memtable_write(false);
    settings.set_enable_pipelined_write(false);
    settings.set_unordered_write(false);

    settings.set_stats_dump_period_sec(0);
    settings.set_stats_persist_period_sec(0);
    settings.set_skip_stats_update_on_db_open(true);
    settings.set_keep_log_file_num(INFO_LOGS_MAX);
    settings.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    settings
}

/// Whether RocksDB merges tables by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    On,
    /// For a start that has to get rid of damaged tables first: a merge would end it.
    Off,
}

/// What the families of one database share: settings are cloned for each, the cache is not.
pub(crate) fn family(options: &LogOptions, merging: Merging) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_size(TABLE_BLOCK_BYTES);
    tables.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));

    let mut settings = Options::default();
    settings.set_block_based_table_factory(&tables);
    settings.set_write_buffer_size(options.memtable_bytes);
    settings.set_max_write_buffer_number(4);
    settings.set_arena_block_size(ARENA_BLOCK_BYTES);
    // Most of a table is purged soon after it is written, and only a merge frees it. At RocksDB's four
    // tables for each busy family, a log of sixteen held twice as much in tables as in entries.
    settings.set_level_zero_file_num_compaction_trigger(2);
    settings.set_disable_auto_compactions(merging == Merging::Off);
    // A run that lives until a compaction is read once more at most; lz4 is cheap enough for both.
    settings.set_compression_type(DBCompressionType::Lz4);
    // A table is read back after it is written, before the log that covers it is dropped.
    settings.set_paranoid_file_checks(true);
    settings
}

/// How batches are written.
pub(crate) fn write(sync: SyncMode) -> WriteOptions {
    let mut settings = WriteOptions::default();
    settings.disable_wal(false);
    settings.set_sync(sync == SyncMode::Sync);
    settings
}

/// The running process that has the directory open, if RocksDB's `error` says so.
pub(crate) fn lock_holder(error: &rocksdb::Error, dir: &Path) -> Option<Holder> {
    let lock = dir.join("LOCK");
    let text = error.as_ref();
    let is_held = text.starts_with("IO error")
        && text.contains("lock")
        && text.contains(&*lock.to_string_lossy());
    is_held.then(|| match text.contains("by current process") {
        true => Holder::ThisProcess,
        false => Holder::AnotherProcess,
    })
}

/// Latches the first failure of a flush or compaction at once, not at the next write. Of damage, it
/// leaves a note first: the damaged table stays among RocksDB's files.
struct BackgroundErrors {
    latch: Arc<Latch>,
    mark: DamageMark,
}

impl EventListener for BackgroundErrors {
    fn on_background_error(&self, reason: DBBackgroundErrorReason, status: MutableStatus) {
        if let Err(error) = status.result() {
            let detail = format!("{reason:?}: {error}");
            let dir = self.latch.dir().to_owned();
            let fault = if error.kind() == ErrorKind::Corruption {
                self.mark.note(&detail);
                LogFault::DamagedTable { dir, detail }
            } else {
                LogFault::Background { dir, detail }
            };
            self.latch.close(fault);
        }
    }
}
