//! The options that a store is opened with.

use std::fmt;
use std::sync::Arc;

use quorate_types::limits;

/// Memtable bytes of one family before it is flushed to a table. A run that is purged while still in
/// its memtable is never written a second time. If one shard is written to alone, its runs are
/// purged after the data store has flushed, so about half of a memtable is gone by its flush. RocksDB
/// allocates a file of the write-ahead log a tenth more than this ahead.
const MEMTABLE_BYTES: usize = limits::DATA_MEMTABLE_BYTES / 4 * 7;
/// Memtable bytes of all families together. RocksDB begins to flush at seven eighths of it, and by
/// then the data store has flushed three times.
const MEMTABLES_BYTES_MAX: usize = 224 << 20;
/// Bytes of write-ahead log before the family that holds the oldest file is flushed. Bounds what
/// a start has to replay, and the disk space of a log whose runs are purged at once.
const WAL_BYTES_MAX: u64 = 224 << 20;
/// Table files held open. Sockets need descriptors, too, and the usual limit is 1,024.
const OPEN_FILES_MAX: i32 = 512;

const _: () = {
    assert!(MEMTABLE_BYTES * 2 <= MEMTABLES_BYTES_MAX, "one busy family must not flush the rest");
    assert!(MEMTABLES_BYTES_MAX as u64 <= WAL_BYTES_MAX, "memory triggers flushes first");
    assert!(
        MEMTABLES_BYTES_MAX / 8 * 7 >= 3 * limits::DATA_MEMTABLE_BYTES,
        "most runs are purged before they reach a table"
    );
    assert!(limits::LOG_KEPT_BYTES_MAX * 2 <= MEMTABLES_BYTES_MAX as u64, "what is kept, too");
    assert!(WAL_BYTES_MAX * 2 < limits::DISK_FREE_WARN_BYTES, "the warning comes in time");
    assert!(
        (WAL_BYTES_MAX + limits::DISK_FREE_START_BYTES) * limits::DISK_FLOOR_HARD_DIVISOR
            <= limits::DISK_FLOOR_BYTES,
        "a node that its floor has stopped has room for another start"
    );
    assert!(
        MEMTABLES_BYTES_MAX + 10 * limits::DATA_MEMTABLE_BYTES <= limits::DISK_FLOOR_BYTES as usize,
        "what is in memory and begun fits below the floor"
    );
    assert!(limits::RUN_BYTES_MAX * 4 <= MEMTABLE_BYTES, "a memtable holds several runs");
};

/// Whether a write waits for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// A write returns once its bytes have reached stable storage.
    #[default]
    Sync,
    /// A write returns once the operating system has its bytes: a power cut loses promises. For
    /// tests and benches only.
    UnsafeNoSync,
}

/// A hook that runs before the storage engine gets a batch: `Some(text)` makes the batch fail with
/// that text, as a failing disk would. May block. For tests only: a real disk can't be made to fail
/// at a given batch.
#[derive(Clone)]
pub struct WriteHook(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl WriteHook {
    /// Calls `hook` before each batch.
    pub fn new(hook: impl Fn() -> Option<String> + Send + Sync + 'static) -> WriteHook {
        WriteHook(Arc::new(hook))
    }

    pub(crate) fn call(&self) -> Option<String> {
        (self.0)()
    }
}

impl fmt::Debug for WriteHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteHook")
    }
}

/// Settings of a store. None of them changes the meaning of the bytes on disk: each start may open
/// a directory with other settings.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Whether a write waits for the disk.
    pub sync: SyncMode,
    /// Shards with a dedicated family; later ones share. Placed shards stay where they are.
    pub families_dedicated_max: usize,
    /// Families that all further shards share; at least 1.
    pub families_pooled: usize,
    /// Memtable bytes of one family before it is flushed.
    pub memtable_bytes: usize,
    /// Memtable bytes of all families together.
    pub memtables_bytes_max: usize,
    /// Bytes of write-ahead log before old families are flushed.
    pub wal_bytes_max: u64,
    /// Table files held open.
    pub open_files_max: i32,
    /// Makes batches fail, in tests.
    pub write_hook: Option<WriteHook>,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            sync: SyncMode::Sync,
            families_dedicated_max: limits::FAMILIES_DEDICATED_MAX,
            families_pooled: limits::FAMILIES_POOLED,
            memtable_bytes: MEMTABLE_BYTES,
            memtables_bytes_max: MEMTABLES_BYTES_MAX,
            wal_bytes_max: WAL_BYTES_MAX,
            open_files_max: OPEN_FILES_MAX,
            write_hook: None,
        }
    }
}
