//! A view of one space that stays as it was, and the digest of a space.

use quorate_machine::{AppliedRecord, AppliedRecordError};
use quorate_types::{ByteReader, CutShort, SpaceId, put_field};
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use crate::store::data_store::{DataError, DataStore};
use crate::store::layout::{PREFIX_BYTES, end_of, record_key, user_key};

/// Identifies the pairs of a space: how many there are, and a checksum of all of them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) pairs: u64,
    /// crc32c of the pairs as [`put_pair`] writes them.
    pub(crate) checksum: u32,
}

impl Digest {
    /// Adds `pairs` more, as [`put_pair`] wrote them.
    pub(crate) fn add(&mut self, pairs: u64, bytes: &[u8]) {
        self.pairs += pairs;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
    }
}

/// Appends a pair: key and value, each after its length as u32 little-endian.
pub(crate) fn put_pair(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_field(bytes, key);
    put_field(bytes, value);
}

/// A key and its value.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Reads what [`put_pair`] wrote; `None` at the end.
pub(crate) fn next_pair<'a>(
    reader: &mut ByteReader<&'a [u8]>,
) -> Result<Option<Pair<'a>>, CutShort> {
    if reader.is_empty() {
        return Ok(None);
    }
    Ok(Some((reader.field()?, reader.field()?)))
}

/// What a space held at one moment: data and record belong together.
pub(crate) struct SpaceView<'a> {
    snapshot: SnapshotWithThreadMode<'a, DB>,
    space: SpaceId,
}

/// Pairs of a view that follow each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    /// As [`put_pair`] writes them.
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u64,
    /// The first key that is not among them; `None` at the end of the space.
    pub(crate) next: Option<Vec<u8>>,
}

impl SpaceView<'_> {
    /// The applied record, if the space has one.
    pub(crate) fn record(
        &self,
    ) -> Result<Option<Result<AppliedRecord, AppliedRecordError>>, DataError> {
        let bytes = self.snapshot.get(record_key(self.space))?;
        Ok(bytes.map(|bytes| AppliedRecord::decode(&bytes)))
    }

    /// The pairs from the key `start` on: as many as fit `bytes_max`, and at least one if there is
    /// one. Blocks for the disk.
    pub(crate) fn pairs(&self, start: &[u8], bytes_max: usize) -> Result<Pairs, DataError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end_of(self.space, None));
        // Each pair is read once: it must not push out what callers read again and again.
        options.fill_cache(false);
        let mut iterator = self.snapshot.raw_iterator_opt(options);
        iterator.seek(user_key(self.space, start));
        let mut pairs = Pairs::default();
        while let Some((key, value)) = iterator.item() {
            let key = &key[PREFIX_BYTES..];
            let bytes = pairs.bytes.len() + key.len() + value.len() + 8;
            if pairs.count > 0 && bytes > bytes_max {
                pairs.next = Some(key.to_vec());
                return Ok(pairs);
            }
            put_pair(&mut pairs.bytes, key, value);
            pairs.count += 1;
            iterator.next();
        }
        iterator.status().map(|()| pairs)
    }
}

impl DataStore {
    /// A view of `space` as it is now. It holds no memory of its own, but keeps RocksDB from
    /// dropping what is overwritten meanwhile.
    pub(crate) fn view(&self, space: SpaceId) -> SpaceView<'_> {
        SpaceView { snapshot: self.db().snapshot(), space }
    }

    /// The digest of what `space` holds. Reads all of it, and so finds all that can't be read. Calls
    /// `meanwhile` after each megabyte; `None` if that returns false.
    pub(crate) fn digest(
        &self,
        space: SpaceId,
        meanwhile: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Digest>, DataError> {
        const STEP_BYTES: usize = 1 << 20;
        let view = self.view(space);
        let mut digest = Digest::default();
        let mut start = Some(Vec::new());
        while let Some(from) = start {
            let pairs = view.pairs(&from, STEP_BYTES)?;
            digest.add(pairs.count, &pairs.bytes);
            start = pairs.next;
            if start.is_some() && !meanwhile() {
                return Ok(None);
            }
        }
        Ok(Some(digest))
    }
}
