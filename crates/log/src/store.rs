//! The store of all logs of a node: one RocksDB with every shard's runs and records.

use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard, RwLock};
use rocksdb::{BoundColumnFamily, WriteBatch};
use rustc_hash::{FxHashMap, FxHashSet};

use quorate_raft::Run;
use quorate_types::{ClusterId, Incarnation, Index, NodeId, ReplicaId, ShardId, SpaceId, StoreId};

use crate::damage_mark::DamageMark;
use crate::error::{LogFault, LogOpenError, LogReadError};
use crate::families::Families;
use crate::keys::RecordKey;
use crate::latch::{Latch, PanicGuard};
use crate::open::damaged;
use crate::options::{LogOptions, SyncMode};
use crate::record::{Identity, ReplicaRecord, seal};
use crate::recovery::{RecoveredLog, Recovery};
use crate::run_index::RunIndex;
use crate::runs::Place;
use crate::settings::{self, Db};
use crate::start::{Owner, Start};
use crate::statistics::{Counters, LogStatistics, add};

/// Space ids taken from the durable counter at once. A restart skips what is left of them.
const SPACES_RESERVED: u64 = 1_024;

/// Every shard's durable log. Shared by reference between threads; see the crate's page.
pub struct LogStore {
    db: Db,
    identity: Identity,
    sync: SyncMode,
    options: LogOptions,
    latch: Arc<Latch>,
    /// Tells the next start of damaged tables.
    mark: DamageMark,
    counters: Counters,
    /// Held during every change. Changes read what earlier ones wrote, so they run one by one; the
    /// log writer thread makes nearly all of them, so it finds the lock free.
    writer: Mutex<WriterState>,
    /// Living replicas. Locked after `writer`, never before, and only for moments.
    pub(crate) shards: RwLock<FxHashMap<ShardId, Arc<Living>>>,
    /// Encoded bytes of all their stored runs.
    pub(crate) held_bytes: AtomicU64,
}

/// A replica that may be read and written.
pub(crate) struct Living {
    pub(crate) replica: ReplicaId,
    /// The name of the family that holds its runs.
    pub(crate) family: String,
    /// What is stored, the batch under way included. Changed with the writer's lock held, and
    /// locked only for moments, never while the disk works.
    pub(crate) log: Mutex<RunIndex>,
}

/// The state that changes need.
pub(crate) struct WriterState {
    /// Number of the batch that is being put together.
    pub(crate) batch: u64,
    /// Every replica that was ever here, damaged and removed ones too.
    pub(crate) records: FxHashMap<ShardId, ReplicaRecord>,
    /// Damaged replicas that have a record of it.
    pub(crate) damaged: FxHashSet<ShardId>,
    pub(crate) families: Families,
    next_space: u64,
    spaces_reserved_until: u64,
}

/// Exclusive access to [`WriterState`]. The latch's guard is dropped first, so that the latch is
/// closed before the next caller gets the lock.
pub(crate) struct Change<'a> {
    _guard: PanicGuard,
    state: MutexGuard<'a, WriterState>,
}

impl Deref for Change<'_> {
    type Target = WriterState;

    fn deref(&self) -> &WriterState {
        &self.state
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut WriterState {
        &mut self.state
    }
}

