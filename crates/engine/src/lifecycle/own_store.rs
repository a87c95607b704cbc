//! Joins a state machine's own store with the log, when its engine is opened.

use quorate_machine::{AppliedRecord, OwnStore, StoreFault};
use quorate_types::{LogId, ShardId, SpaceId};

use crate::error::OpenFault;
use crate::store::data_store::{DataError, DataStore};
use crate::store::identity::StoreIdentity;
use crate::store::own_chunks::ChunkState;
use crate::store::own_record::OwnRecord;

/// A replica whose state machine keeps a store of its own.
pub(super) struct OwnReplica<'a> {
    pub(super) data: &'a DataStore,
    pub(super) identity: StoreIdentity,
    pub(super) shard: ShardId,
    pub(super) space: SpaceId,
}

/// What the replica's data can't be, other than sound.
#[derive(Debug)]
pub(super) enum OwnFault {
    /// The replica is given up: its own store has this fault, or its data has.
    Unfit(StoreFault),
    /// The start is refused.
    Refused(OpenFault),
}

impl OwnFault {
    /// A store that holds nothing, though its log relies on what it held through `through`. It may be on a
    /// volume that is not mounted, or be looked for elsewhere, so nothing is given up for good.
    pub(super) fn nothing_in_it(through: LogId) -> OwnFault {
        OwnFault::Unfit(StoreFault::Failed(format!(
            "it holds nothing, and its log relies on what it held through {through}: is a volume not \
             mounted, or its path another one? Put it back, then start the node again"
        )))
    }
}

impl OwnReplica<'_> {
    /// The record that the store stands at. `of_space` is what the replica began with here: the state
    /// before its shard's first entry, or that of the last snapshot that it got. A snapshot that is
    /// the state of the log, and is not in the store yet, is installed (RULE 13); its chunks are
    /// deleted once they are durable there. Blocks for both.
    pub(super) fn join(
        &self,
        store: &mut dyn OwnStore,
        of_space: AppliedRecord,
        is_first: bool,
    ) -> Result<AppliedRecord, OwnFault> {
        let committed = self.committed(store)?;
        let chunks = self.data.chunk_state(self.space).map_err(|error| self.space_fault(&error))?;
        match committed {
            Some(record) if record.applied.index >= of_space.applied.index => {
                if chunks == ChunkState::Complete {
                    self.delete_chunks()?;
                }
                Ok(record)
            }
            // Nothing of the shard was committed here yet.
            None if is_first => Ok(of_space),
            _ if chunks == ChunkState::Complete => {
                self.install(store, &of_space)?;
                Ok(of_space)
            }
            // Were its data in this space, the space would hold no end of chunks.
            None if chunks == ChunkState::None => Err(OwnFault::Refused(OpenFault::Stores {
                what: format!(
                    "the state machine of shard {} keeps a store of its own, and the shard's data is \
                     in the engine's data store: give it the machine that has written it",
                    self.shard
                ),
            })),
            None => Err(OwnFault::nothing_in_it(of_space.applied)),
            Some(found) => Err(OwnFault::Unfit(StoreFault::Damaged(format!(
                "it holds {}, and its log relies on a snapshot through {}",
                found.applied, of_space.applied
            )))),
        }
    }

    fn committed(&self, store: &mut dyn OwnStore) -> Result<Option<AppliedRecord>, OwnFault> {
        let Some(bytes) = store.committed().map_err(OwnFault::Unfit)? else {
            return Ok(None);
        };
        let own = OwnRecord::decode(&bytes)
            .map_err(|error| OwnFault::Unfit(StoreFault::Damaged(error.to_string())))?;
        if own.identity == self.identity && own.shard == self.shard {
            return Ok(Some(own.record));
        }
        Err(OwnFault::Refused(OpenFault::Stores {
            what: format!(
                "the own store of shard {} holds shard {} of {}, and this directory is that of {}: put \
                 the right ones together, or give a new node an empty store",
                self.shard, own.shard, own.identity, self.identity
            ),
        }))
    }

    fn install(&self, store: &mut dyn OwnStore, record: &AppliedRecord) -> Result<(), OwnFault> {
        let (shard, identity) = (self.shard, self.identity);
        tracing::info!(%shard, base = %record.applied, "a snapshot is put into an own store again");
        let record = OwnRecord { identity, shard, record: record.clone() }.encode();
        let installed = self.data.install_chunks(self.space, store, &record, &mut || true);
        installed.map_err(OwnFault::Unfit)?;
        self.delete_chunks()
    }

    fn delete_chunks(&self) -> Result<(), OwnFault> {
        self.data.delete_chunks(self.space).map_err(|error| self.space_fault(&error))
    }

    /// The fault of a replica whose space can't be read.
    fn space_fault(&self, error: &DataError) -> OwnFault {
        match self.data.note_damage(error) {
            true => OwnFault::Unfit(StoreFault::Damaged(format!("the snapshot for it: {error}"))),
            false => OwnFault::Refused(OpenFault::Data(error.to_string())),
        }
    }
}

#[cfg(test)]
#[path = "own_store_tests.rs"]
mod tests;
