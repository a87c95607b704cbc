//! Makes, resets and removes replicas in the log.

use std::sync::Arc;

use rocksdb::WriteBatch;
use rustc_hash::FxHashSet;

use quorate_raft::{HardState, Membership};
use quorate_types::{LogId, ReplicaId, ShardId, SpaceId};

use crate::error::{CreateError, LogFault};
use crate::keys::RecordKey;
use crate::record::{ReplicaRecord, encode_hard_state};
use crate::runs::Place;
use crate::store::{Bounds, LogStore, WriterState};

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
    /// Creates `replicas`, all of them or none, with one sync. A shard whose replica was buried may
    /// get one with a higher id. Blocks; a thousand take about a second, nearly all of it for their
    /// column families.
    ///
    /// # Errors
    /// [`CreateError`]; nothing was created then, except that a fault leaves this unknown.
    pub fn create_replicas(&self, replicas: &[NewReplica]) -> Result<(), CreateError> {
        let mut writer = self.begin()?;
        check_new(&writer, replicas)?;
        let shards = replicas.iter().map(|replica| replica.shard);
        let placed =
            writer.families.place(self.db(), shards).map_err(|error| self.failed(&error))?;
        let mut batch = WriteBatch::default();
        for (shard, family) in placed {
            self.stage_record(&mut batch, RecordKey::Family(shard), &family.encode());
        }
        for replica in replicas {
            self.stage_birth(&writer, &mut batch, replica);
        }
        self.commit(&batch)?;
        self.admit(&mut writer, replicas);
        Ok(())
    }

    /// Resets a living replica to a snapshot that is installed in its data store: a new space, a
    /// new base, all its runs dropped, and `hard_state` as merged by the caller. One batch, one
    /// sync (RULE 13).
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    ///
    /// # Panics
    /// If `replica` is not the living replica of its shard.
    pub fn install(&self, replica: &NewReplica) -> Result<(), LogFault> {
        let mut writer = self.begin()?;
        let living = writer.bounds.contains_key(&replica.shard);
        let known = writer.records.get(&replica.shard).map(|record| record.replica);
        assert!(living && known == Some(replica.replica), "{replica:?} is not the living replica");
        let mut batch = WriteBatch::default();
        self.stage_birth(&writer, &mut batch, replica);
        self.commit(&batch)?;
        self.admit(&mut writer, std::slice::from_ref(replica));
        Ok(())
    }

    /// Removes the replica of `shard` forever: its runs go, its id stays as a tombstone, and
    /// neither it nor a lower one is created here again (RULE 3). The caller must have proof that
    /// the group continues without it (RULE 15). A damaged replica can be buried too. One sync;
    /// does nothing if the shard was never here or is buried already.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store.
    pub fn bury(&self, shard: ShardId) -> Result<(), LogFault> {
        let mut writer = self.begin()?;
        let Some(record) = writer.records.get(&shard).filter(|record| !record.tombstone) else {
            return Ok(());
        };
        let record = ReplicaRecord { tombstone: true, ..record.clone() };
        let mut batch = WriteBatch::default();
        self.stage_record(&mut batch, RecordKey::Replica(shard), &record.encode());
        batch.delete(RecordKey::HardState(shard).bytes());
        self.stage_clear(&writer, &mut batch, shard);
        self.shards.write().remove(&shard);
        writer.bounds.remove(&shard);
        self.commit(&batch)?;
        writer.records.insert(shard, record);
        Ok(())
    }

    fn stage_birth(&self, writer: &WriterState, batch: &mut WriteBatch, replica: &NewReplica) {
        assert!(replica.base.index.0 > 0, "{:?} begins at index 0 (RULE 14)", replica.shard);
        let shard = replica.shard;
        self.stage_record(batch, RecordKey::Replica(shard), &record_of(replica).encode());
        let state = encode_hard_state(&replica.hard_state);
        self.stage_record(batch, RecordKey::HardState(shard), &state);
        // Only a shard that was here before can have runs left. A range deletion is cheap, but
        // every reader of the family has to check it.
        if writer.records.contains_key(&shard) {
            self.stage_clear(writer, batch, shard);
        }
    }

    fn stage_clear(&self, writer: &WriterState, batch: &mut WriteBatch, shard: ShardId) {
        if let Some(family) = writer.families.of(shard) {
            Place { db: self.db(), family: self.family(&family.name()), shard }.clear(batch);
        }
    }

    /// Lets readers and writers find replicas that are now durable.
    fn admit(&self, writer: &mut WriterState, replicas: &[NewReplica]) {
        let mut shards = self.shards.write();
        for replica in replicas {
            let family = writer.families.of(replica.shard).expect("placed before");
            let base = replica.base.index;
            shards.insert(replica.shard, Arc::from(family.name()));
            writer.bounds.insert(replica.shard, Bounds { base, last: base });
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

/// Refuses to create a replica over a living one, or at or below a tombstone.
fn check_new(writer: &WriterState, replicas: &[NewReplica]) -> Result<(), CreateError> {
    let mut named = FxHashSet::default();
    for NewReplica { shard, replica, .. } in replicas {
        let shard = *shard;
        if !named.insert(shard) {
            return Err(CreateError::Exists { shard, found: *replica });
        }
        match writer.records.get(&shard) {
            Some(record) if !record.tombstone => {
                return Err(CreateError::Exists { shard, found: record.replica });
            }
            Some(record) if record.replica >= *replica => {
                let buried = record.replica;
                return Err(CreateError::Buried { shard, found: *replica, buried });
            }
            _ => {}
        }
    }
    Ok(())
}
