//! Snapshots of state machines that keep stores of their own, as the data store holds them between
//! their arrival and their install.
//!
//! The chunks are the pairs of the replica's space, under their numbers, and a last pair says how many
//! there are. That one stays once the chunks are installed and deleted: it tells that the replica's
//! data is not, and never was, in this space.
//!
//! ```text
//! number u64    the chunk
//! 2^64 - 1      how many chunks there are, u64 little-endian
//! ```
//!
//! Keys are big-endian, so that the order of keys is the order of chunks.

use bytes::Bytes;
use quorate_machine::{OwnStore, SnapshotChunks, StoreFault};
use quorate_types::SpaceId;
use rocksdb::WriteBatch;

use crate::store::data_store::{DataError, DataStore};
use crate::store::layout::user_key;
use crate::store::space_view::{Pairs, put_pair};

/// Key of the pair that ends the chunks.
const END: [u8; 8] = [0xff; 8];

/// What a space holds of a snapshot of an own store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkState {
    /// Nothing: there was none, or the space is of a machine that writes into the engine's map.
    None,
    /// The whole snapshot, to be installed.
    Complete,
    /// It was installed, and is deleted.
    Installed,
}

/// Adds chunk `number`.
pub(crate) fn put_chunk(pairs: &mut Pairs, number: u64, chunk: &[u8]) {
    put_pair(&mut pairs.bytes, &key_of(number), chunk);
    pairs.count += 1;
}

/// Adds the pair that ends `count` chunks.
pub(crate) fn put_end(pairs: &mut Pairs, count: u64) {
    put_pair(&mut pairs.bytes, &END, &count.to_le_bytes());
    pairs.count += 1;
}

/// Key of chunk `number`.
pub(crate) fn key_of(number: u64) -> [u8; 8] {
    assert!(number < u64::MAX, "the last number is kept for the end");
    number.to_be_bytes()
}

impl DataStore {
    /// An error of a read of this store, in the words of an own store.
    pub(crate) fn fault_of(&self, error: &DataError) -> StoreFault {
        match self.note_damage(error) {
            true => StoreFault::Damaged(error.to_string()),
            false => StoreFault::Failed(error.to_string()),
        }
    }

    /// What `space` holds of a snapshot of an own store.
    pub(crate) fn chunk_state(&self, space: SpaceId) -> Result<ChunkState, DataError> {
        let Some(count) = self.chunk_count(space)? else { return Ok(ChunkState::None) };
        // A snapshot without chunks is installed again at each start: that costs nothing.
        let is_complete = count == 0 || self.get(space, &key_of(0))?.is_some();
        Ok(if is_complete { ChunkState::Complete } else { ChunkState::Installed })
    }

    fn chunk_count(&self, space: SpaceId) -> Result<Option<u64>, DataError> {
        let value = self.get(space, &END)?;
        // A longer value is a user's, of a machine that writes into the engine's map.
        Ok(value.and_then(|value| Some(u64::from_le_bytes(value[..].try_into().ok()?))))
    }

    /// Puts the snapshot in `space` into `store`, with `record`. Blocks for both. Calls `meanwhile`
    /// at each chunk, which returns false to end this.
    pub(crate) fn install_chunks(
        &self,
        space: SpaceId,
        store: &mut dyn OwnStore,
        record: &[u8],
        meanwhile: &mut dyn FnMut() -> bool,
    ) -> Result<(), StoreFault> {
        let count = self.chunk_count(space).map_err(|error| self.fault_of(&error))?;
        let Some(count) = count else {
            return Err(StoreFault::Damaged("the end of its snapshot is missing".to_owned()));
        };
        store.install(record, &mut SpaceChunks { data: self, space, next: 0, count, meanwhile })
    }

    /// Deletes the chunks of a snapshot that is durable in the own store. Not durable by itself: a
    /// start deletes them again.
    pub(crate) fn delete_chunks(&self, space: SpaceId) -> Result<(), DataError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(user_key(space, &key_of(0)), user_key(space, &END));
        self.write(&batch)
    }
}

/// Reads the chunks in a space.
struct SpaceChunks<'a> {
    data: &'a DataStore,
    space: SpaceId,
    next: u64,
    count: u64,
    meanwhile: &'a mut dyn FnMut() -> bool,
}

impl SnapshotChunks for SpaceChunks<'_> {
    fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreFault> {
        if !(self.meanwhile)() {
            return Err(StoreFault::Failed("the engine stops".to_owned()));
        }
        if self.next == self.count {
            return Ok(None);
        }
        let chunk = self.data.get(self.space, &key_of(self.next));
        let chunk = chunk.map_err(|error| self.data.fault_of(&error))?;
        let (next, count) = (self.next, self.count);
        let chunk = chunk.ok_or_else(|| {
            StoreFault::Damaged(format!("chunk {next} of {count} of its snapshot is missing"))
        })?;
        self.next += 1;
        Ok(Some(chunk))
    }
}
