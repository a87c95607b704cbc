//! Gets rid of damaged tables: the logs that are sound move into new families, and the families that
//! have a damaged table are dropped, which reads nothing of them.
//!
//! The order makes each step repeatable after a crash:
//!
//! 1. Families that hold no shard are dropped: what an earlier try has left.
//! 2. The runs of sound replicas are written into new families. Nothing names these yet.
//! 3. One synced batch places the shards in the new families, and notes the replicas that are given
//!    up (RULE 5). Before it nothing has changed; after it only the new families count.
//! 4. The old families are dropped.
//!
//! The runs of replicas that were given up are not moved. The family of records can't be replaced: a
//! directory in which it is damaged is refused, because nobody can tell what is lost.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rocksdb::{BoundColumnFamily, LiveFile, WriteBatch};

use quorate_types::{ShardId, limits};

use crate::error::LogOpenError;
use crate::families::RECORDS_FAMILY;
use crate::keys::{RecordKey, run_key};
use crate::open::{Opened, damaged};
use crate::options::LogOptions;
use crate::record::{Family, encode_damage, seal};
use crate::recovery::RecoveredLog;
use crate::run_index::StoredRun;
use crate::runs::Place;
use crate::settings;

/// Bytes of runs that are written with one sync.
const BATCH_BYTES: usize = 4 << 20;

/// A point between two steps; a test stops there, as a crash would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    DropUnused,
    Create,
    Copy,
    Place,
    Drop,
}

/// A directory that was opened without merges.
pub(crate) struct Rewriting<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) opened: &'a Opened,
    pub(crate) recovered: &'a [RecoveredLog],
    pub(crate) options: &'a LogOptions,
}

/// Moves the sound replicas out of every family that has a damaged table: those that `noted` names,
/// and those in which the start has found one. Calls `before` each step. Blocks for the disk.
///
/// # Errors
/// [`LogOpenError::Damaged`] if a table of the records is among them, [`LogOpenError::NoRoom`]. After
/// any other error the next start tries again.
pub(crate) fn rewrite(
    rewriting: &Rewriting<'_>,
    noted: &str,
    before: &mut dyn FnMut(Step) -> Result<(), LogOpenError>,
) -> Result<(), LogOpenError> {
    let begun = Instant::now();
    let Rewriting { dir, opened, recovered, .. } = rewriting;
    let families = rewriting.damaged_families(noted)?;
    tracing::warn!(dir = %dir.display(), noted, ?families, "damaged tables: their logs are moved");
    // Before the look at the room: what a try has left that was cut short takes as much as this one.
    before(Step::DropUnused)?;
    rewriting.drop_families(opened.families.unused())?;
    check_room(dir, rewriting.needed_bytes(&families)?)?;
    let moves: Vec<_> = families.iter().zip(opened.families.spares()).collect();
    before(Step::Create)?;
    rewriting.create(moves.iter().map(|(_, new)| new.name()).collect())?;
    let mut placement = WriteBatch::default();
    let (mut kept, mut given_up, mut bytes) = (0, 0, 0);
    for (old, new) in moves {
        for shard in opened.families.shards_in(old) {
            put_record(&mut placement, RecordKey::Family(shard), &new.encode());
            let found = recovered.iter().find(|it| it.replica.shard == shard);
            let Some(found) = found.filter(|it| !it.replica.tombstone) else { continue };
            if found.log.is_some() {
                before(Step::Copy)?;
                bytes += rewriting.copy(found, old, &new.name())?;
                kept += 1;
            } else {
                given_up += 1;
                rewriting.note_end(&mut placement, found);
            }
        }
    }
    before(Step::Place)?;
    rewriting.write(&placement)?;
    for old in &families {
        before(Step::Drop)?;
        rewriting.drop_families([&**old])?;
    }
    let took_ms = begun.elapsed().as_millis();
    tracing::warn!(kept, given_up, bytes, took_ms, "logs were moved, and damaged tables dropped");
    Ok(())
}

