//! Turns the changes of workers' turns into batches: purges, writes with their installs and
//! truncations, and the ends of replicas.

use std::sync::Arc;

use rocksdb::{BoundColumnFamily, WriteBatch};

use quorate_raft::{Install, Run, Write};
use quorate_types::{ReplicaId, ShardId, SpaceId};

use crate::error::LogFault;
use crate::keys::{RecordKey, run_key};
use crate::record::{ReplicaRecord, encode_damage, encode_hard_state};
use crate::run_index::{RunIndex, StoredRun, bytes_of};
use crate::runs::Place;
use crate::statistics::add;
use crate::store::{Living, LogStore, WriterState};
use crate::turn::{EndReason, ReplicaEnd, ShardPurge, ShardWrite, TurnWrite};

impl LogStore {
    /// Makes all `turns` durable with one sync, in their order. Blocks until the disk has them.
    /// Meant for one thread; others wait until it is done.
    ///
    /// All `turns` are one batch, unless one truncates within a run that an earlier part of the
    /// same batch stores: what stays of it must be readable first, so everything before the part
    /// that truncates is then written as a batch, with a sync. A crash between the two leaves a
    /// head of the stream: whole purges, whole [`ShardWrite`]s, whole ends.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store, from these turns or earlier ones (RULE 8): their
    /// outcome is unknown until a restart.
    ///
    /// # Panics
    /// If a living replica's kernel or host is broken: a purge goes beyond the log's end, an
    /// install does not raise the base or has no space, a truncation reaches the base, or runs leave
    /// a hole or overlap.
    pub fn write(&self, turns: &[TurnWrite]) -> Result<(), LogFault> {
        let mut writer = self.begin()?;
        writer.batch += 1;
        let bytes = turns.iter().map(TurnWrite::batch_bytes).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        for turn in turns {
            for purge in &turn.purges {
                self.stage_purge(&mut writer, &mut batch, purge);
            }
            for item in &turn.writes {
                self.stage_write(&mut writer, &mut batch, item)?;
            }
            for end in &turn.ends {
                self.stage_end(&mut writer, &mut batch, end);
            }
        }
        self.commit(&batch)
    }

    fn stage_purge(&self, writer: &mut WriterState, batch: &mut WriteBatch, purge: &ShardPurge) {
        let ShardPurge { shard, replica, base, base_membership } = purge;
        let Some(living) = self.living_replica(*shard, *replica) else {
            return self.skip(*shard, *replica, "purge");
        };
        let mut log = living.log.lock();
        if base.index <= log.base() {
            return;
        }
        let last = log.last();
        assert!(base.index <= last, "{shard:?} purges to {base:?}, but its log ends at {last:?}");
        let record = writer.record_of(*shard);
        *record = ReplicaRecord {
            base: *base,
            base_membership: base_membership.clone(),
            ..record.clone()
        };
        self.stage_record(batch, RecordKey::Replica(*shard), &record.encode());
        let family = self.family(&living.family);
        self.change(&mut log, |log| {
            log.raise_base(base.index, |run| self.stage_drop(batch, &family, *shard, run));
        });
        add(&self.counters().purges, 1);
    }

    /// Adds one replica's write to `batch`, its parts in the order that [`Write`] gives.
    fn stage_write(
        &self,
        writer: &mut WriterState,
        batch: &mut WriteBatch,
        item: &ShardWrite,
    ) -> Result<(), LogFault> {
        let ShardWrite { shard, replica, write, space } = item;
        let shard = *shard;
        let Some(living) = self.living_replica(shard, *replica) else {
            self.skip(shard, *replica, "write");
            return Ok(());
        };
        // First, because it may have to write what is in the batch: this write must not be split.
        let head = self.truncated_head(writer, batch, shard, &living, write)?;
        let family = self.family(&living.family);
        let mut log = living.log.lock();
        match (&write.install, space) {
            (Some(install), Some(space)) => {
                let record = writer.record_of(shard);
                *record = installed(record, install, *space);
                self.stage_record(batch, RecordKey::Replica(shard), &record.encode());
                self.stage_install(batch, &family, shard, &mut log, install);
            }
            (None, None) => {}
            _ => panic!("{shard:?} has a space without an install, or the reverse: {write:?}"),
        }
        if let Some(state) = &write.hard_state {
            self.stage_record(batch, RecordKey::HardState(shard), &encode_hard_state(state));
        }
        if let Some(from) = write.truncate_from {
            let base = log.base();
            assert!(from > base, "{shard:?} truncates from {from:?}, its base is {base:?}");
            if let Some(head) = &head {
                batch.put_cf(&family, run_key(shard, head.first()), head.bytes());
            }
            let head_bytes = head.as_ref().map(bytes_of);
            self.change(&mut log, |log| {
                log.truncate(writer.batch, from, head_bytes, |run| {
                    batch.delete_cf(&family, run_key(shard, run.first));
                });
            });
        }
        for run in &write.runs {
            let expected = log.last().next();
            assert_eq!(run.first(), expected, "{shard:?} appends {run:?}: hole or overlap");
            batch.put_cf(&family, run_key(shard, run.first()), run.bytes());
            self.change(&mut log, |log| {
                log.append(writer.batch, StoredRun::of(run), run.last());
            });
            add(&self.counters().entries, run.count());
            add(&self.counters().run_bytes, run.len_bytes() as u64);
        }
        add(&self.counters().runs, write.runs.len() as u64);
        add(&self.counters().writes, 1);
        Ok(())
    }

