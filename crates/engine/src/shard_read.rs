//! Questions to one shard's data, and their bytes when another node has to answer them.
//!
//! A field is a u32 length and its bytes; an optional one is led by u8 0 or 1, a list by a u32 count.
//!
//! Question: kind u8 (1 get, 2 scan, 3 count, 4 map), level u8 (0 linearizable, 1 stale), then for a
//! get bytes_max u64 and a list of keys; for a scan start, optional end, limit u64, bytes_max u64 and
//! u8 1 if the values are wanted, else 0; for a count start and optional end; for the map the
//! revision known u64.
//!
//! Answer: kind u8; 1 values, a list of optional fields; 2 pairs, u8 1 if the range goes on behind
//! them, and a list of two fields; 3 a number u64 and optional field, where to go on; 4 the map, an
//! optional field; 5 lengths, a list of optional u64; 6 as 2, keys alone. Little-endian.

use bytes::Bytes;
use quorate_types::{ByteReader, CutShort, limits, put_count, put_field, put_optional_field};

use crate::forward::ForwardError;
use crate::reads::ReadLevel;

/// Elements that one answer may hold.
const ELEMENTS_MAX: usize = 1 << 20;

const _: () = assert!(
    limits::READ_PAGE_BYTES_MAX / limits::READ_PAIR_BYTES < ELEMENTS_MAX,
    "a page of the shortest pairs can be read"
);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
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

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Facts {
    /// Values in the order of the keys asked for.
    Values(Vec<Option<Bytes>>),
    /// They have too many bytes: how long each is.
    Lengths(Vec<Option<u64>>),
    /// Pairs in key order; `more` if the range goes on behind them.
    Pairs { pairs: Vec<(Bytes, Bytes)>, more: bool },
    /// Keys in order; `more` if the range goes on behind them.
    Keys { keys: Vec<Bytes>, more: bool },
    /// A number of keys, and where to go on counting.
    Count { keys: u64, next: Option<Bytes> },
    /// An encoded `MetaMap`, if it was news.
    Map(Option<Bytes>),
}

impl Question {
    /// Bytes of keys and values that the answer may hold.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        match self {
            Question::Get { bytes_max, .. } => *bytes_max,
            // One pair, or key, may be longer than the bound.
            Question::Scan { bytes_max, values: true, .. } => *bytes_max + limits::ENTRY_BYTES_MAX,
            Question::Scan { bytes_max, values: false, .. } => *bytes_max + limits::KEY_BYTES_MAX,
            Question::Count { .. } | Question::Map { .. } => 0,
        }
    }

    /// The question for values of at most `bytes` together, if it is for values by key.
    pub(crate) fn within(mut self, bytes: usize) -> Question {
        if let Question::Get { bytes_max, .. } = &mut self {
            *bytes_max = (*bytes_max).min(bytes);
        }
        self
    }

    /// The question whose answer fits a frame.
    pub(crate) fn within_frame(mut self) -> Question {
        if let Question::Get { bytes_max, .. } | Question::Scan { bytes_max, .. } = &mut self {
            *bytes_max = (*bytes_max).min(limits::READ_PAGE_BYTES_MAX);
        }
        self
    }
}

impl Facts {
    /// True if this can be the answer to `question`. What comes from another node may be anything.
    pub(crate) fn fits(&self, question: &Question) -> bool {
        match (question, self) {
            (Question::Get { keys, bytes_max }, Facts::Values(values)) => {
                let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
                keys.len() == values.len() && bytes <= *bytes_max
            }
            (Question::Get { keys, .. }, Facts::Lengths(lengths)) => keys.len() == lengths.len(),
            // What goes on must have got on.
            (Question::Scan { limit, values: true, .. }, Facts::Pairs { pairs, more }) => {
                pairs.len() <= *limit && !(*more && pairs.is_empty())
            }
            (Question::Scan { limit, values: false, .. }, Facts::Keys { keys, more }) => {
                keys.len() <= *limit && !(*more && keys.is_empty())
            }
            (Question::Count { start, .. }, Facts::Count { next, .. }) => {
                next.as_ref().is_none_or(|next| next > start)
            }
            (Question::Map { .. }, Facts::Map(_)) => true,
            _ => false,
        }
    }
}

/// A bound, as many as fit the machine if it is more.
fn read_size(reader: &mut ByteReader<Bytes>) -> Result<usize, ForwardError> {
    Ok(usize::try_from(reader.u64()?).unwrap_or(usize::MAX))
}

/// A count that the rest of the bytes can hold, at one byte an element or more.
fn read_count(reader: &mut ByteReader<Bytes>) -> Result<usize, ForwardError> {
    let count = reader.u32()? as usize;
    if count > ELEMENTS_MAX || count > reader.remaining() {
        return Err(ForwardError("more elements than bytes"));
    }
    Ok(count)
}

