//! Opens the RocksDB at a path and reads its records, which must belong to this node.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{ColumnFamilyDescriptor, ErrorKind, IteratorMode};

use quorate_raft::HardState;
use quorate_types::{ClusterId, NodeId, NodeInstance, ReplicaId, ShardId, StoreId};

use crate::directory::make_durably;
use crate::error::LogOpenError;
use crate::families::{Families, RECORDS_FAMILY};
use crate::journal::{Damage, Journal};
use crate::keys::RecordKey;
use crate::latch::Latch;
use crate::manifest_repair::{ManifestError, mend_manifest};
use crate::options::LogOptions;
use crate::record::{
    FORMAT, Family, RecordError, ReplicaRecord, decode_damage, decode_hard_state, decode_identity,
    decode_instance, decode_u32, decode_u64, unseal,
};
use crate::settings::{self, Db, Merging};
use crate::wal_repair;

/// Every record of a directory, decoded.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) format: Option<u32>,
    pub(crate) identity: Option<(ClusterId, NodeId, StoreId)>,
    pub(crate) incarnation: Option<u64>,
    pub(crate) spaces: Option<u64>,
    pub(crate) families: BTreeMap<ShardId, Family>,
    pub(crate) replicas: BTreeMap<ShardId, ReplicaRecord>,
    pub(crate) peers: BTreeMap<NodeId, NodeInstance>,
    pub(crate) founded: bool,
    pub(crate) map: Option<Vec<u8>>,
    pub(crate) first_map: Option<u32>,
    pub(crate) has_data_store: bool,
    pub(crate) ended: Option<String>,
    /// A damaged record stops only its replica, so the error is kept.
    pub(crate) hard_states: BTreeMap<ShardId, Result<HardState, RecordError>>,
    /// What damaged replicas died of. An unreadable record says it, too.
    pub(crate) damaged: BTreeMap<ShardId, Result<(ReplicaId, String), RecordError>>,
}

/// An open directory, before anything was written to it.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) records: Records,
    pub(crate) families: Families,
}

/// Opens `dir`, or makes it if it holds nothing yet, and reads its records.
pub(crate) fn open(
    dir: &Path,
    options: &LogOptions,
    latch: Arc<Latch>,
    merging: Merging,
) -> Result<Opened, LogOpenError> {
    let fresh = prepare(dir)?;
    mend_manifest(dir).map_err(|error| manifest_refusal(dir, error))?;
    let mut database = settings::database(options, latch);
    database.create_if_missing(fresh);
    let names = if fresh {
        vec![RECORDS_FAMILY.to_owned()]
    } else {
        Db::list_cf(&database, dir).map_err(|error| refusal(dir, &error))?
    };
    let family = settings::family(options, merging);
    let describe = |name: &String| ColumnFamilyDescriptor::new(name, family.clone());
    let open = || Db::open_cf_descriptors(&database, dir, names.iter().map(describe));
    let torn = inspect_newest(dir)?.filter(|newest| newest.damage.is_some());
    let db = match (open(), torn) {
        (Err(error), Some(torn)) if error.kind() == ErrorKind::Corruption => {
            torn.cut().map_err(|source| LogOpenError::Directory { dir: dir.to_owned(), source })?;
            open()
        }
        (outcome, _) => outcome,
    };
    let db = db.map_err(|error| refusal(dir, &error))?;
    let mut records = read_records(dir, &db)?;
    let placed = std::mem::take(&mut records.families);
    let families = Families::new(placed, names, options, family);
    if let Some((shard, family)) = families.missing() {
        let what = format!("family {} of shard {shard} is missing", family.name());
        return Err(damaged(dir, what));
    }
    Ok(Opened { db, records, families })
}

/// An [`LogOpenError::Damaged`].
pub(crate) fn damaged(dir: &Path, what: impl Into<String>) -> LogOpenError {
    LogOpenError::Damaged { dir: dir.to_owned(), what: what.into() }
}

/// The newest file of the write-ahead log. Read before RocksDB opens it: RocksDB takes some damage
/// for the end of the file, and would silently skip what follows.
fn inspect_newest(dir: &Path) -> Result<Option<Journal>, LogOpenError> {
    let newest = wal_repair::inspect_newest(dir)
        .map_err(|source| LogOpenError::Directory { dir: dir.to_owned(), source })?;
    if let Some(Journal { path, damage: Some(Damage { at, follower: Some(follower) }), .. }) =
        &newest
    {
        let path = path.display();
        let what = format!("{path}: the record at {at} is unreadable, and another at {follower}");
        return Err(damaged(dir, format!("{what} shows that it was synced")));
    }
    Ok(newest)
}

