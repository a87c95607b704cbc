//! Checks each replica of the log against its data, and finds where it continues to apply.

use quorate_log::{EndReason, LogStore, RecoveredReplica, ReplicaEnd, TurnWrite};
use quorate_machine::{AppliedRecord, OwnStore, StateMachine, StoreFault};
use quorate_raft::Restored;
use quorate_router::ShardDescriptor;
use quorate_types::{Index, LogId, ReplicaId, ShardId, SpaceId, Term};

use crate::error::OpenFault;
use crate::lifecycle::own_store::{OwnFault, OwnReplica};
use crate::state::shards::{DamagedReplica, descriptor_of};
use crate::store::data_store::{DataError, DataStore};
use crate::store::identity::StoreIdentity;
use crate::worker::apply::MachineFactory;

/// The entry before the first of every bootstrapped log. Not index 0: a log's base is matched only
/// by a replica that holds the base state (RULE 14).
pub(super) const BOOTSTRAP_BASE: LogId = LogId::new(Term(1), Index(1));

/// A replica as both stores hold it.
pub(crate) struct Replica {
    pub(crate) recovered: RecoveredReplica,
    pub(crate) record: AppliedRecord,
    /// The record in its space: the same, unless the machine keeps a store of its own.
    pub(crate) space_record: AppliedRecord,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) keeps_own_store: bool,
    pub(crate) worker: usize,
}

impl Replica {
    /// The shard's descriptor, as the applied record has it.
    pub(crate) fn descriptor(&self) -> ShardDescriptor {
        descriptor_of(self.recovered.shard, &self.record)
    }
}

/// What replicas are joined from.
pub(super) struct Joining<'a> {
    pub(super) data: &'a DataStore,
    pub(super) identity: StoreIdentity,
    pub(super) machines: MachineFactory,
    /// The data store holds spaces that no replica owns.
    pub(super) has_leftovers: bool,
    pub(super) workers: usize,
}

