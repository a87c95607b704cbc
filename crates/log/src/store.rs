//! The store of all logs of a node: one RocksDB with every shard's runs and records.

use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard, RwLock};
use rocksdb::{BoundColumnFamily, WriteBatch};
use rustc_hash::{FxHashMap, FxHashSet};

use quorate_raft::{Membership, Run, Write};
use quorate_types::{ClusterId, Incarnation, Index, LogId, NodeId, ShardId, SpaceId, StoreId};

use crate::error::{LogFault, LogOpenError, LogReadError};
use crate::families::Families;
use crate::keys::{RUN_KEY_BYTES, RecordKey, run_key};
use crate::latch::{Latch, PanicGuard};
use crate::open::{self, Opened, Records, damaged};
use crate::options::{LogOptions, SyncMode};
use crate::record::{FORMAT, Identity, ReplicaRecord, encode_hard_state, encode_identity, seal};
use crate::recovery::{RecoveredReplica, Recovery, recover};
use crate::runs::{Place, RunFault};
use crate::settings::{self, Db};
use crate::statistics::{Counters, LogStatistics, add};

/// Space ids taken from the durable counter at once. A restart skips what is left of them.
const SPACES_RESERVED: u64 = 1_024;
/// Bytes that a batch needs per operation beside the key and the value, at most.
const OPERATION_BYTES: usize = 16;

/// One shard's part of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardWrite {
    /// The shard whose log is written.
    pub shard: ShardId,
    /// The write that its kernel requested.
    pub write: Write,
}

/// Every shard's durable log. Shared by reference between threads; see the crate's page.
pub struct LogStore {
    db: Db,
    identity: Identity,
    sync: SyncMode,
    options: LogOptions,
    latch: Arc<Latch>,
    counters: Counters,
    /// Held during every change. Changes read what earlier ones wrote, so they run one by one; the
    /// log writer thread makes nearly all of them, so it finds the lock free.
    writer: Mutex<WriterState>,
    /// Living replicas, with what readers need to know about them. Locked after `writer`, never
    /// before.
    pub(crate) shards: RwLock<FxHashMap<ShardId, Arc<str>>>,
}

/// The state that changes need.
pub(crate) struct WriterState {
    /// Bounds of every living replica's log.
    pub(crate) bounds: FxHashMap<ShardId, Bounds>,
    /// Every replica that was ever here, damaged and removed ones too.
    pub(crate) records: FxHashMap<ShardId, ReplicaRecord>,
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

/// Where a log begins and ends, kept to assert that it has no holes (RULE 7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) base: Index,
    pub(crate) last: Index,
}