impl LogStore {
    /// Opens the log in `dir`, and makes it if `dir` is missing or empty; `fresh_store` is then
    /// its random identity. Blocks: replays the write-ahead log, syncs what it replayed (RULE 8),
    /// reads and verifies every run, and raises the incarnation durably before it returns. Families with
    /// damaged tables are replaced first.
    ///
    /// # Errors
    /// [`LogOpenError`]. Damage to a single replica is not an error of the directory: it is
    /// reported in [`RecoveredReplica::damaged`](crate::RecoveredReplica::damaged).
    pub fn open(
        dir: &Path,
        cluster: ClusterId,
        node: NodeId,
        fresh_store: StoreId,
        options: LogOptions,
    ) -> Result<(LogStore, Recovery), LogOpenError> {
        let Start { mut opened, latch, store, recovered } =
            Start::begin(dir, &Owner { cluster, node, fresh_store }, &options)?;
        let (incarnation, spaces) = match (opened.records.incarnation, opened.records.spaces) {
            (Some(incarnation), Some(spaces)) => (Incarnation(incarnation + 1), spaces),
            _ => return Err(damaged(dir, "the record of the incarnation or of spaces is missing")),
        };
        let identity = Identity { cluster, node, store, incarnation };
        let held_bytes = recovered.iter().filter_map(|it| Some(it.log.as_ref()?.bytes())).sum();
        let mut shards = FxHashMap::default();
        let mut replicas = Vec::with_capacity(recovered.len());
        for RecoveredLog { replica, log, .. } in recovered {
            if let Some(log) = log {
                let family = opened.families.of(replica.shard).expect("recovered from its family");
                shards.insert(replica.shard, Living::new(replica.replica, family.name(), log));
            }
            replicas.push(replica);
        }
        let recovery = Recovery {
            identity: identity.clone(),
            replicas,
            peers: std::mem::take(&mut opened.records.peers),
            founded: opened.records.founded,
            map: opened.records.map.take(),
            first_map: opened.records.first_map,
            has_data_store: opened.records.has_data_store,
            ended: opened.records.ended.take(),
        };
        let log = LogStore {
            identity,
            sync: options.sync,
            options,
            mark: DamageMark::of(dir),
            latch,
            counters: Counters::new(),
            shards: RwLock::new(shards),
            held_bytes: AtomicU64::new(held_bytes),
            writer: Mutex::new(WriterState {
                batch: 0,
                records: opened.records.replicas.into_iter().collect(),
                damaged: opened.records.damaged.into_keys().collect(),
                families: opened.families,
                next_space: spaces,
                spaces_reserved_until: spaces,
            }),
            db: opened.db,
        };
        let mut batch = WriteBatch::default();
        log.stage_record(&mut batch, RecordKey::Incarnation, &incarnation.0.to_le_bytes());
        log.commit(&batch)?;
        Ok((log, recovery))
    }

    /// Reads contiguous, verified runs of `shard` from the start of `range`, cut to `range` at both
    /// ends; at least one. Reading stops at the end of `range`, at the end of the log, or after the
    /// run that passes `bytes_max`. Blocks for the disk if the runs are not in memory.
    ///
    /// # Errors
    /// [`LogReadError::Absent`] if the first entry is not there; damage as [`LogReadError::Damaged`], anything else as [`LogReadError::Failed`].
    ///
    /// # Panics
    /// If `range` is empty.
    pub fn read(
        &self,
        shard: ShardId,
        range: Range<Index>,
        bytes_max: usize,
    ) -> Result<Vec<Run>, LogReadError> {
        assert!(range.start < range.end, "nothing to read in {range:?}");
        let index = range.start;
        let living = self.living(shard).ok_or(LogReadError::Unknown { shard })?;
        // A look for a purged entry would pass over the remains of purges.
        if !living.log.lock().holds(index) {
            return Err(LogReadError::Absent { shard, index });
        }
        let place = Place { db: &self.db, family: self.family(&living.family), shard };
        match place.read(range, bytes_max) {
            Ok(runs) if runs.is_empty() => Err(LogReadError::Absent { shard, index }),
            Ok(runs) => Ok(runs),
            Err(fault) => {
                let detail = fault.to_string();
                if fault.is_of_table() {
                    self.mark.note(&detail);
                }
                Err(match fault.is_damage() {
                    true => LogReadError::Damaged { shard, detail },
                    false => LogReadError::Failed { shard, detail },
                })
            }
        }
    }

