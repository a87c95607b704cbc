//! The read requests to one shard, and their responses.

use bytes::Bytes;
use quorate_types::limits;
use serde::Serialize;

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ReadLevel {
    /// Sees every write that was answered before the read began (ReadIndex, thesis 6.4). Works on
    /// any replica; costs one round between leader and quorum, shared by all waiting reads.
    #[default]
    Linearizable,
    /// Sees what the replica here has applied, without asking other nodes: may lag by any time.
    Stale,
}

/// A read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadRequest {
    /// The values of these keys, or how long each is if they have more than `bytes_max` bytes.
    Get { keys: Vec<Bytes>, bytes_max: usize },
    /// At most `limit` pairs of `[start, end)`, in order; fewer, but one at least, if they would have
    /// more than `bytes_max` bytes. Without `values`, keys alone.
    Scan { start: Bytes, end: Option<Bytes>, limit: usize, bytes_max: usize, values: bool },
    /// How many keys lie in `[start, end)`.
    Count { start: Bytes, end: Option<Bytes> },
    /// The cluster's map, unless it is at revision `known`; of the meta shard only.
    Map { known: u64 },
}

/// The response to a read request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadResponse {
    /// Values in the order of the keys asked for.
    Values(Vec<Option<Bytes>>),
    /// They have too many bytes: how long each is.
    Lengths(Vec<Option<u64>>),
    /// Pairs in key order; `more` if the range continues after them.
    Pairs { pairs: Vec<(Bytes, Bytes)>, more: bool },
    /// Keys in order; `more` if the range continues after them.
    Keys { keys: Vec<Bytes>, more: bool },
    /// A number of keys, and the key from which to continue counting.
    Count { keys: u64, next: Option<Bytes> },
    /// An encoded `MetaMap`, unless its revision was known already.
    Map(Option<Bytes>),
}

impl ReadRequest {
    /// Most bytes of keys and values that the answer may hold.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        match self {
            ReadRequest::Get { bytes_max, .. } => *bytes_max,
            // One pair, or key, may be longer than the bound.
            ReadRequest::Scan { bytes_max, values: true, .. } => {
                *bytes_max + limits::ENTRY_BYTES_MAX
            }
            ReadRequest::Scan { bytes_max, values: false, .. } => {
                *bytes_max + limits::KEY_BYTES_MAX
            }
            ReadRequest::Count { .. } | ReadRequest::Map { .. } => 0,
        }
    }

    /// The request for values of at most `bytes` together, if it is for values by key.
    pub(crate) fn within(mut self, bytes: usize) -> ReadRequest {
        if let ReadRequest::Get { bytes_max, .. } = &mut self {
            *bytes_max = (*bytes_max).min(bytes);
        }
        self
    }

    /// The request whose answer fits a frame.
    pub(crate) fn within_frame(mut self) -> ReadRequest {
        if let ReadRequest::Get { bytes_max, .. } | ReadRequest::Scan { bytes_max, .. } = &mut self
        {
            *bytes_max = (*bytes_max).min(limits::READ_PAGE_BYTES_MAX);
        }
        self
    }
}

impl ReadResponse {
    /// True if this can be the answer to `request`: another node may send anything.
    pub(crate) fn fits(&self, request: &ReadRequest) -> bool {
        match (request, self) {
            (ReadRequest::Get { keys, bytes_max }, ReadResponse::Values(values)) => {
                let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
                keys.len() == values.len() && bytes <= *bytes_max
            }
            (ReadRequest::Get { keys, .. }, ReadResponse::Lengths(lengths)) => {
                keys.len() == lengths.len()
            }
            // An answer that says where to continue must have made progress.
            (
                ReadRequest::Scan { limit, values: true, .. },
                ReadResponse::Pairs { pairs, more },
            ) => pairs.len() <= *limit && !(*more && pairs.is_empty()),
            (ReadRequest::Scan { limit, values: false, .. }, ReadResponse::Keys { keys, more }) => {
                keys.len() <= *limit && !(*more && keys.is_empty())
            }
            (ReadRequest::Count { start, .. }, ReadResponse::Count { next, .. }) => {
                next.as_ref().is_none_or(|next| next > start)
            }
            (ReadRequest::Map { .. }, ReadResponse::Map(_)) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an answer that is larger than requested, or that would never end, is rejected.
    #[test]
    fn answers_keep_to_their_questions() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let get = ReadRequest::Get { keys: vec![key("a")], bytes_max: 2 };
        assert!(ReadResponse::Values(vec![Some(key("vv"))]).fits(&get));
        assert!(!ReadResponse::Values(vec![Some(key("vvv"))]).fits(&get), "too long");
        assert!(
            !ReadResponse::Values(vec![]).fits(&get) && !ReadResponse::Lengths(vec![]).fits(&get)
        );
        let scan = ReadRequest::Scan {
            start: key("a"),
            end: None,
            limit: 1,
            bytes_max: usize::MAX,
            values: false,
        };
        assert!(ReadResponse::Keys { keys: vec![key("a")], more: true }.fits(&scan));
        assert!(
            !ReadResponse::Keys { keys: vec![], more: true }.fits(&scan),
            "it would not get on"
        );
        assert!(
            !ReadResponse::Pairs { pairs: vec![], more: false }.fits(&scan),
            "no pairs were asked for"
        );
        assert!(!ReadResponse::Keys { keys: vec![key("a"), key("b")], more: false }.fits(&scan));
        let count = ReadRequest::Count { start: key("b"), end: None };
        assert!(ReadResponse::Count { keys: 1, next: Some(key("c")) }.fits(&count));
        assert!(
            !ReadResponse::Count { keys: 1, next: Some(key("b")) }.fits(&count),
            "it goes back"
        );
        let framed = ReadRequest::Get { keys: vec![], bytes_max: usize::MAX }.within_frame();
        assert_eq!(framed.answer_bytes_max(), limits::READ_PAGE_BYTES_MAX);
    }
}
