//! Reads the data store for a request. Blocks for as long as the disk does.

use bytes::Bytes;
use quorate_machine::MetaMap;
use quorate_types::{SpaceId, limits};

use crate::calls::read::{ReadRequest, ReadResponse};
use crate::store::data_store::{DataStore, Found};

/// Keys that a read passes between two checks whether its caller still waits.
const KEYS_BETWEEN: u64 = 256;

/// How far a read may go.
pub(crate) struct Reach<'a> {
    /// True once no caller waits for the answer.
    pub(crate) ended: &'a dyn Fn() -> bool,
    /// A count ends after [`limits::WALK_KEYS_MAX`] keys or [`limits::WALK_BYTES_MAX`] bytes, and says
    /// where to continue.
    pub(crate) is_bounded: bool,
}

impl<'a> Reach<'a> {
    /// As far as the request asks.
    pub(crate) fn whole(ended: &'a dyn Fn() -> bool) -> Reach<'a> {
        Reach { ended, is_bounded: false }
    }
}

/// The response; `None` if the read ended early because no caller waits.
pub(crate) fn look(
    data: &DataStore,
    space: SpaceId,
    request: &ReadRequest,
    reach: &Reach<'_>,
) -> Result<Option<ReadResponse>, rocksdb::Error> {
    match request {
        ReadRequest::Get { keys, bytes_max } => {
            Ok(Some(match data.get_within(space, keys, *bytes_max)? {
                Found::All(values) => ReadResponse::Values(values),
                Found::Lengths(lengths) => ReadResponse::Lengths(lengths),
            }))
        }
        ReadRequest::Scan { start, end, limit, bytes_max, values } => {
            let mut page = Page { bytes_max: *bytes_max, limit: *limit, ..Page::default() };
            data.scan(space, start, end.as_deref(), &mut |key, value| {
                page.take(key, values.then_some(value))
            })?;
            let Page { keys, pairs, more, .. } = page;
            Ok(Some(match values {
                true => ReadResponse::Pairs { pairs, more },
                false => ReadResponse::Keys { keys, more },
            }))
        }
        ReadRequest::Count { start, end } => count(data, space, (start, end.as_deref()), reach),
        ReadRequest::Map { known } if map_revision(data, space)? == *known => {
            Ok(Some(ReadResponse::Map(None)))
        }
        ReadRequest::Map { .. } => map(data, space).map(Some),
    }
}

/// Pairs or keys of a range, until a bound is reached.
#[derive(Default)]
struct Page {
    limit: usize,
    bytes_max: usize,
    bytes: usize,
    pairs: Vec<(Bytes, Bytes)>,
    keys: Vec<Bytes>,
    more: bool,
}

impl Page {
    /// Adds a pair, or only its key, unless the page is full; false once it is.
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        let copy = Bytes::copy_from_slice;
        let taken = self.pairs.len() + self.keys.len();
        let bytes = self.bytes + key.len() + value.map_or(0, <[u8]>::len);
        let held = bytes + (taken + 1) * limits::READ_PAIR_BYTES;
        let is_too_much = bytes > self.bytes_max || held > limits::READ_PAGE_BYTES_MAX;
        // One is always added, so that a caller that continues after the last one makes progress.
        if taken == self.limit || (taken > 0 && is_too_much) {
            self.more = taken > 0;
            return false;
        }
        self.bytes = bytes;
        match value {
            Some(value) => self.pairs.push((copy(key), copy(value))),
            None => self.keys.push(copy(key)),
        }
        true
    }
}

fn count(
    data: &DataStore,
    space: SpaceId,
    (start, end): (&[u8], Option<&[u8]>),
    reach: &Reach<'_>,
) -> Result<Option<ReadResponse>, rocksdb::Error> {
    let mut keys = 0;
    let mut bytes = 0;
    let mut next = None;
    let mut has_ended = false;
    data.scan(space, start, end, &mut |key, value| {
        if keys % KEYS_BETWEEN == 0 && (reach.ended)() {
            has_ended = true;
            return false;
        }
        let is_far = keys >= limits::WALK_KEYS_MAX || bytes >= limits::WALK_BYTES_MAX;
        if reach.is_bounded && is_far {
            next = Some(Bytes::copy_from_slice(key));
            return false;
        }
        keys += 1;
        bytes += key.len() + value.len();
        true
    })?;
    Ok((!has_ended).then_some(ReadResponse::Count { keys, next }))
}

