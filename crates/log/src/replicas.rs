//! Makes replicas in the log.

use std::collections::VecDeque;
use std::sync::Arc;

use rocksdb::WriteBatch;
use rustc_hash::{FxHashMap, FxHashSet};

use quorate_raft::{HardState, Membership};
use quorate_types::{LogId, ReplicaId, ShardId, SpaceId};

use crate::error::CreateError;
use crate::keys::RecordKey;
use crate::record::{ReplicaRecord, encode_hard_state};
use crate::run_index::RunIndex;
use crate::store::{Living, LogStore, WriterState};

/// The initial state of a new replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReplica {
    /// Its group.
    pub shard: ShardId,
    /// Its admission to the group.
    pub replica: ReplicaId,
    /// Where its data is kept.
    pub space: SpaceId,
    /// The entry before its log's first: the state it begins with. Its index is not 0 (RULE 14).
    pub base: LogId,
    /// The membership in force at `base`.
    pub base_membership: Membership,
    /// Its term, vote and commit.
    pub hard_state: HardState,
}

impl LogStore {
    /// Creates `replicas`, all of them or none, with one sync. A shard whose replica was removed, or
    /// is damaged, may get one with a higher id; what the damaged one left behind is then deleted. Blocks; a thousand take about a second, nearly all of it for their
    /// column families.
    ///
    /// # Errors
    /// [`CreateError`]; nothing was created then, except that a fault leaves this unknown.
    pub fn create_replicas(&self, replicas: &[NewReplica]) -> Result<(), CreateError> {
        let mut writer = self.begin()?;
        check_new(&self.shards.read(), &writer, replicas)?;
        let shards = replicas.iter().map(|replica| replica.shard);
        let placed =
            writer.families.place(self.db(), shards).map_err(|error| self.failed(&error))?;
        let mut batch = WriteBatch::default();
        for (shard, family) in placed {
            self.stage_record(&mut batch, RecordKey::Family(shard), &family.encode());
        }
        for replica in replicas {
            self.stage_birth(&mut writer, &mut batch, replica);
        }
        self.commit(&batch)?;
        self.admit(&mut writer, replicas);
        Ok(())
    }

    fn stage_birth(&self, writer: &mut WriterState, batch: &mut WriteBatch, replica: &NewReplica) {
        assert!(replica.base.index.0 > 0, "{:?} begins at index 0 (RULE 14)", replica.shard);
        let shard = replica.shard;
        self.stage_record(batch, RecordKey::Replica(shard), &record_of(replica).encode());
        let state = encode_hard_state(&replica.hard_state);
        self.stage_record(batch, RecordKey::HardState(shard), &state);
        // A removal has deleted the runs of the replica before it; only damage leaves some behind.
        if writer.records.get(&shard).is_some_and(|record| !record.tombstone) {
            self.stage_clear_damaged(writer, batch, shard);
        }
    }

    /// Lets readers and writers find replicas that are now durable.
    fn admit(&self, writer: &mut WriterState, replicas: &[NewReplica]) {
        let mut shards = self.shards.write();
        for replica in replicas {
            let family = writer.families.of(replica.shard).expect("placed before");
            let base = replica.base.index;
            let log = RunIndex::new(base, base, VecDeque::new());
            shards.insert(replica.shard, Living::new(replica.replica, family.name(), log));
            writer.records.insert(replica.shard, record_of(replica));
        }
    }
}

fn record_of(new: &NewReplica) -> ReplicaRecord {
    ReplicaRecord {
        replica: new.replica,
        space: new.space,
        tombstone: false,
        base: new.base,
        base_membership: new.base_membership.clone(),
    }
}

/// Refuses to create a replica over a living one, or at or below one that was removed or is damaged.
fn check_new(
    shards: &FxHashMap<ShardId, Arc<Living>>,
    writer: &WriterState,
    replicas: &[NewReplica],
) -> Result<(), CreateError> {
    let mut named = FxHashSet::default();
    for NewReplica { shard, replica, .. } in replicas {
        let (shard, found) = (*shard, *replica);
        if !named.insert(shard) {
            return Err(CreateError::Exists { shard, found });
        }
        let Some(record) = writer.records.get(&shard) else { continue };
        let before = record.replica;
        if shards.contains_key(&shard) {
            return Err(CreateError::Exists { shard, found: before });
        }
        match (before >= found, record.tombstone) {
            (true, true) => return Err(CreateError::Removed { shard, found, removed: before }),
            (true, false) => return Err(CreateError::Damaged { shard, found, damaged: before }),
            (false, _) => {}
        }
    }
    Ok(())
}
