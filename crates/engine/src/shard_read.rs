//! Questions to one shard's data, and their bytes when another node has to answer them.
//!
//! Question: kind u8 (1 get, 2 scan, 3 count, 4 map), level u8 (0 linearizable, 1 stale), then the keys
//! (u32 count, fields) or start (field), end (u8 0, or 1 and a field) and limit u64, or the revision
//! known u64. A field is a u32 length and its bytes. Answer: kind u8 (1 values, 2 pairs, 3 number),
//! u32 count, elements; or 4 and the map (u8 0, or 1 and a field). Little-endian.

use bytes::Bytes;
use quorate_types::limits;

use crate::forward::ForwardError;
use crate::reads::ReadLevel;

/// Elements that one answer may hold.
const ELEMENTS_MAX: usize = 1 << 20;

/// Bytes of keys and values after which a scan's answer ends early; the asker goes on behind its
/// last key. Half a frame, and one pair more still fits.
pub(crate) const SCAN_BYTES_MAX: usize = limits::FRAME_BYTES_MAX / 2;

const _: () = assert!(SCAN_BYTES_MAX + limits::ENTRY_BYTES_MAX < limits::FRAME_BYTES_MAX);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// The values of these keys.
    Get(Vec<Bytes>),
    /// At most `limit` pairs of `[start, end)`, in order.
    Scan { start: Bytes, end: Option<Bytes>, limit: usize },
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
    /// Pairs in key order.
    Pairs(Vec<(Bytes, Bytes)>),
    /// A number of keys.
    Count(u64),
    /// An encoded `MetaMap`, if it was news.
    Map(Option<Bytes>),
}

impl Facts {
    /// True if this can be the answer to `question`. What comes from another node may be anything.
    pub(crate) fn fits(&self, question: &Question) -> bool {
        match (question, self) {
            (Question::Get(keys), Facts::Values(values)) => keys.len() == values.len(),
            (Question::Scan { limit, .. }, Facts::Pairs(pairs)) => pairs.len() <= *limit,
            (Question::Count { .. }, Facts::Count(_)) | (Question::Map { .. }, Facts::Map(_)) => {
                true
            }
            _ => false,
        }
    }
}

fn put_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&u32::try_from(field.len()).expect("bounded").to_le_bytes());
    out.extend_from_slice(field);
}

fn put_optional(out: &mut Vec<u8>, field: Option<&Bytes>) {
    out.push(u8::from(field.is_some()));
    if let Some(field) = field {
        put_field(out, field);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("bounded").to_le_bytes());
}

/// Takes fields off the front of shared bytes.
struct Reader<'a>(&'a mut Bytes);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<Bytes, ForwardError> {
        if len > self.0.len() {
            return Err(ForwardError("cut short"));
        }
        Ok(self.0.split_to(len))
    }

    fn u8(&mut self) -> Result<u8, ForwardError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<usize, ForwardError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes[..].try_into().expect("four bytes")) as usize)
    }

    fn u64(&mut self) -> Result<u64, ForwardError> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes[..].try_into().expect("eight bytes")))
    }

    fn field(&mut self) -> Result<Bytes, ForwardError> {
        let len = self.u32()?;
        self.take(len)
    }

    fn optional(&mut self) -> Result<Option<Bytes>, ForwardError> {
        if self.u8()? == 0 { Ok(None) } else { self.field().map(Some) }
    }

    /// A count that the rest of the bytes can hold, at one byte an element or more.
    fn count(&mut self) -> Result<usize, ForwardError> {
        let count = self.u32()?;
        if count > ELEMENTS_MAX || count > self.0.len() {
            return Err(ForwardError("more elements than bytes"));
        }
        Ok(count)
    }
}

fn finish<T>(rest: &Bytes, value: T) -> Result<T, ForwardError> {
    if rest.is_empty() { Ok(value) } else { Err(ForwardError("trailing bytes")) }
}