    /// What the truncation of `write` leaves of the run that it cuts, read back from disk: its
    /// encoding is not kept in memory. If the run is still in `batch`, the batch is written first.
    fn truncated_head(
        &self,
        writer: &mut WriterState,
        batch: &mut WriteBatch,
        shard: ShardId,
        living: &Living,
        write: &Write,
    ) -> Result<Option<Run>, LogFault> {
        let Some(from) = write.truncate_from else { return Ok(None) };
        let (base, spanning) = {
            let log = living.log.lock();
            let base = match &write.install {
                Some(install) if !install.keeps_log => return Ok(None),
                Some(install) => install.base.index,
                None => log.base(),
            };
            (base, log.spanning(from).map(|run| (run.first, log.is_in(writer.batch, run.first))))
        };
        // A head that would end at or below the base is deleted with the rest of its run: no part
        // of it is still in the log.
        let Some((first, is_in_batch)) = spanning.filter(|_| from > base.next()) else {
            return Ok(None);
        };
        if is_in_batch {
            self.commit(batch)?;
            batch.clear();
            writer.batch += 1;
        }
        let place = Place { db: self.db(), family: self.family(&living.family), shard };
        let run = place.run_at(first, from).map_err(|fault| {
            let (dir, detail) = (self.latch().dir().to_owned(), fault.to_string());
            if fault.is_of_table() {
                self.mark().note(&detail);
            }
            self.latch().close(LogFault::Unreadable { dir, shard, detail })
        })?;
        Ok(Some(run.cut(first, from)))
    }

    /// Adds the runs that `install` drops (RULE 13): all of them, or, if the log holds the new base,
    /// only those that lie entirely at or below it. That log may hold the base only in the runs of
    /// the same write, and end below it until then.
    fn stage_install(
        &self,
        batch: &mut WriteBatch,
        family: &Arc<BoundColumnFamily<'_>>,
        shard: ShardId,
        log: &mut RunIndex,
        install: &Install,
    ) {
        let (before, base) = (log.base(), install.base.index);
        assert!(base > before, "{shard:?} installs {base:?}, its base is {before:?}");
        self.change(log, |log| {
            let drop_run = |run| self.stage_drop(batch, family, shard, run);
            match install.keeps_log {
                true => log.raise_base(base, drop_run),
                false => log.reset(base, drop_run),
            }
        });
        add(&self.counters().installs, 1);
    }

    /// Adds the deletion of a run below a new base. One by one: every reader of the family would
    /// have to check a range. Never a single deletion, which is undefined for a key that was put
    /// twice, as a run that was cut.
    fn stage_drop(
        &self,
        batch: &mut WriteBatch,
        family: &Arc<BoundColumnFamily<'_>>,
        shard: ShardId,
        run: StoredRun,
    ) {
        batch.delete_cf(family, run_key(shard, run.first));
        add(&self.counters().purged_runs, 1);
        add(&self.counters().purged_bytes, u64::from(run.bytes));
    }

    /// Ends a replica that is living or damaged.
    fn stage_end(&self, writer: &mut WriterState, batch: &mut WriteBatch, end: &ReplicaEnd) {
        let ReplicaEnd { shard, replica, why } = end;
        let shard = *shard;
        let record = writer.records.get_mut(&shard);
        let Some(record) = record.filter(|known| known.replica == *replica && !known.tombstone)
        else {
            return self.skip(shard, *replica, "end");
        };
        match why {
            EndReason::Removed => {
                record.tombstone = true;
                self.stage_record(batch, RecordKey::Replica(shard), &record.encode());
                batch.delete(RecordKey::HardState(shard).bytes());
                match self.retire(shard) {
                    Some(living) => {
                        let family = self.family(&living.family);
                        for run in living.log.lock().runs() {
                            batch.delete_cf(&family, run_key(shard, run.first));
                        }
                    }
                    None => self.stage_clear_damaged(writer, batch, shard),
                }
            }
            EndReason::Damaged(_) if writer.damaged.contains(&shard) => {}
            EndReason::Damaged(what) => {
                self.retire(shard);
                let body = encode_damage(*replica, what);
                self.stage_record(batch, RecordKey::Damaged(shard), &body);
                writer.damaged.insert(shard);
            }
        }
    }

    /// Adds the removal of everything that a damaged replica has left behind, except its record.
    pub(crate) fn stage_clear_damaged(
        &self,
        writer: &mut WriterState,
        batch: &mut WriteBatch,
        shard: ShardId,
    ) {
        batch.delete(RecordKey::Damaged(shard).bytes());
        writer.damaged.remove(&shard);
        // Its runs are not in memory, and may be unreadable: one deletion for all of them.
        if let Some(family) = writer.families.of(shard) {
            Place { db: self.db(), family: self.family(&family.name()), shard }.clear(batch);
        }
    }

    /// Takes a replica out of the living ones.
    fn retire(&self, shard: ShardId) -> Option<Arc<Living>> {
        let living = self.shards.write().remove(&shard)?;
        self.count_held(living.log.lock().bytes(), 0);
        Some(living)
    }

    /// Changes what is stored of one log, and so the sum of all logs.
    fn change(&self, log: &mut RunIndex, change: impl FnOnce(&mut RunIndex)) {
        let before = log.bytes();
        change(log);
        self.count_held(before, log.bytes());
    }

    /// The living replica of `shard`, if it is `replica`.
    fn living_replica(&self, shard: ShardId, replica: ReplicaId) -> Option<Arc<Living>> {
        self.living(shard).filter(|living| living.replica == replica)
    }

    fn skip(&self, shard: ShardId, replica: ReplicaId, part: &str) {
        tracing::debug!(%shard, %replica, part, "skipped: the replica is not the living one");
        add(&self.counters().skipped_parts, 1);
    }
}

fn installed(record: &ReplicaRecord, install: &Install, space: SpaceId) -> ReplicaRecord {
    let Install { base, membership, .. } = install;
    ReplicaRecord { space, base: *base, base_membership: membership.clone(), ..record.clone() }
}