/// Joins log and data store: each replica continues to apply after its record (RULE 10). A replica
/// that is damaged in one of them is given up, and the others go on.
pub(super) fn join_stores(
    joining: &Joining<'_>,
    recovered: Vec<RecoveredReplica>,
) -> Result<Joined, OpenFault> {
    let (mut replicas, mut damaged, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for recovered in recovered {
        if recovered.tombstone {
            continue;
        }
        let (shard, replica) = (recovered.shard, recovered.replica);
        match join(joining, recovered)? {
            Ok(sound) => replicas.push(sound),
            Err(unfit) => {
                let unfit = match unfit {
                    Unfit::Damaged(what) => DamagedReplica::for_good(shard, replica, what),
                    Unfit::OwnStore { fault, space, space_record: record } => {
                        waiting.push(WaitingReplica { shard, replica, space, record });
                        DamagedReplica::of_store(shard, replica, &fault)
                    }
                };
                let DamagedReplica { what, until_restart, .. } = &unfit;
                tracing::error!(%shard, %replica, %what, until_restart, "a replica is given up");
                damaged.push(unfit);
            }
        }
    }
    Ok(Joined { replicas, damaged, waiting })
}

/// What came of joining the stores.
pub(super) struct Joined {
    pub(super) replicas: Vec<Replica>,
    pub(super) damaged: Vec<DamagedReplica>,
    pub(super) waiting: Vec<WaitingReplica>,
}

/// A replica that is given up for its own store, until that can be read.
pub(super) struct WaitingReplica {
    pub(super) shard: ShardId,
    pub(super) replica: ReplicaId,
    pub(super) space: SpaceId,
    /// The record in its space.
    pub(super) record: AppliedRecord,
}

/// Why a replica is given up.
enum Unfit {
    Damaged(String),
    OwnStore { fault: StoreFault, space: SpaceId, space_record: AppliedRecord },
}

impl From<String> for Unfit {
    fn from(what: String) -> Self {
        Unfit::Damaged(what)
    }
}

/// One replica of both stores, or why it is given up.
fn join(
    joining: &Joining<'_>,
    mut recovered: RecoveredReplica,
) -> Result<Result<Replica, Unfit>, OpenFault> {
    if let Some(damage) = &recovered.damaged {
        return Ok(Err(damage.clone().into()));
    }
    let record = match joining.data.record(recovered.space) {
        // A snapshot's space takes the place of another only once it is complete. An older log names
        // the older one, and what no replica owns is the newest.
        Ok(None) if joining.has_leftovers => {
            let (shard, space) = (recovered.shard, recovered.space);
            let what = format!(
                "the log says that the data of shard {shard} is in space {space}, and the data \
                 store holds others instead: one of the two is older than the other; put the right \
                 ones together"
            );
            return Err(OpenFault::Stores { what });
        }
        Ok(None) => {
            return Ok(Err("its applied record is gone from the data store".to_owned().into()));
        }
        Ok(Some(Err(error))) => return Ok(Err(error.to_string().into())),
        Ok(Some(Ok(record))) => record,
        Err(error) if joining.data.note_damage(&error) => {
            return Ok(Err(format!("its data: {error}").into()));
        }
        Err(error) => return Err(data_fault(error)),
    };
    let mut machine = (joining.machines)(recovered.shard);
    let (space_record, mut keeps_own_store) = (record.clone(), false);
    let record = match machine.own_store() {
        None => record,
        Some(store) => {
            keeps_own_store = true;
            match join_own(joining, &recovered, store, record) {
                Ok(record) => record,
                Err(OwnFault::Unfit(fault)) => {
                    let space = recovered.space;
                    return Ok(Err(Unfit::OwnStore { fault, space, space_record }));
                }
                Err(OwnFault::Refused(fault)) => return Err(fault),
            }
        }
    };
    let (applied, base) = (record.applied, recovered.restored.base);
    if applied.index < base.index {
        let what = format!("data is applied to {applied}, but the log begins after {base}");
        return Ok(Err(what.into()));
    }
    // Not this replica's fault alone: a log that has lost entries may have lost any (RULE 17).
    let shard = recovered.shard;
    check_applied(applied, &recovered.restored)
        .map_err(|what| OpenFault::Replica { shard, what })?;
    recovered.restored.applied = applied.index;
    let worker = usize::try_from(shard.0).unwrap_or(0) % joining.workers;
    Ok(Ok(Replica { recovered, record, space_record, machine, keeps_own_store, worker }))
}

/// As [`join`], for a state machine that keeps a store of its own: where that stands.
fn join_own(
    joining: &Joining<'_>,
    recovered: &RecoveredReplica,
    store: &mut dyn OwnStore,
    of_space: AppliedRecord,
) -> Result<AppliedRecord, OwnFault> {
    let (data, identity) = (joining.data, joining.identity);
    let own = OwnReplica { data, identity, shard: recovered.shard, space: recovered.space };
    let is_first = of_space.applied == BOOTSTRAP_BASE;
    let record = own.join(store, of_space, is_first)?;
    let base = recovered.restored.base;
    match record.applied == BOOTSTRAP_BASE && base.index > BOOTSTRAP_BASE.index {
        true => Err(OwnFault::nothing_in_it(base)),
        false => Ok(record),
    }
}

/// Notes the damaged replicas durably: one that can be read by chance at a later start has still
/// forgotten what it promised meanwhile (RULE 17). One whose own store fails has forgotten nothing.
pub(super) fn end_damaged(log: &LogStore, damaged: &[DamagedReplica]) -> Result<(), OpenFault> {
    let lost = damaged.iter().filter(|damaged| !damaged.until_restart);
    let ends = lost.map(|damaged| ReplicaEnd {
        shard: damaged.shard,
        replica: damaged.replica,
        why: EndReason::Damaged(damaged.what.clone()),
    });
    let ends = TurnWrite { ends: ends.collect(), ..TurnWrite::default() };
    Ok(log.write(&[ends])?)
}

/// RULE 4: the last applied entry, which is not below the log's base, is in the log with the same
/// term, or is the base.
/// Otherwise one of the two has lost data, or their histories differ.
fn check_applied(applied: LogId, restored: &Restored) -> Result<(), String> {
    let last = restored.last;
    if applied.index > last.index {
        return Err(format!(
            "data is applied to {}, but the log ends at {}",
            applied.index, last.index
        ));
    }
    let found = term_at(restored, applied.index);
    if found != applied.term {
        return Err(format!(
            "data is applied to entry {applied}, but the log has term {found} there: log and data are \
             of different histories"
        ));
    }
    Ok(())
}

/// The term of an entry in `[base, last]`.
fn term_at(restored: &Restored, index: Index) -> Term {
    let begun = restored.terms.partition_point(|(first, _)| *first <= index);
    begun.checked_sub(1).map_or(restored.base.term, |term| restored.terms[term].1)
}

fn data_fault(error: DataError) -> OpenFault {
    OpenFault::Data(error.to_string())
}

#[cfg(test)]
mod tests {
    use quorate_raft::{HardState, Membership};

    use super::*;

    fn restored(base: LogId, terms: &[(u64, u64)], last: LogId) -> Restored {
        Restored {
            hard_state: HardState::default(),
            base,
            base_membership: Membership::default(),
            terms: terms.iter().map(|(first, term)| (Index(*first), Term(*term))).collect(),
            memberships: Vec::new(),
            last,
            applied: base.index,
        }
    }

    /// Goal: applying continues after a record only if the log holds the same entry (RULE 4).
    #[test]
    fn applied_data_must_lie_in_the_log() {
        let id = |term, index| LogId::new(Term(term), Index(index));
        let log = restored(id(1, 1), &[(2, 1), (5, 3)], id(3, 8));
        for sound in [id(1, 1), id(1, 2), id(1, 4), id(3, 5), id(3, 8)] {
            assert_eq!(check_applied(sound, &log), Ok(()), "{sound:?}");
        }
        for (forgotten, words) in [
            (id(3, 9), "the log ends at 8"),
            (id(2, 4), "the log has term 1 there"),
            (id(1, 5), "the log has term 3 there"),
            (id(2, 1), "the log has term 1 there"),
        ] {
            let refusal = check_applied(forgotten, &log).expect_err(words);
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
