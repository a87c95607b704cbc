//! The bytes of a read request to another node, and of its response.
//!
//! A field is a u32 length and its bytes; an optional one is led by u8 0 or 1, a list by a u32 count.
//!
//! ReadRequest: kind u8 (1 get, 2 scan, 3 count, 4 map), level u8 (0 linearizable, 1 stale), then for a
//! get bytes_max u64 and a list of keys; for a scan start, optional end, limit u64, bytes_max u64 and
//! u8 1 if the values are wanted, else 0; for a count start and optional end; for the map the
//! revision known u64.
//!
//! Answer: kind u8; 1 values, a list of optional fields; 2 pairs, u8 1 if the range continues after
//! them, and a list of two fields; 3 a number u64 and optional field, where to continue; 4 the map,
//! an optional field; 5 lengths, a list of optional u64; 6 as 2, keys alone. Little-endian.

use bytes::Bytes;
use quorate_types::{ByteReader, CutShort, limits, put_count, put_field, put_optional_field};

use crate::calls::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::peer::codec::ForwardError;

/// Elements that one answer may hold.
const ELEMENTS_MAX: usize = 1 << 20;

const _: () = assert!(
    limits::READ_PAGE_BYTES_MAX / limits::READ_PAIR_BYTES < ELEMENTS_MAX,
    "a page of the shortest pairs can be read"
);

/// A bound; the largest that the machine can hold if it is more.
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
            put_optional_field(&mut out, end.as_deref());
            out.extend_from_slice(&(*limit as u64).to_le_bytes());
            out.extend_from_slice(&(*bytes_max as u64).to_le_bytes());
            out.push(u8::from(*values));
        }
        ReadRequest::Count { start, end } => {
            out.extend_from_slice(&[3, level]);
            put_field(&mut out, start);
            put_optional_field(&mut out, end.as_deref());
        }
        ReadRequest::Map { known } => {
            out.extend_from_slice(&[4, level]);
            out.extend_from_slice(&known.to_le_bytes());
        }
    }
    Bytes::from(out)
}

pub(crate) fn decode_request(bytes: Bytes) -> Result<(ReadRequest, ReadLevel), ForwardError> {
    let mut reader = ByteReader::new(bytes);
    let kind = reader.u8()?;
    let level = match reader.u8()? {
        0 => ReadLevel::Linearizable,
        1 => ReadLevel::Stale,
        _ => return Err(ForwardError("unknown level of read")),
    };
    let request = match kind {
        1 => {
            let bytes_max = read_size(&mut reader)?;
            let count = read_count(&mut reader)?;
            let keys: Result<_, CutShort> = (0..count).map(|_| reader.field()).collect();
            ReadRequest::Get { keys: keys?, bytes_max }
        }
        2 => ReadRequest::Scan {
            start: reader.field()?,
            end: reader.optional_field()?,
            limit: read_size(&mut reader)?,
            bytes_max: read_size(&mut reader)?,
            values: reader.u8()? != 0,
        },
        3 => ReadRequest::Count { start: reader.field()?, end: reader.optional_field()? },
        4 => ReadRequest::Map { known: reader.u64()? },
        _ => return Err(ForwardError("unknown kind of read")),
    };
    finish(&reader, (request, level))
}

/// The bytes of the answer, roughly, to reserve memory for it at once.
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
            values.iter().for_each(|value| put_optional_field(&mut out, value.as_deref()));
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
            put_optional_field(&mut out, next.as_deref());
        }
        ReadResponse::Map(map) => {
            out.push(4);
            put_optional_field(&mut out, map.as_deref());
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

pub(crate) fn decode_response(bytes: Bytes) -> Result<ReadResponse, ForwardError> {
    let mut reader = ByteReader::new(bytes);
    let response = match reader.u8()? {
        1 => {
            let count = read_count(&mut reader)?;
            let values: Result<_, CutShort> = (0..count).map(|_| reader.optional_field()).collect();
            ReadResponse::Values(values?)
        }
        2 => {
            let more = reader.u8()? != 0;
            let count = read_count(&mut reader)?;
            let pairs: Result<_, CutShort> =
                (0..count).map(|_| Ok((reader.field()?, reader.field()?))).collect();
            ReadResponse::Pairs { pairs: pairs?, more }
        }
        3 => ReadResponse::Count { keys: reader.u64()?, next: reader.optional_field()? },
        4 => ReadResponse::Map(reader.optional_field()?),
        5 => {
            let count = read_count(&mut reader)?;
            let length = |reader: &mut ByteReader<Bytes>| match reader.u8()? {
                0 => Ok(None),
                _ => reader.u64().map(Some),
            };
            let lengths: Result<_, CutShort> = (0..count).map(|_| length(&mut reader)).collect();
            ReadResponse::Lengths(lengths?)
        }
        6 => {
            let more = reader.u8()? != 0;
            let count = read_count(&mut reader)?;
            let keys: Result<_, CutShort> = (0..count).map(|_| reader.field()).collect();
            ReadResponse::Keys { keys: keys?, more }
        }
        _ => return Err(ForwardError("unknown kind of answer to a read")),
    };
    finish(&reader, response)
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