pub(crate) fn encode_question(question: &Question, level: ReadLevel) -> Bytes {
    let mut out = Vec::new();
    let level = match level {
        ReadLevel::Linearizable => 0,
        ReadLevel::Stale => 1,
    };
    match question {
        Question::Get(keys) => {
            out.extend_from_slice(&[1, level]);
            put_count(&mut out, keys.len());
            keys.iter().for_each(|key| put_field(&mut out, key));
        }
        Question::Scan { start, end, limit } => {
            out.extend_from_slice(&[2, level]);
            put_field(&mut out, start);
            put_optional(&mut out, end.as_ref());
            out.extend_from_slice(&(*limit as u64).to_le_bytes());
        }
        Question::Count { start, end } => {
            out.extend_from_slice(&[3, level]);
            put_field(&mut out, start);
            put_optional(&mut out, end.as_ref());
        }
        Question::Map { known } => {
            out.extend_from_slice(&[4, level]);
            out.extend_from_slice(&known.to_le_bytes());
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_question(mut bytes: Bytes) -> Result<(Question, ReadLevel), ForwardError> {
    let mut reader = Reader(&mut bytes);
    let kind = reader.u8()?;
    let level = match reader.u8()? {
        0 => ReadLevel::Linearizable,
        1 => ReadLevel::Stale,
        _ => return Err(ForwardError("unknown level of read")),
    };
    let question = match kind {
        1 => {
            let count = reader.count()?;
            let keys: Result<_, _> = (0..count).map(|_| reader.field()).collect();
            Question::Get(keys?)
        }
        2 => Question::Scan {
            start: reader.field()?,
            end: reader.optional()?,
            limit: usize::try_from(reader.u64()?).unwrap_or(usize::MAX),
        },
        3 => Question::Count { start: reader.field()?, end: reader.optional()? },
        4 => Question::Map { known: reader.u64()? },
        _ => return Err(ForwardError("unknown kind of read")),
    };
    finish(&bytes, (question, level))
}

pub(crate) fn encode_facts(facts: &Facts) -> Bytes {
    let mut out = Vec::new();
    match facts {
        Facts::Values(values) => {
            out.push(1);
            put_count(&mut out, values.len());
            values.iter().for_each(|value| put_optional(&mut out, value.as_ref()));
        }
        Facts::Pairs(pairs) => {
            out.push(2);
            put_count(&mut out, pairs.len());
            for (key, value) in pairs {
                put_field(&mut out, key);
                put_field(&mut out, value);
            }
        }
        Facts::Count(count) => {
            out.push(3);
            out.extend_from_slice(&count.to_le_bytes());
        }
        Facts::Map(map) => {
            out.push(4);
            put_optional(&mut out, map.as_ref());
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_facts(mut bytes: Bytes) -> Result<Facts, ForwardError> {
    let mut reader = Reader(&mut bytes);
    let facts = match reader.u8()? {
        1 => {
            let count = reader.count()?;
            let values: Result<_, _> = (0..count).map(|_| reader.optional()).collect();
            Facts::Values(values?)
        }
        2 => {
            let count = reader.count()?;
            let pairs: Result<_, _> =
                (0..count).map(|_| Ok((reader.field()?, reader.field()?))).collect();
            Facts::Pairs(pairs?)
        }
        3 => Facts::Count(reader.u64()?),
        4 => Facts::Map(reader.optional()?),
        _ => return Err(ForwardError("unknown kind of answer to a read")),
    };
    finish(&bytes, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn questions_and_facts_survive_their_bytes() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        for question in [
            Question::Get(vec![key("a"), key("")]),
            Question::Scan { start: key("a"), end: None, limit: 7 },
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
            Facts::Pairs(vec![(key("k"), key(""))]),
            Facts::Count(3),
            Facts::Map(None),
            Facts::Map(Some(key("map"))),
        ] {
            assert_eq!(decode_facts(encode_facts(&facts)), Ok(facts));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_question(Bytes::from(bytes.clone()));
            let _ = decode_facts(Bytes::from(bytes));
        }
    }
}