fn finish<T>(reader: &ByteReader<Bytes>, value: T) -> Result<T, ForwardError> {
    if reader.is_empty() { Ok(value) } else { Err(ForwardError("trailing bytes")) }
}

pub(crate) fn encode_question(question: &Question, level: ReadLevel) -> Bytes {
    let mut out = Vec::new();
    let level = match level {
        ReadLevel::Linearizable => 0,
        ReadLevel::Stale => 1,
    };
    match question {
        Question::Get { keys, bytes_max } => {
            out.extend_from_slice(&[1, level]);
            out.extend_from_slice(&(*bytes_max as u64).to_le_bytes());
            put_count(&mut out, keys.len());
            keys.iter().for_each(|key| put_field(&mut out, key));
        }
        Question::Scan { start, end, limit, bytes_max, values } => {
            out.extend_from_slice(&[2, level]);
            put_field(&mut out, start);
            put_optional_field(&mut out, end.as_deref());
            out.extend_from_slice(&(*limit as u64).to_le_bytes());
            out.extend_from_slice(&(*bytes_max as u64).to_le_bytes());
            out.push(u8::from(*values));
        }
        Question::Count { start, end } => {
            out.extend_from_slice(&[3, level]);
            put_field(&mut out, start);
            put_optional_field(&mut out, end.as_deref());
        }
        Question::Map { known } => {
            out.extend_from_slice(&[4, level]);
            out.extend_from_slice(&known.to_le_bytes());
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_question(bytes: Bytes) -> Result<(Question, ReadLevel), ForwardError> {
    let mut reader = ByteReader::new(bytes);
    let kind = reader.u8()?;
    let level = match reader.u8()? {
        0 => ReadLevel::Linearizable,
        1 => ReadLevel::Stale,
        _ => return Err(ForwardError("unknown level of read")),
    };
    let question = match kind {
        1 => {
            let bytes_max = read_size(&mut reader)?;
            let count = read_count(&mut reader)?;
            let keys: Result<_, CutShort> = (0..count).map(|_| reader.field()).collect();
            Question::Get { keys: keys?, bytes_max }
        }
        2 => Question::Scan {
            start: reader.field()?,
            end: reader.optional_field()?,
            limit: read_size(&mut reader)?,
            bytes_max: read_size(&mut reader)?,
            values: reader.u8()? != 0,
        },
        3 => Question::Count { start: reader.field()?, end: reader.optional_field()? },
        4 => Question::Map { known: reader.u64()? },
        _ => return Err(ForwardError("unknown kind of read")),
    };
    finish(&reader, (question, level))
}

/// Bytes of the answer, near enough to make room for it at once.
fn facts_bytes(facts: &Facts) -> usize {
    8 + match facts {
        Facts::Values(values) => {
            values.iter().map(|value| 5 + value.as_ref().map_or(0, Bytes::len)).sum()
        }
        Facts::Lengths(lengths) => lengths.len() * 9,
        Facts::Pairs { pairs, .. } => {
            pairs.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
        }
        Facts::Keys { keys, .. } => keys.iter().map(|key| 4 + key.len()).sum(),
        Facts::Count { next, .. } => 8 + next.as_ref().map_or(0, Bytes::len),
        Facts::Map(map) => map.as_ref().map_or(0, Bytes::len),
    }
}

pub(crate) fn encode_facts(facts: &Facts) -> Bytes {
    let mut out = Vec::with_capacity(facts_bytes(facts));
    match facts {
        Facts::Values(values) => {
            out.push(1);
            put_count(&mut out, values.len());
            values.iter().for_each(|value| put_optional_field(&mut out, value.as_deref()));
        }
        Facts::Pairs { pairs, more } => {
            out.extend_from_slice(&[2, u8::from(*more)]);
            put_count(&mut out, pairs.len());
            for (key, value) in pairs {
                put_field(&mut out, key);
                put_field(&mut out, value);
            }
        }
        Facts::Count { keys, next } => {
            out.push(3);
            out.extend_from_slice(&keys.to_le_bytes());
            put_optional_field(&mut out, next.as_deref());
        }
        Facts::Map(map) => {
            out.push(4);
            put_optional_field(&mut out, map.as_deref());
        }
        Facts::Lengths(lengths) => {
            out.push(5);
            put_count(&mut out, lengths.len());
            for length in lengths {
                out.push(u8::from(length.is_some()));
                if let Some(length) = length {
                    out.extend_from_slice(&length.to_le_bytes());
                }
            }
        }
        Facts::Keys { keys, more } => {
            out.extend_from_slice(&[6, u8::from(*more)]);
            put_count(&mut out, keys.len());
            keys.iter().for_each(|key| put_field(&mut out, key));
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_facts(bytes: Bytes) -> Result<Facts, ForwardError> {
    let mut reader = ByteReader::new(bytes);
    let facts = match reader.u8()? {
        1 => {
            let count = read_count(&mut reader)?;
            let values: Result<_, CutShort> = (0..count).map(|_| reader.optional_field()).collect();
            Facts::Values(values?)
        }
        2 => {
            let more = reader.u8()? != 0;
            let count = read_count(&mut reader)?;
            let pairs: Result<_, CutShort> =
                (0..count).map(|_| Ok((reader.field()?, reader.field()?))).collect();
            Facts::Pairs { pairs: pairs?, more }
        }
        3 => Facts::Count { keys: reader.u64()?, next: reader.optional_field()? },
        4 => Facts::Map(reader.optional_field()?),
        5 => {
            let count = read_count(&mut reader)?;
            let length = |reader: &mut ByteReader<Bytes>| match reader.u8()? {
                0 => Ok(None),
                _ => reader.u64().map(Some),
            };
            let lengths: Result<_, CutShort> = (0..count).map(|_| length(&mut reader)).collect();
            Facts::Lengths(lengths?)
        }
        6 => {
            let more = reader.u8()? != 0;
            let count = read_count(&mut reader)?;
            let keys: Result<_, CutShort> = (0..count).map(|_| reader.field()).collect();
            Facts::Keys { keys: keys?, more }
        }
        _ => return Err(ForwardError("unknown kind of answer to a read")),
    };
    finish(&reader, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn questions_and_facts_survive_their_bytes() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        for question in [
            Question::Get { keys: vec![key("a"), key("")], bytes_max: 5 },
            Question::Scan { start: key("a"), end: None, limit: 7, bytes_max: 8, values: true },
            Question::Scan { start: key("a"), end: None, limit: 7, bytes_max: 8, values: false },
            Question::Count { start: key("a"), end: Some(key("z")) },
            Question::Map { known: 9 },
        ] {
            for level in [ReadLevel::Linearizable, ReadLevel::Stale] {
                let bytes = encode_question(&question, level);
                assert_eq!(decode_question(bytes), Ok((question.clone(), level)));
            }
        }
        for facts in [
            Facts::Values(vec![None, Some(key("v"))]),
            Facts::Lengths(vec![Some(1 << 40), None]),
            Facts::Pairs { pairs: vec![(key("k"), key(""))], more: true },
            Facts::Keys { keys: vec![key("k"), key("")], more: false },
            Facts::Count { keys: 3, next: Some(key("n")) },
            Facts::Count { keys: 3, next: None },
            Facts::Map(None),
            Facts::Map(Some(key("map"))),
        ] {
            assert_eq!(decode_facts(encode_facts(&facts)), Ok(facts));
        }
    }

    /// Goal: an answer that is larger than was asked for, or that would never end, is no answer.
    #[test]
    fn answers_keep_to_their_questions() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let get = Question::Get { keys: vec![key("a")], bytes_max: 2 };
        assert!(Facts::Values(vec![Some(key("vv"))]).fits(&get));
        assert!(!Facts::Values(vec![Some(key("vvv"))]).fits(&get), "too long");
        assert!(!Facts::Values(vec![]).fits(&get) && !Facts::Lengths(vec![]).fits(&get));
        let scan = Question::Scan {
            start: key("a"),
            end: None,
            limit: 1,
            bytes_max: usize::MAX,
            values: false,
        };
        assert!(Facts::Keys { keys: vec![key("a")], more: true }.fits(&scan));
        assert!(!Facts::Keys { keys: vec![], more: true }.fits(&scan), "it would not get on");
        assert!(
            !Facts::Pairs { pairs: vec![], more: false }.fits(&scan),
            "no pairs were asked for"
        );
        assert!(!Facts::Keys { keys: vec![key("a"), key("b")], more: false }.fits(&scan));
        let count = Question::Count { start: key("b"), end: None };
        assert!(Facts::Count { keys: 1, next: Some(key("c")) }.fits(&count));
        assert!(!Facts::Count { keys: 1, next: Some(key("b")) }.fits(&count), "it goes back");
        let framed = Question::Get { keys: vec![], bytes_max: usize::MAX }.within_frame();
        assert_eq!(framed.answer_bytes_max(), limits::READ_PAGE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_question(Bytes::from(bytes.clone()));
            let _ = decode_facts(Bytes::from(bytes));
        }
    }
}
