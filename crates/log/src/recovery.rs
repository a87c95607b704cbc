//! The verified durable state of every replica, as the store returns it at its start.

use std::collections::BTreeMap;

use quorate_raft::{HardState, Restored};
use quorate_types::{NodeId, NodeInstance, ReplicaId, ShardId, SpaceId};

use crate::open::{Opened, Records};
use crate::record::{Identity, RecordError, ReplicaRecord};
use crate::run_index::RunIndex;
use crate::runs::{Place, RunFault, Scan};

/// Everything an opened directory held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The directory's identity, with this start's incarnation.
    pub identity: Identity,
    /// Every replica that was ever here, by shard.
    pub replicas: Vec<RecoveredReplica>,
    /// The newest instance of every node given to
    /// [`LogStore::record_peer`](crate::LogStore::record_peer).
    pub peers: BTreeMap<NodeId, NodeInstance>,
    /// True after [`LogStore::record_founded`](crate::LogStore::record_founded).
    pub founded: bool,
    /// What [`LogStore::record_map`](crate::LogStore::record_map) was given last.
    pub map: Option<Vec<u8>>,
    /// What [`LogStore::record_first_map`](crate::LogStore::record_first_map) was given.
    pub first_map: Option<u32>,
    /// True after [`LogStore::record_data_store`](crate::LogStore::record_data_store).
    pub has_data_store: bool,
    /// What [`LogStore::record_end`](crate::LogStore::record_end) was given: this directory must
    /// never speak again.
    pub ended: Option<String>,
}

/// One replica's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredReplica {
    /// Its group.
    pub shard: ShardId,
    /// Its admission to the group.
    pub replica: ReplicaId,
    /// Where its data is kept.
    pub space: SpaceId,
    /// True if it was removed: this id and lower ones are refused forever (RULE 3).
    pub tombstone: bool,
    /// `Some` says which part can't be read or contradicts another, or why it was given up as
    /// [`EndReason::Damaged`](crate::EndReason::Damaged), whose runs are not even read. It may have lost a vote or
    /// entries that it acknowledged, so it must not vote, promise or acknowledge again (RULE 5);
    /// `restored` then holds only what could be read.
    pub damaged: Option<String>,
    /// The state for its kernel. `applied` is the base's index: only the data store knows the real
    /// one.
    pub restored: Restored,
}

/// A replica and what is stored of its log.
pub(crate) struct RecoveredLog {
    pub(crate) replica: RecoveredReplica,
    /// Of a living one only.
    pub(crate) log: Option<RunIndex>,
    /// A table that holds something of it can't be read: any merge of that table would fail.
    pub(crate) has_damaged_table: bool,
}

/// Why a replica's log is not restored.
enum Unrestored {
    /// It was given up earlier, for this reason.
    Noted(String),
    /// Stored bytes are not what was written, or contradict each other.
    Damaged(String),
    /// So says the storage engine, of a table.
    DamagedTable(String),
    /// The disk or the system failed: another start may read it.
    Unread(String),
}

impl From<String> for Unrestored {
    fn from(what: String) -> Unrestored {
        Unrestored::Damaged(what)
    }
}

impl From<RunFault> for Unrestored {
    fn from(fault: RunFault) -> Unrestored {
        let what = fault.to_string();
        match (fault.is_damage(), fault.is_of_table()) {
            (true, true) => Unrestored::DamagedTable(what),
            (true, false) => Unrestored::Damaged(what),
            (false, _) => Unrestored::Unread(what),
        }
    }
}

/// Reads and verifies every replica's runs.
///
/// # Errors
/// What could not be read, although nothing says that it is damaged: a replica that is taken for
/// damaged is given up for ever.
pub(crate) fn recover(opened: &Opened) -> Result<Vec<RecoveredLog>, String> {
    let replicas = opened.records.replicas.iter();
    replicas.map(|(shard, record)| recover_one(opened, *shard, record)).collect()
}

fn recover_one(
    opened: &Opened,
    shard: ShardId,
    record: &ReplicaRecord,
) -> Result<RecoveredLog, String> {
    let replica = RecoveredReplica {
        shard,
        replica: record.replica,
        space: record.space,
        tombstone: record.tombstone,
        damaged: None,
        restored: Restored {
            hard_state: HardState::default(),
            base: record.base,
            base_membership: record.base_membership.clone(),
            terms: Vec::new(),
            memberships: Vec::new(),
            last: record.base,
            applied: record.base.index,
        },
    };
    let mut recovered = RecoveredLog { replica, log: None, has_damaged_table: false };
    if record.tombstone {
        return Ok(recovered);
    }
    let log = match opened.records.damaged.get(&shard) {
        Some(Ok((replica, what))) if *replica == record.replica => {
            Err(Unrestored::Noted(what.clone()))
        }
        Some(Ok((replica, what))) => {
            Err(format!("its record of damage is of {replica}: {what}").into())
        }
        Some(Err(error)) => Err(format!("its record of damage: {error}").into()),
        None => fill(opened, shard, &mut recovered.replica.restored),
    };
    let of_log = |what| format!("its log is damaged: {what}");
    let what = match log {
        Ok(log) => {
            recovered.log = Some(log);
            return Ok(recovered);
        }
        Err(Unrestored::Unread(what)) => return Err(format!("the log of shard {shard}: {what}")),
        Err(Unrestored::Noted(what)) => what,
        Err(Unrestored::Damaged(what)) => of_log(what),
        Err(Unrestored::DamagedTable(what)) => {
            recovered.has_damaged_table = true;
            of_log(what)
        }
    };
    tracing::error!(%shard, replica = %record.replica, %what, "replica is damaged");
    recovered.replica.damaged = Some(what);
    Ok(recovered)
}

/// Fills in hard state and log, or says what is wrong with them.
fn fill(opened: &Opened, shard: ShardId, restored: &mut Restored) -> Result<RunIndex, Unrestored> {
    restored.hard_state = hard_state(&opened.records, shard)?;
    let family = opened.families.of(shard).ok_or("it was placed in no family".to_owned())?;
    let name = family.name();
    let family = opened.db.cf_handle(&name).ok_or(format!("family {name} is missing"))?;
    let place = Place { db: &opened.db, family, shard };
    let scan = place.scan(restored.base)?;
    check_promises(&restored.hard_state, restored, &scan)?;
    restored.terms = scan.terms;
    restored.memberships = scan.memberships;
    restored.last = scan.last;
    Ok(RunIndex::new(restored.base.index, restored.last.index, scan.runs))
}

fn hard_state(records: &Records, shard: ShardId) -> Result<HardState, String> {
    let missing = RecordError::Malformed { what: "missing" };
    let found = records.hard_states.get(&shard).cloned().unwrap_or(Err(missing));
    found.map_err(|error| format!("hard state: {error}"))
}

/// Hard state and log are never ahead of each other, because each batch holds both. If one is
/// ahead, the other's part of a batch was lost.
fn check_promises(state: &HardState, restored: &Restored, scan: &Scan) -> Result<(), String> {
    let last = scan.last;
    if state.committed > last.index {
        return Err(format!(
            "committed through {}, but the log ends at {last}: entries are lost",
            state.committed
        ));
    }
    if last.index > restored.base.index && last.term > state.term {
        return Err(format!(
            "the log ends at {last}, but the hard state knows term {} only: a vote may be lost",
            state.term
        ));
    }
    Ok(())
}