/// The meta shard's revision, from its head; 0 before it is founded.
fn map_revision(data: &DataStore, space: SpaceId) -> Result<u64, rocksdb::Error> {
    let head = data.get(space, MetaMap::HEAD_KEY)?;
    let head = head.iter().map(|head| (MetaMap::HEAD_KEY, &head[..]));
    Ok(MetaMap::from_pairs(head).map_or(0, |map| map.revision))
}

fn map(data: &DataStore, space: SpaceId) -> Result<ReadResponse, rocksdb::Error> {
    let mut pairs = Vec::new();
    data.scan(space, &[], None, &mut |key, value| {
        pairs.push((key.to_vec(), value.to_vec()));
        true
    })?;
    let pairs = pairs.iter().map(|(key, value)| (&key[..], &value[..]));
    // A map that can't be read here is answered like one without news; the machine that wrote it
    // has latched or will.
    Ok(ReadResponse::Map(match MetaMap::from_pairs(pairs) {
        Ok(map) => Some(map.encode().into()),
        Err(error) => {
            tracing::error!(%error, "the meta shard's data can't be read");
            None
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a page holds at most its bounds, keys counted with values, and says that there is more
    /// exactly if there is. Method: pairs of ten bytes.
    #[test]
    fn pages_keep_their_bounds() {
        let page = |limit, bytes_max, pairs: usize, values: bool| {
            let mut page = Page { limit, bytes_max, ..Page::default() };
            let took = (0..pairs).all(|_| page.take(b"four", values.then_some(b"sixsix")));
            assert_eq!(took, !page.more && limit > 0);
            (page.pairs.len() + page.keys.len(), page.more)
        };
        assert_eq!(page(9, 30, 3, true), (3, false));
        assert_eq!(page(9, 30, 4, true), (3, true));
        assert_eq!(page(9, 29, 4, true), (2, true));
        assert_eq!(page(9, 29, 9, false), (7, true), "values that nobody wants weigh nothing");
        assert_eq!(page(2, 99, 2, true), (2, false));
        assert_eq!(page(2, 99, 3, true), (2, true));
        assert_eq!(page(9, 1, 2, true), (1, true), "one always comes");
        assert_eq!(page(0, 99, 2, true), (0, false));
    }

    /// Goal: a page of the shortest pairs or keys is bounded in memory, and another node can read it.
    /// Method: more of them than there may be elements, with no bound but the page's own.
    #[test]
    fn short_pairs_come_in_pages() {
        for value in [Some(&b""[..]), None] {
            let limit = usize::MAX;
            let mut page =
                Page { limit, bytes_max: limits::READ_PAGE_BYTES_MAX, ..Page::default() };
            let taken = (0..=1u32 << 20).take_while(|n| page.take(&n.to_be_bytes(), value)).count();
            assert!(page.more && taken > 100_000, "{taken} and then more");
            assert!(taken * (4 + limits::READ_PAIR_BYTES) <= limits::READ_PAGE_BYTES_MAX);
            let Page { pairs, keys, more, .. } = page;
            let response = match value {
                Some(_) => ReadResponse::Pairs { pairs, more },
                None => ReadResponse::Keys { keys, more },
            };
            let bytes = crate::peer::read_codec::encode_response(&response);
            assert_eq!(crate::peer::read_codec::decode_response(bytes), Ok(response));
        }
    }

    /// Goal: a scan that no caller waits for ends. Method: a store of a thousand keys.
    #[test]
    fn a_walk_ends_with_its_caller() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = DataStore::open(directory.path(), true).expect("opens");
        let space = SpaceId(7);
        let mut batch = rocksdb::WriteBatch::default();
        for number in 0..1_000u64 {
            batch.put(crate::store::layout::user_key(space, &number.to_be_bytes()), b"v");
        }
        data.write(&batch).expect("written");
        let request = ReadRequest::Count { start: Bytes::new(), end: None };
        let asked = std::cell::Cell::new(0);
        let count = |turns: u32| {
            asked.set(0);
            let ended = || {
                asked.set(asked.get() + 1);
                asked.get() > turns
            };
            look(&data, space, &request, &Reach::whole(&ended)).expect("readable")
        };
        assert_eq!(count(9), Some(ReadResponse::Count { keys: 1_000, next: None }));
        assert_eq!(asked.get(), 4);
        assert_eq!(count(2), None);
        assert_eq!(asked.get(), 3, "it ended at once");
    }
}