    /// Returns a space id that this directory gives out only once (RULE 12). Durable; one sync per
    /// 1,024 ids.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn next_space(&self) -> Result<SpaceId, LogFault> {
        let mut writer = self.begin()?;
        if writer.next_space == writer.spaces_reserved_until {
            let until = writer.next_space + SPACES_RESERVED;
            let mut batch = WriteBatch::default();
            self.stage_record(&mut batch, RecordKey::Spaces, &until.to_le_bytes());
            self.commit(&batch)?;
            writer.spaces_reserved_until = until;
        }
        let space = SpaceId(writer.next_space);
        writer.next_space += 1;
        Ok(space)
    }

    /// The identity of this directory.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The first fault, if there was one; the store then refuses every change.
    #[must_use]
    pub fn fault(&self) -> Option<LogFault> {
        self.latch.fault().cloned()
    }

    /// Calls `listener` once with the first fault, on the thread that met it, or now if there was
    /// one already. It must not block: it may run on a thread of the storage engine.
    pub fn listen_fault(&self, listener: impl FnOnce(&LogFault) + Send + 'static) {
        self.latch.first().listen(listener);
    }

    /// The counters as they are now.
    #[must_use]
    pub fn statistics(&self) -> LogStatistics {
        self.counters.snapshot()
    }

    /// Closes the store. Every write is durable already, so dropping the store is as safe.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn close(self) -> Result<(), LogFault> {
        self.latch.check()?;
        match self.sync {
            SyncMode::Sync => self.db.flush_wal(true).map_err(|error| self.failed(&error)),
            SyncMode::UnsafeNoSync => Ok(()),
        }
    }

    /// Exclusive access to change the log, unless it has failed. A holder that panics latches the
    /// store.
    pub(crate) fn begin(&self) -> Result<Change<'_>, LogFault> {
        let change = Change { state: self.writer.lock(), _guard: self.latch.guard() };
        self.latch.check()?;
        Ok(change)
    }

    pub(crate) fn latch(&self) -> &Arc<Latch> {
        &self.latch
    }

    pub(crate) fn mark(&self) -> &DamageMark {
        &self.mark
    }

    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The handle of a family that is known to exist.
    pub(crate) fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.db.cf_handle(name).expect("families of placed shards exist")
    }

    pub(crate) fn living(&self, shard: ShardId) -> Option<Arc<Living>> {
        self.shards.read().get(&shard).cloned()
    }

    /// Counts that one log had `before` bytes, and has `after`.
    pub(crate) fn count_held(&self, before: u64, after: u64) {
        self.held_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(crate) fn stage_record(&self, batch: &mut WriteBatch, key: RecordKey, body: &[u8]) {
        batch.put(key.bytes(), seal(key, body));
    }

    /// Writes `batch` and waits for the disk. Every write goes through here: each batch is synced
    /// before the next one is written, and the repair of a torn tail relies on that (RULE 9).
    pub(crate) fn commit(&self, batch: &WriteBatch) -> Result<(), LogFault> {
        self.latch.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(detail) = self.options.write_hook.as_ref().and_then(|hook| hook.call()) {
            let dir = self.latch.dir().to_owned();
            return Err(self.latch.close(LogFault::Write { dir, detail }));
        }
        let start = Instant::now();
        self.db
            .write_opt(batch, &settings::write(self.sync))
            .map_err(|error| self.failed(&error))?;
        // A flush that failed meanwhile leaves this batch safe, but the next would be refused:
        // the caller learns it now.
        self.latch.check()?;
        if self.sync == SyncMode::Sync {
            self.counters.count_sync(start.elapsed());
        }
        add(&self.counters.batches, 1);
        add(&self.counters.batch_bytes, batch.size_in_bytes() as u64);
        Ok(())
    }

    pub(crate) fn failed(&self, error: &rocksdb::Error) -> LogFault {
        let dir = self.latch.dir().to_owned();
        self.latch.close(LogFault::Write { dir, detail: error.to_string() })
    }
}

impl Living {
    pub(crate) fn new(replica: ReplicaId, family: String, log: RunIndex) -> Arc<Living> {
        Arc::new(Living { replica, family, log: Mutex::new(log) })
    }
}

impl WriterState {
    /// The record of a living replica.
    pub(crate) fn record_of(&mut self, shard: ShardId) -> &mut ReplicaRecord {
        self.records.get_mut(&shard).expect("a living replica has a record")
    }
}