impl Rewriting<'_> {
    /// The families with shards that are to be replaced. If a table is noted that is not there, all of
    /// them may be meant.
    fn damaged_families(&self, noted: &str) -> Result<BTreeSet<String>, LogOpenError> {
        let files = self.opened.db.live_files().map_err(|error| self.failed(&error))?;
        let found = self.recovered.iter().filter(|it| it.has_damaged_table);
        let found = found.filter_map(|it| self.opened.families.of(it.replica.shard));
        let mut names: BTreeSet<String> = found.map(Family::name).collect();
        // A note without a text has lost it.
        let mut are_known = noted.lines().next().is_some();
        for line in noted.lines() {
            let tables = tables_in(line);
            let is_named = |file: &&LiveFile| tables_in(&file.name).is_subset(&tables);
            let named: Vec<&LiveFile> = files.iter().filter(is_named).collect();
            are_known &= !named.is_empty();
            names.extend(named.iter().map(|file| file.column_family_name.clone()));
        }
        if names.contains(RECORDS_FAMILY) {
            let what = format!("a table of its records is damaged: {}", noted.trim_end());
            return Err(damaged(self.dir, what));
        }
        let in_use = self.opened.families.in_use();
        Ok(if are_known { &names & &in_use } else { in_use })
    }

    /// What moving `families` writes, at most: each run into the write-ahead log, and into a table.
    fn needed_bytes(&self, families: &BTreeSet<String>) -> Result<u64, LogOpenError> {
        let files = self.opened.db.live_files().map_err(|error| self.failed(&error))?;
        let of_them = files.iter().filter(|file| families.contains(&file.column_family_name));
        let bytes: u64 = of_them.map(|file| file.size as u64).sum();
        Ok(bytes + bytes.min(self.options.wal_bytes_max) + limits::DISK_FREE_START_BYTES)
    }

    /// All at once: each call makes RocksDB rewrite its file of options.
    fn create(&self, names: Vec<String>) -> Result<(), LogOpenError> {
        let created = self.opened.db.create_cfs(&names, self.opened.families.settings());
        created.map_err(|error| self.failed(&error))
    }

    fn drop_families<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), LogOpenError> {
        let mut names = names.into_iter();
        names.try_for_each(|name| self.opened.db.drop_cf(name)).map_err(|error| self.failed(&error))
    }

    /// Writes the runs of a sound replica into the family `new`. Returns how many bytes they have.
    fn copy(&self, sound: &RecoveredLog, old: &str, new: &str) -> Result<u64, LogOpenError> {
        let shard = sound.replica.shard;
        let expected = sound.log.as_ref().expect("a sound one has a log").bytes();
        let target = self.family(new);
        let place = Place { db: &self.opened.db, family: self.family(old), shard };
        let mut batch = WriteBatch::default();
        let mut bytes = 0;
        let write = settings::write(self.options.sync);
        let copied = place.each(&mut |run| {
            batch.put_cf(&target, run_key(shard, run.first()), run.bytes());
            bytes += u64::from(StoredRun::of(&run).bytes);
            // Each batch is synced before the next one: a torn one is the last (RULE 9).
            if batch.size_in_bytes() >= BATCH_BYTES {
                self.opened.db.write_opt(&batch, &write)?;
                batch.clear();
            }
            Ok(())
        });
        copied.map_err(|fault| self.unreadable(shard, &fault.to_string()))?;
        self.write(&batch)?;
        if bytes != expected {
            let what = format!("it had {expected} bytes at first, and then {bytes}");
            return Err(self.unreadable(shard, &what));
        }
        Ok(bytes)
    }

    /// Notes for good that a replica is given up, unless that is noted already.
    fn note_end(&self, batch: &mut WriteBatch, given_up: &RecoveredLog) {
        let shard = given_up.replica.shard;
        if !self.opened.records.damaged.contains_key(&shard) {
            let what = given_up.replica.damaged.as_deref().expect("only sound ones have a log");
            let body = encode_damage(given_up.replica.replica, what);
            put_record(batch, RecordKey::Damaged(shard), &body);
        }
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), LogOpenError> {
        let written = self.opened.db.write_opt(batch, &settings::write(self.options.sync));
        written.map_err(|error| self.failed(&error))
    }

    fn family(&self, name: &str) -> Arc<BoundColumnFamily<'_>> {
        self.opened.db.cf_handle(name).expect("it was there when the directory was opened, or made")
    }

    fn failed(&self, error: &rocksdb::Error) -> LogOpenError {
        LogOpenError::Storage { dir: self.dir.to_owned(), detail: error.to_string() }
    }

    /// A log that the start has read a moment ago. The next start reads all of it again.
    fn unreadable(&self, shard: ShardId, what: &str) -> LogOpenError {
        let detail = format!("the log of shard {shard}, which is to leave a damaged table: {what}");
        LogOpenError::Storage { dir: self.dir.to_owned(), detail }
    }
}

/// Refuses to begin on a disk that would be full before the end.
fn check_room(dir: &Path, needed_bytes: u64) -> Result<(), LogOpenError> {
    let failed = |source: io::Error| LogOpenError::Directory { dir: dir.to_owned(), source };
    let disk = rustix::fs::statvfs(dir).map_err(|error| failed(error.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    let (free_mebibytes, needed_mebibytes) = (free_bytes >> 20, needed_bytes.div_ceil(1 << 20));
    Err(LogOpenError::NoRoom { dir: dir.to_owned(), free_mebibytes, needed_mebibytes })
}

fn put_record(batch: &mut WriteBatch, key: RecordKey, body: &[u8]) {
    batch.put(key.bytes(), seal(key, body));
}

/// The numbers of the table files that a text names.
fn tables_in(text: &str) -> BTreeSet<u64> {
    let ends = text.match_indices(".sst").map(|(at, _)| &text[..at]);
    let digits =
        ends.map(|head| &head[head.trim_end_matches(|c: char| c.is_ascii_digit()).len()..]);
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
