//! The start of a store: opens its directory for the node that owns it, recovers its replicas, and
//! gets rid of damaged tables first.

use std::path::Path;
use std::sync::Arc;

use rocksdb::WriteBatch;

use quorate_types::{ClusterId, NodeId, StoreId};

use crate::damage_mark::DamageMark;
use crate::error::LogOpenError;
use crate::keys::RecordKey;
use crate::latch::Latch;
use crate::open::{self, Opened, Records, damaged};
use crate::options::{LogOptions, SyncMode};
use crate::record::{FORMAT, encode_identity, seal};
use crate::recovery::{RecoveredLog, recover};
use crate::rewrite::{Rewriting, rewrite};
use crate::settings::{self, Db, Merging};

/// Whose directory it has to be.
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    /// The random identity of a directory that is new.
    pub(crate) fresh_store: StoreId,
}

/// An open directory that belongs to this node, and what it holds.
pub(crate) struct Start {
    pub(crate) opened: Opened,
    pub(crate) latch: Arc<Latch>,
    pub(crate) store: StoreId,
    pub(crate) recovered: Vec<RecoveredLog>,
}

impl Start {
    /// Opens `dir`. If tables in it are damaged, the directory is opened without merges, rewritten,
    /// and opened again.
    pub(crate) fn begin(
        dir: &Path,
        owner: &Owner,
        options: &LogOptions,
    ) -> Result<Start, LogOpenError> {
        let mark = DamageMark::of(dir);
        let failed = |source| LogOpenError::Directory { dir: dir.to_owned(), source };
        if mark.read().map_err(failed)?.is_none() {
            let start = Start::open(dir, owner, options, Merging::On)?;
            let is_damaged = |it: &&RecoveredLog| it.has_damaged_table;
            let damaged = start.recovered.iter().filter(is_damaged);
            let damaged: Vec<_> = damaged.filter_map(|it| it.replica.damaged.as_deref()).collect();
            if damaged.is_empty() {
                return Ok(start);
            }
            // First of all: a merge that meets the damage meanwhile may end this process.
            damaged.into_iter().for_each(|what| mark.note(what));
        }
        let start = Start::open(dir, owner, options, Merging::Off)?;
        let noted = mark.read().map_err(failed)?.unwrap_or_default();
        let Start { opened, recovered, .. } = &start;
        rewrite(&Rewriting { dir, opened, recovered, options }, &noted, &mut |_| Ok(()))?;
        mark.clear().map_err(failed)?;
        drop(start);
        Start::open(dir, owner, options, Merging::On)
    }

    /// Opens `dir` as it is.
    pub(crate) fn open(
        dir: &Path,
        owner: &Owner,
        options: &LogOptions,
        merging: Merging,
    ) -> Result<Start, LogOpenError> {
        let latch = Arc::new(Latch::new(dir));
        let mut opened = open::open(dir, options, Arc::clone(&latch), merging)?;
        let store = admit(dir, &mut opened, owner)?;
        let recovered = recover(&opened)
            .map_err(|detail| LogOpenError::Storage { dir: dir.to_owned(), detail })?;
        Ok(Start { opened, latch, store, recovered })
    }
}

/// Checks that the directory belongs to this node; an empty directory is claimed for it.
fn admit(dir: &Path, opened: &mut Opened, owner: &Owner) -> Result<StoreId, LogOpenError> {
    let dir = dir.to_owned();
    let Owner { cluster, node, fresh_store } = *owner;
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