/// What an unmended manifest means.
fn manifest_refusal(dir: &Path, error: ManifestError) -> LogOpenError {
    let dir = dir.to_owned();
    match error {
        ManifestError::InUse(holder) => LogOpenError::InUse { dir, holder },
        ManifestError::Damaged { what } => LogOpenError::Damaged { dir, what },
        ManifestError::Io(source) => LogOpenError::Directory { dir, source },
    }
}

/// Makes `dir` if it is missing. True if it never held a RocksDB.
fn prepare(dir: &Path) -> Result<bool, LogOpenError> {
    let unprepared = |source| LogOpenError::Directory { dir: dir.to_owned(), source };
    make_durably(dir).map_err(unprepared)?;
    let names = names_in(dir).map_err(unprepared)?;
    if names.iter().any(|name| name == "CURRENT") {
        return Ok(false);
    }
    // RocksDB writes CURRENT before its first data file. A directory with data but without CURRENT
    // is not fresh, and making a database there would delete the rest of the evidence.
    if let Some(name) = names.iter().find(|name| name.ends_with(".sst") || name.ends_with(".log")) {
        return Err(damaged(dir, format!("file CURRENT is missing beside {name}")));
    }
    // Nothing was promised yet. From now on the node's directory must stay, even if another process
    // made it.
    dir.parent().map_or(Ok(()), make_durably).map_err(unprepared)?;
    Ok(true)
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned())).collect()
}

/// What RocksDB's refusal to open means.
pub(crate) fn refusal(dir: &Path, error: &rocksdb::Error) -> LogOpenError {
    let detail = error.to_string();
    if let Some(holder) = settings::lock_holder(error, dir) {
        return LogOpenError::InUse { dir: dir.to_owned(), holder };
    }
    // A file that the manifest names but the directory lacks is damage, too.
    if error.kind() == ErrorKind::Corruption || detail.contains("No such file") {
        return damaged(dir, detail);
    }
    LogOpenError::Storage { dir: dir.to_owned(), detail }
}

fn read_records(dir: &Path, db: &Db) -> Result<Records, LogOpenError> {
    let mut records = Records::default();
    for item in db.iterator(IteratorMode::Start) {
        let (key, value) = item.map_err(|error| refusal(dir, &error))?;
        let parsed = RecordKey::parse(&key)
            .ok_or_else(|| damaged(dir, format!("unknown record key {key:02x?}")))?;
        records
            .take(parsed, &value)
            .map_err(|error| damaged(dir, format!("record {parsed:?}: {error}")))?;
        // The format is the first key: past this line the other records have a known format.
        match records.format {
            Some(found) if found > FORMAT => {
                let dir = dir.to_owned();
                return Err(LogOpenError::NewerFormat { dir, found, supported: FORMAT });
            }
            Some(found) if found < FORMAT => {
                let dir = dir.to_owned();
                return Err(LogOpenError::OlderFormat { dir, found, supported: FORMAT });
            }
            Some(_) => {}
            None => return Err(damaged(dir, "the record of the format is missing")),
        }
    }
    if let Some(shard) = records.damaged.keys().find(|shard| !records.replicas.contains_key(shard))
    {
        let what = format!("the record of the replica of shard {shard} is missing");
        return Err(damaged(dir, what));
    }
    Ok(records)
}

impl Records {
    fn take(&mut self, key: RecordKey, bytes: &[u8]) -> Result<(), RecordError> {
        if let RecordKey::HardState(shard) = key {
            self.hard_states.insert(shard, unseal(key, bytes).and_then(decode_hard_state));
            return Ok(());
        }
        if let RecordKey::Damaged(shard) = key {
            self.damaged.insert(shard, unseal(key, bytes).and_then(decode_damage));
            return Ok(());
        }
        let body = unseal(key, bytes)?;
        match key {
            RecordKey::Format => self.format = Some(decode_u32(body)?),
            RecordKey::Identity => self.identity = Some(decode_identity(body)?),
            RecordKey::Incarnation => self.incarnation = Some(decode_u64(body)?),
            RecordKey::Spaces => self.spaces = Some(decode_u64(body)?),
            RecordKey::Family(shard) => {
                self.families.insert(shard, Family::decode(body)?);
            }
            RecordKey::Replica(shard) => {
                self.replicas.insert(shard, ReplicaRecord::decode(body)?);
            }
            RecordKey::Peer(node) => {
                self.peers.insert(node, decode_instance(body)?);
            }
            RecordKey::Founded => self.founded = true,
            RecordKey::Map => self.map = Some(body.to_vec()),
            RecordKey::FirstMap => self.first_map = Some(decode_u32(body)?),
            // One record for each start: read when a peer asks, not kept in memory.
            RecordKey::Start(_) => drop(decode_u64(body)?),
            RecordKey::DataStore => self.has_data_store = true,
            RecordKey::Ended => self.ended = Some(String::from_utf8_lossy(body).into_owned()),
            RecordKey::HardState(_) | RecordKey::Damaged(_) => unreachable!("taken above"),
        }
        Ok(())
    }
}
