//! A snapshot that is being received.

use quorate_machine::AppliedRecord;
use quorate_types::{ByteReader, Monotonic, NodeId, ReplicaId, ShardId, SpaceId, Term};

use crate::snapshot::part::{Part, TransferId};
use crate::store::data_store::DataStore;
use crate::store::own_chunks::ChunkState;
use crate::store::space_view::{Digest, next_pair};
use crate::store::space_writer::{SpaceError, SpaceWriter};
use crate::worker::snapshots::ArrivedSnapshot;

/// Why a snapshot can't be received. Its space is deleted.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncomingError {
    #[error("it has no record of what it holds")]
    NoRecord,
    #[error("its pairs are malformed")]
    Malformed,
    #[error("its keys do not ascend")]
    Order,
    #[error("it has {found:?} where its sender has {expected:?}: bytes were changed on the way")]
    Digest { expected: Digest, found: Digest },
    #[error("it was written as {expected:?} and is read as {found:?}: the disk has changed bytes")]
    Stored { expected: Digest, found: Digest },
    #[error("its sender's state machine keeps no store of its own, and the one here does")]
    NoChunks,
    #[error("the node stops")]
    Stopped,
    #[error("writing it: {0}")]
    Space(#[from] SpaceError),
}

/// How far it has come.
pub(super) enum Stage<'a> {
    /// Parts arrive, and are written into a space that is not in the store yet.
    Arriving(SpaceWriter<'a>),
    /// It is complete and durable, and its replica is told to install it.
    Installing,
}

/// A snapshot on its way to a replica here.
pub(super) struct Incoming<'a> {
    pub(super) transfer: TransferId,
    pub(super) sender: NodeId,
    pub(super) from: ReplicaId,
    pub(super) term: Term,
    pub(super) to: ReplicaId,
    pub(super) space: SpaceId,
    pub(super) record: AppliedRecord,
    pub(super) stage: Stage<'a>,
    /// The number of the part that comes next.
    pub(super) next: u32,
    /// When a part last came.
    pub(super) heard: Monotonic,
    digest: Digest,
    last_key: Option<Vec<u8>>,
}

impl<'a> Incoming<'a> {
    /// Begins with the first part, whose pairs are still to be taken in.
    pub(super) fn begin(
        data: &'a DataStore,
        space: SpaceId,
        sender: NodeId,
        part: &Part,
        now: Monotonic,
    ) -> Result<Incoming<'a>, IncomingError> {
        let record = part.record.clone().ok_or(IncomingError::NoRecord)?;
        Ok(Incoming {
            transfer: part.transfer,
            sender,
            from: part.from,
            term: part.term,
            to: part.to,
            space,
            stage: Stage::Arriving(SpaceWriter::begin(data, space, &record)?),
            record,
            next: 0,
            heard: now,
            digest: Digest::default(),
            last_key: None,
        })
    }

    /// Takes in the part that comes next. True if it was the last: then everything is durable, and
    /// was read back as it was sent. Blocks for the disk, and calls `meanwhile` now and then, which
    /// returns false to end this.
    pub(super) fn take(
        &mut self,
        data: &DataStore,
        part: &Part,
        meanwhile: &mut dyn FnMut() -> bool,
    ) -> Result<bool, IncomingError> {
        let Stage::Arriving(writer) = &mut self.stage else { return Ok(false) };
        let mut reader = ByteReader::new(&part.pairs[..]);
        let mut count = 0;
        while let Some((key, value)) =
            next_pair(&mut reader).map_err(|_| IncomingError::Malformed)?
        {
            // A table file takes keys in their order only.
            if self.last_key.as_deref().is_some_and(|last| last >= key) {
                return Err(IncomingError::Order);
            }
            writer.put(key, value)?;
            self.last_key = Some(key.to_vec());
            count += 1;
        }
        self.digest.add(count, &part.pairs);
        self.next += 1;
        let Some(expected) = part.digest else { return Ok(false) };
        if expected != self.digest {
            return Err(IncomingError::Digest { expected, found: self.digest });
        }
        let written = std::mem::replace(&mut self.stage, Stage::Installing);
        let Stage::Arriving(writer) = written else { unreachable!("looked at above") };
        writer.ingest()?;
        let found = data.digest(self.space, meanwhile).map_err(SpaceError::Data)?;
        let found = found.ok_or(IncomingError::Stopped)?;
        if expected != found {
            return Err(IncomingError::Stored { expected, found });
        }
        Ok(true)
    }

    /// Whether everything that has arrived is the chunks of an own store.
    pub(super) fn check_chunks(&self, data: &DataStore) -> Result<(), IncomingError> {
        match data.chunk_state(self.space).map_err(SpaceError::Data)? {
            ChunkState::Complete => Ok(()),
            ChunkState::None | ChunkState::Installed => Err(IncomingError::NoChunks),
        }
    }

    /// What the replica's worker needs to install it.
    pub(super) fn arrived(&self, shard: ShardId) -> ArrivedSnapshot {
        ArrivedSnapshot {
            shard,
            to: self.to,
            from: self.from,
            term: self.term,
            record: self.record.clone(),
            space: self.space,
        }
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
