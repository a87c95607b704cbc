//! The bytes of a read request that another node answers, and of its response.
//!
//! A field is a u32 length and its bytes; an optional one is led by u8 0 or 1, a list by a u32 count.
//!
//! ReadRequest: kind u8 (1 get, 2 scan, 3 count, 4 map), level u8 (0 linearizable, 1 stale), then for a
//! get bytes_max u64 and a list of keys; for a scan start, optional end, limit u64, bytes_max u64 and
//! u8 1 if the values are wanted, else 0; for a count start and optional end; for the map the
//! revision known u64.
//!
//! Answer: kind u8; 1 values, a list of optional fields; 2 pairs, u8 1 if the range goes on behind
//! them, and a list of two fields; 3 a number u64 and optional field, where to go on; 4 the map, an
//! optional field; 5 lengths, a list of optional u64; 6 as 2, keys alone. Little-endian.

use bytes::Bytes;
use quorate_types::limits;

use crate::call::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::peer::codec::ForwardError;

/// Elements that one answer may hold.
const ELEMENTS_MAX: usize = 1 << 20;

const _: () = assert!(
    limits::READ_PAGE_BYTES_MAX / limits::READ_PAIR_BYTES < ELEMENTS_MAX,
    "a page of the shortest pairs can be read"
);

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

    fn size(&mut self) -> Result<usize, ForwardError> {
        Ok(usize::try_from(self.u64()?).unwrap_or(usize::MAX))
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

pub(crate) fn encode_request(request: &ReadRequest, level: ReadLevel) -> Bytes {
    let mut out = Vec::new();
    let level = match level {
        ReadLevel::Linearizable => 0,
        ReadLevel::Stale => 1,
    };
    match request {
        ReadRequest::Get { keys, bytes_max } => {
            out.extend_from_slice(&[1, level]);
            out.extend_from_slice(&(*bytes_max as u64).to_le_bytes());
            put_count(&mut out, keys.len());
            keys.iter().for_each(|key| put_field(&mut out, key));
        }
        ReadRequest::Scan { start, end, limit, bytes_max, values } => {
            out.extend_from_slice(&[2, level]);
            put_field(&mut out, start);
            put_optional(&mut out, end.as_ref());
            out.extend_from_slice(&(*limit as u64).to_le_bytes());
            out.extend_from_slice(&(*bytes_max as u64).to_le_bytes());
            out.push(u8::from(*values));
        }
        ReadRequest::Count { start, end } => {
            out.extend_from_slice(&[3, level]);
            put_field(&mut out, start);
            put_optional(&mut out, end.as_ref());
        }
        ReadRequest::Map { known } => {
            out.extend_from_slice(&[4, level]);
            out.extend_from_slice(&known.to_le_bytes());
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_request(mut bytes: Bytes) -> Result<(ReadRequest, ReadLevel), ForwardError> {
    let mut reader = Reader(&mut bytes);
    let kind = reader.u8()?;
    let level = match reader.u8()? {
        0 => ReadLevel::Linearizable,
        1 => ReadLevel::Stale,
        _ => return Err(ForwardError("unknown level of read")),
    };
    let request = match kind {
        1 => {
            let bytes_max = reader.size()?;
            let count = reader.count()?;
            let keys: Result<_, _> = (0..count).map(|_| reader.field()).collect();
            ReadRequest::Get { keys: keys?, bytes_max }
        }
        2 => ReadRequest::Scan {
            start: reader.field()?,
            end: reader.optional()?,
            limit: reader.size()?,
            bytes_max: reader.size()?,
            values: reader.u8()? != 0,
        },
        3 => ReadRequest::Count { start: reader.field()?, end: reader.optional()? },
        4 => ReadRequest::Map { known: reader.u64()? },
        _ => return Err(ForwardError("unknown kind of read")),
    };
    finish(&bytes, (request, level))
}

/// Bytes of the answer, near enough to make room for it at once.
fn response_bytes(response: &ReadResponse) -> usize {
    8 + match response {
        ReadResponse::Values(values) => {
            values.iter().map(|value| 5 + value.as_ref().map_or(0, Bytes::len)).sum()
        }
        ReadResponse::Lengths(lengths) => lengths.len() * 9,
        ReadResponse::Pairs { pairs, .. } => {
            pairs.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
        }
        ReadResponse::Keys { keys, .. } => keys.iter().map(|key| 4 + key.len()).sum(),
        ReadResponse::Count { next, .. } => 8 + next.as_ref().map_or(0, Bytes::len),
        ReadResponse::Map(map) => map.as_ref().map_or(0, Bytes::len),
    }
}

pub(crate) fn encode_response(response: &ReadResponse) -> Bytes {
    let mut out = Vec::with_capacity(response_bytes(response));
    match response {
        ReadResponse::Values(values) => {
            out.push(1);
            put_count(&mut out, values.len());
            values.iter().for_each(|value| put_optional(&mut out, value.as_ref()));
        }
        ReadResponse::Pairs { pairs, more } => {
            out.extend_from_slice(&[2, u8::from(*more)]);
            put_count(&mut out, pairs.len());
            for (key, value) in pairs {
                put_field(&mut out, key);
                put_field(&mut out, value);
            }
        }
        ReadResponse::Count { keys, next } => {
            out.push(3);
            out.extend_from_slice(&keys.to_le_bytes());
            put_optional(&mut out, next.as_ref());
        }
        ReadResponse::Map(map) => {
            out.push(4);
            put_optional(&mut out, map.as_ref());
        }
        ReadResponse::Lengths(lengths) => {
            out.push(5);
            put_count(&mut out, lengths.len());
            for length in lengths {
                out.push(u8::from(length.is_some()));
                if let Some(length) = length {
                    out.extend_from_slice(&length.to_le_bytes());
                }
            }
        }
        ReadResponse::Keys { keys, more } => {
            out.extend_from_slice(&[6, u8::from(*more)]);
            put_count(&mut out, keys.len());
            keys.iter().for_each(|key| put_field(&mut out, key));
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_response(mut bytes: Bytes) -> Result<ReadResponse, ForwardError> {
    let mut reader = Reader(&mut bytes);
    let response = match reader.u8()? {
        1 => {
            let count = reader.count()?;
            let values: Result<_, _> = (0..count).map(|_| reader.optional()).collect();
            ReadResponse::Values(values?)
        }
        2 => {
            let more = reader.u8()? != 0;
            let count = reader.count()?;
            let pairs: Result<_, _> =
                (0..count).map(|_| Ok((reader.field()?, reader.field()?))).collect();
            ReadResponse::Pairs { pairs: pairs?, more }
        }
        3 => ReadResponse::Count { keys: reader.u64()?, next: reader.optional()? },
        4 => ReadResponse::Map(reader.optional()?),
        5 => {
            let count = reader.count()?;
            let length = |reader: &mut Reader<'_>| match reader.u8()? {
                0 => Ok(None),
                _ => reader.u64().map(Some),
            };
            let lengths: Result<_, _> = (0..count).map(|_| length(&mut reader)).collect();
            ReadResponse::Lengths(lengths?)
        }
        6 => {
            let more = reader.u8()? != 0;
            let count = reader.count()?;
            let keys: Result<_, _> = (0..count).map(|_| reader.field()).collect();
            ReadResponse::Keys { keys: keys?, more }
        }
        _ => return Err(ForwardError("unknown kind of answer to a read")),
    };
    finish(&bytes, response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn questions_and_facts_survive_their_bytes() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        for request in [
            ReadRequest::Get { keys: vec![key("a"), key("")], bytes_max: 5 },
            ReadRequest::Scan { start: key("a"), end: None, limit: 7, bytes_max: 8, values: true },
            ReadRequest::Scan { start: key("a"), end: None, limit: 7, bytes_max: 8, values: false },
            ReadRequest::Count { start: key("a"), end: Some(key("z")) },
            ReadRequest::Map { known: 9 },
        ] {
            for level in [ReadLevel::Linearizable, ReadLevel::Stale] {
                let bytes = encode_request(&request, level);
                assert_eq!(decode_request(bytes), Ok((request.clone(), level)));
            }
        }
        for response in [
            ReadResponse::Values(vec![None, Some(key("v"))]),
            ReadResponse::Lengths(vec![Some(1 << 40), None]),
            ReadResponse::Pairs { pairs: vec![(key("k"), key(""))], more: true },
            ReadResponse::Keys { keys: vec![key("k"), key("")], more: false },
            ReadResponse::Count { keys: 3, next: Some(key("n")) },
            ReadResponse::Count { keys: 3, next: None },
            ReadResponse::Map(None),
            ReadResponse::Map(Some(key("map"))),
        ] {
            assert_eq!(decode_response(encode_response(&response)), Ok(response));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_request(Bytes::from(bytes.clone()));
            let _ = decode_response(Bytes::from(bytes));
        }
    }
}