impl LogStore {
    /// Opens the log in `dir`, and makes it if `dir` is missing or empty; `fresh_store` is then
    /// its random identity. Blocks: replays the write-ahead log, syncs what it replayed (RULE 8),
    /// reads and verifies every run, and raises the incarnation durably before it returns.
    ///
    /// # Errors
    /// [`LogOpenError`]. Damage to a single replica is not an error of the directory: it is
    /// reported in [`RecoveredReplica::damaged`].
    pub fn open(
        dir: &Path,
        cluster: ClusterId,
        node: NodeId,
        fresh_store: StoreId,
        options: LogOptions,
    ) -> Result<(LogStore, Recovery), LogOpenError> {
        let latch = Arc::new(Latch::new(dir));
        let mut opened = open::open(dir, &options, Arc::clone(&latch))?;
        let store = admit(dir, &mut opened, cluster, node, fresh_store)?;
        let (incarnation, spaces) = match (opened.records.incarnation, opened.records.spaces) {
            (Some(incarnation), Some(spaces)) => (Incarnation(incarnation + 1), spaces),
            _ => return Err(damaged(dir, "the record of the incarnation or of spaces is missing")),
        };
        let identity = Identity { cluster, node, store, incarnation };
        let replicas = recover(&opened);
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
        let shards = living(&recovery).map(|replica| {
            let family = opened.families.of(replica.shard).expect("recovered from its family");
            (replica.shard, Arc::from(family.name()))
        });
        let bounds = living(&recovery).map(|replica| {
            let restored = &replica.restored;
            (replica.shard, Bounds { base: restored.base.index, last: restored.last.index })
        });
        let log = LogStore {
            identity,
            sync: options.sync,
            options,
            latch,
            counters: Counters::new(),
            shards: RwLock::new(shards.collect()),
            writer: Mutex::new(WriterState {
                bounds: bounds.collect(),
                records: opened.records.replicas.into_iter().collect(),
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

    /// Makes all `writes` durable with one sync, in their order, and each as one unit. Blocks
    /// until the disk has them. Meant for one thread; others wait their turn.
    ///
    /// All `writes` are one batch, unless one truncates a log that an earlier one has changed: the
    /// entries to cut must be readable first, so the batch is then written in parts, each with a
    /// sync.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store, from this write or an earlier one (RULE 8): the
    /// outcome of `writes` is unknown until a restart.
    ///
    /// # Panics
    /// If the kernel is broken: a shard has no living replica here, a write installs a snapshot, a
    /// truncation reaches the base, or runs leave a hole or overlap.
    pub fn write(&self, writes: &[ShardWrite]) -> Result<(), LogFault> {
        let mut writer = self.begin()?;
        let mut batch = WriteBatch::with_capacity_bytes(batch_bytes(writes));
        let mut changed = FxHashSet::default();
        let truncates = writes.iter().any(|item| item.write.truncate_from.is_some());
        for ShardWrite { shard, write } in writes {
            if truncates && !changed.insert(*shard) && write.truncate_from.is_some() {
                self.commit(&batch)?;
                batch.clear();
                changed.clear();
                changed.insert(*shard);
            }
            self.stage(&mut writer, &mut batch, *shard, write)?;
        }
        self.commit(&batch)?;
        add(&self.counters.writes, writes.len() as u64);
        Ok(())
    }

    /// Reads contiguous, verified runs of `shard` from the start of `range`, cut to `range` at both
    /// ends; at least one. Reading stops at the end of `range`, at the end of the log, or after the
    /// run that passes `bytes_max`. Blocks for the disk if the runs are not in memory.
    ///
    /// # Errors
    /// [`LogReadError::Absent`] if the first entry is not there; damage as [`LogReadError::Damaged`].
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
        let name =
            self.shards.read().get(&shard).cloned().ok_or(LogReadError::Unknown { shard })?;
        let place = Place { db: &self.db, family: self.family(&name), shard };
        match place.read(range, bytes_max) {
            Ok(runs) if runs.is_empty() => Err(LogReadError::Absent { shard, index }),
            Ok(runs) => Ok(runs),
            Err(fault) => Err(LogReadError::Damaged { shard, detail: fault.to_string() }),
        }
    }

    /// Raises the base of `shard` to `base` and drops the runs that lie entirely below it. One
    /// sync, although nothing is acknowledged: a start can tell damage from a write that a power
    /// cut interrupted only if at most one write is unsynced (RULE 9). The caller must have made
    /// the state at `base` durable (RULE 10).
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    ///
    /// # Panics
    /// If the shard has no living replica here, or `base` is beyond the end of its log.
    pub fn purge(
        &self,
        shard: ShardId,
        base: LogId,
        base_membership: Membership,
    ) -> Result<(), LogFault> {
        let mut writer = self.begin()?;
        let bounds = writer.bounds_of(shard);
        if base.index <= bounds.base {
            return Ok(());
        }
        assert!(base.index <= bounds.last, "{shard:?} purges to {base:?} beyond {bounds:?}");
        bounds.base = base.index;
        let record = writer.records.get_mut(&shard).expect("a living replica has a record");
        *record = ReplicaRecord { base, base_membership, ..record.clone() };
        let mut batch = WriteBatch::default();
        self.stage_record(&mut batch, RecordKey::Replica(shard), &record.encode());
        self.place(shard, |place| place.purge(base, &mut batch))?;
        self.commit(&batch)
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

    /// Runs `change` on the place of a living replica; damage found there latches.
    pub(crate) fn place(
        &self,
        shard: ShardId,
        change: impl FnOnce(&Place<'_, Arc<BoundColumnFamily<'_>>>) -> Result<(), RunFault>,
    ) -> Result<(), LogFault> {
        let name = self.shards.read().get(&shard).cloned().expect("a living replica has a family");
        let place = Place { db: &self.db, family: self.family(&name), shard };
        change(&place).map_err(|fault| {
            let (dir, detail) = (self.latch.dir().to_owned(), fault.to_string());
            self.latch.close(LogFault::Unreadable { dir, shard, detail })
        })
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

    /// Adds one shard's write to `batch`, its parts in the order that [`Write`] gives.
    fn stage(
        &self,
        writer: &mut WriterState,
        batch: &mut WriteBatch,
        shard: ShardId,
        write: &Write,
    ) -> Result<(), LogFault> {
        assert!(write.install.is_none(), "{shard:?}: a snapshot goes through LogStore::install");
        let bounds = writer.bounds_of(shard);
        if let Some(state) = &write.hard_state {
            self.stage_record(batch, RecordKey::HardState(shard), &encode_hard_state(state));
        }
        if let Some(from) = write.truncate_from {
            assert!(from > bounds.base, "{shard:?} truncates from {from:?} into {bounds:?}");
            if from <= bounds.last {
                self.place(shard, |place| place.truncate(bounds.base, from, batch))?;
                bounds.last = from.previous();
            }
        }
        if write.runs.is_empty() {
            return Ok(());
        }
        let name = self.shards.read().get(&shard).cloned().expect("a living replica has a family");
        let family = self.family(&name);
        for run in &write.runs {
            let expected = bounds.last.next();
            assert_eq!(run.first(), expected, "{shard:?} appends {run:?}: hole or overlap");
            batch.put_cf(&family, run_key(shard, run.first()), run.bytes());
            bounds.last = run.last();
            add(&self.counters.entries, run.count());
            add(&self.counters.run_bytes, run.len_bytes() as u64);
        }
        add(&self.counters.runs, write.runs.len() as u64);
        Ok(())
    }
}

impl WriterState {
    fn bounds_of(&mut self, shard: ShardId) -> &mut Bounds {
        let bounds = self.bounds.get_mut(&shard);
        bounds.unwrap_or_else(|| panic!("{shard:?} has no living replica in this log"))
    }
}

/// Replicas that may be written to.
fn living(recovery: &Recovery) -> impl Iterator<Item = &RecoveredReplica> {
    recovery.replicas.iter().filter(|replica| !replica.tombstone && replica.damaged.is_none())
}

/// Bytes to reserve for `writes`, so that the batch is not moved while it grows.
fn batch_bytes(writes: &[ShardWrite]) -> usize {
    let run_bytes = |run: &Run| run.len_bytes() + RUN_KEY_BYTES + OPERATION_BYTES;
    let write_bytes = |item: &ShardWrite| {
        let state_bytes = if item.write.hard_state.is_some() { 64 } else { 0 };
        item.write.runs.iter().map(run_bytes).sum::<usize>() + state_bytes
    };
    writes.iter().map(write_bytes).sum::<usize>() + OPERATION_BYTES
}

/// Checks that the directory belongs to this node; an empty directory is claimed for it.
fn admit(
    dir: &Path,
    opened: &mut Opened,
    cluster: ClusterId,
    node: NodeId,
    fresh_store: StoreId,
) -> Result<StoreId, LogOpenError> {
    let dir = dir.to_owned();
    match opened.records.identity {
        Some((found, ..)) if found != cluster => {
            Err(LogOpenError::OtherCluster { dir, expected: cluster, found })
        }
        Some((_, found, _)) if found != node => {
            Err(LogOpenError::OtherNode { dir, expected: node, found })
        }
        Some((.., store)) => Ok(store),
        // A crash before the first write leaves a database without records, and nothing else.
        None if opened.records.format.is_none() && opened.families.is_new() => {
            opened.records = make_own(&opened.db, cluster, node, fresh_store)
                .map_err(|error| LogOpenError::Storage { dir, detail: error.to_string() })?;
            Ok(fresh_store)
        }
        None => Err(damaged(&dir, "the record of the identity is missing")),
    }
}

/// Writes a new directory's records, and flushes them: they are then in a table that the manifest
/// names, and no torn write-ahead log can make the directory look new again.
fn make_own(
    db: &Db,
    cluster: ClusterId,
    node: NodeId,
    store: StoreId,
) -> Result<Records, rocksdb::Error> {
    let mut batch = WriteBatch::default();
    let mut put = |key: RecordKey, body: &[u8]| batch.put(key.bytes(), seal(key, body));
    put(RecordKey::Format, &FORMAT.to_le_bytes());
    put(RecordKey::Identity, &encode_identity(cluster, node, store));
    put(RecordKey::Incarnation, &0u64.to_le_bytes());
    put(RecordKey::Spaces, &1u64.to_le_bytes());
    db.write_opt(&batch, &settings::write(SyncMode::Sync))?;
    db.flush()?;
    Ok(Records {
        format: Some(FORMAT),
        identity: Some((cluster, node, store)),
        incarnation: Some(0),
        spaces: Some(1),
        ..Records::default()
    })
}
