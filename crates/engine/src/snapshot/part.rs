//! The bytes of the parts of a snapshot, and of the answers to them.
//!
//! Part: kind u8 (1), transfer u64, shard u64, sender's replica u64 and term u64, receiver's replica
//! u64, number u32, estimate of all bytes u64; applied record (u8 0, or 1 and u32 length, bytes: in
//! number 0 only); digest (u8 0, or 1 and pairs u64, checksum u32: in the last part only); pairs (u32
//! length, bytes); crc32c of all before u32.
//! Answer: kind u8 (2), transfer u64, verdict u8 (1 next, and number u32; 2 busy; 3 installed; 4
//! refused, and u32 length, text), crc32c of all before u32.
//! Little-endian.

use bytes::Bytes;
use quorate_machine::AppliedRecord;
use quorate_types::{
    ByteReader, CutShort, ReplicaId, ShardId, Term, put_field, put_optional_field,
};

use crate::store::space_view::Digest;

const PART: u8 = 1;
const ANSWER: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// Names a transfer among all of its sender's, over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TransferId(pub(crate) u64);

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) transfer: TransferId,
    pub(crate) shard: ShardId,
    /// The leader that sends it, and its term.
    pub(crate) from: ReplicaId,
    pub(crate) term: Term,
    /// The replica that it is for.
    pub(crate) to: ReplicaId,
    /// From 0.
    pub(crate) number: u32,
    /// About how many bytes all parts have.
    pub(crate) bytes_total: u64,
    /// In the first part.
    pub(crate) record: Option<AppliedRecord>,
    /// In the last part: of all pairs.
    pub(crate) digest: Option<Digest>,
    /// As `put_pair` writes them.
    pub(crate) pairs: Bytes,
}

/// What a receiver says to a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The number of the part that it wants.
    Next(u32),
    /// It can't take one now: ask again.
    Busy,
    /// The snapshot is in force, durably.
    Installed,
    /// It can't be used, and why.
    Refused(String),
}

/// An answer to a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartAnswer {
    pub(crate) transfer: TransferId,
    pub(crate) verdict: Verdict,
}

/// The bytes are no part and no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartError {
    #[error("a part of a snapshot is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("a part of a snapshot is malformed: {0}")]
    Malformed(String),
}

impl From<CutShort> for PartError {
    fn from(_: CutShort) -> Self {
        PartError::Malformed("cut short".to_owned())
    }
}

/// Whether bytes that arrived answer a part, or else are one.
pub(crate) fn is_answer(bytes: &[u8]) -> bool {
    bytes.first() == Some(&ANSWER)
}

impl Part {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.pairs.len() + 512);
        bytes.push(PART);
        for field in [self.transfer.0, self.shard.0, self.from.0, self.term.0, self.to.0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.bytes_total.to_le_bytes());
        put_optional_field(&mut bytes, self.record.as_ref().map(AppliedRecord::encode).as_deref());
        bytes.push(u8::from(self.digest.is_some()));
        if let Some(digest) = self.digest {
            bytes.extend_from_slice(&digest.pairs.to_le_bytes());
            bytes.extend_from_slice(&digest.checksum.to_le_bytes());
        }
        put_field(&mut bytes, &self.pairs);
        seal(bytes)
    }

    /// Reads what [`Part::encode`] wrote; the pairs share the memory of `bytes`. Never panics.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Part, PartError> {
        let mut reader = ByteReader::new(open(bytes)?);
        if reader.u8()? != PART {
            return Err(PartError::Malformed("not a part".to_owned()));
        }
        let transfer = TransferId(reader.u64()?);
        let shard = ShardId(reader.u64()?);
        let (from, term) = (ReplicaId(reader.u64()?), Term(reader.u64()?));
        let to = ReplicaId(reader.u64()?);
        let (number, bytes_total) = (reader.u32()?, reader.u64()?);
        let record = match reader.optional_field()?.map(AppliedRecord::decode) {
            None => None,
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => return Err(PartError::Malformed(error.to_string())),
        };
        let digest = match reader.u8()? {
            0 => None,
            1 => Some(Digest { pairs: reader.u64()?, checksum: reader.u32()? }),
            _ => return Err(PartError::Malformed("a flag that is neither 0 nor 1".to_owned())),
        };
        let pairs = bytes.slice_ref(reader.field()?);
        end(&reader)?;
        Ok(Part { transfer, shard, from, term, to, number, bytes_total, record, digest, pairs })
    }
}

impl PartAnswer {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = vec![ANSWER];
        bytes.extend_from_slice(&self.transfer.0.to_le_bytes());
        match &self.verdict {
            Verdict::Next(number) => {
                bytes.push(1);
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Verdict::Busy => bytes.push(2),
            Verdict::Installed => bytes.push(3),
            Verdict::Refused(why) => {
                bytes.push(4);
                put_field(&mut bytes, why.as_bytes());
            }
        }
        seal(bytes)
    }

    /// Reads what [`PartAnswer::encode`] wrote. Never panics.
    pub(crate) fn decode(bytes: &Bytes) -> Result<PartAnswer, PartError> {
        let mut reader = ByteReader::new(open(bytes)?);
        if reader.u8()? != ANSWER {
            return Err(PartError::Malformed("not an answer".to_owned()));
        }
        let transfer = TransferId(reader.u64()?);
        let verdict = match reader.u8()? {
            1 => Verdict::Next(reader.u32()?),
            2 => Verdict::Busy,
            3 => Verdict::Installed,
            4 => Verdict::Refused(String::from_utf8_lossy(reader.field()?).into_owned()),
            verdict => return Err(PartError::Malformed(format!("verdict {verdict} is not known"))),
        };
        end(&reader)?;
        Ok(PartAnswer { transfer, verdict })
    }
}

/// The connection keeps the bytes whole; this is for the memory on both sides.
fn seal(mut bytes: Vec<u8>) -> Bytes {
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

fn open(bytes: &Bytes) -> Result<&[u8], PartError> {
    let (covered, stored) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(CutShort)?;
    let (expected, found) = (u32::from_le_bytes(*stored), crc32c::crc32c(covered));
    if expected == found { Ok(covered) } else { Err(PartError::Checksum { expected, found }) }
}

fn end(reader: &ByteReader<&[u8]>) -> Result<(), PartError> {
    match reader.is_empty() {
        true => Ok(()),
        false => Err(PartError::Malformed("trailing bytes".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Membership;
    use quorate_types::{Epoch, Index, LogId, WallMillis};

    fn part() -> Part {
        Part {
            transfer: TransferId(7),
            shard: ShardId(2),
            from: ReplicaId(3),
            term: Term(4),
            to: ReplicaId(5),
            number: 6,
            bytes_total: 1 << 40,
            record: None,
            digest: None,
            pairs: Bytes::from_static(b"abc"),
        }
    }

    fn record() -> AppliedRecord {
        AppliedRecord {
            applied: LogId::new(Term(4), Index(9)),
            epoch: Epoch { membership: 1, version: 1 },
            start: Bytes::new(),
            end: None,
            membership: Membership::default(),
            clock: WallMillis(1),
        }
    }

    /// Goal: parts and answers survive their bytes, and every flip and cut is found. Method: one of
    /// each kind.
    #[test]
    fn parts_survive_and_damage_is_found() {
        let digest = Some(Digest { pairs: 8, checksum: 9 });
        for part in [
            part(),
            Part { record: Some(record()), number: 0, ..part() },
            Part { digest, pairs: Bytes::new(), ..part() },
        ] {
            let bytes = part.encode();
            assert_eq!(Part::decode(&bytes), Ok(part));
            assert!(!is_answer(&bytes) && PartAnswer::decode(&bytes).is_err());
            damage(&bytes, |bytes| Part::decode(bytes).is_err());
        }
        let refused = Verdict::Refused("no room".to_owned());
        for verdict in [Verdict::Next(1), Verdict::Busy, Verdict::Installed, refused] {
            let answer = PartAnswer { transfer: TransferId(7), verdict };
            let bytes = answer.encode();
            assert_eq!(PartAnswer::decode(&bytes), Ok(answer));
            assert!(is_answer(&bytes) && Part::decode(&bytes).is_err());
            damage(&bytes, |bytes| PartAnswer::decode(bytes).is_err());
        }
    }

    fn damage(bytes: &Bytes, is_refused: impl Fn(&Bytes) -> bool) {
        for at in 0..bytes.len() {
            assert!(is_refused(&bytes.slice(..at)), "cut at {at}");
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            assert!(is_refused(&flipped.into()), "flipped at {at}");
        }
    }

    /// Goal: the bytes stay as they are. Method: a part written out.
    #[test]
    fn golden_bytes_of_a_part() {
        let bytes = part().encode();
        let mut expected = vec![1];
        for number in [7u64, 2, 3, 4, 5] {
            expected.extend_from_slice(&number.to_le_bytes());
        }
        expected.extend_from_slice(&[6, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0]);
        expected.extend_from_slice(b"abc");
        assert_eq!(bytes[..bytes.len() - CHECKSUM_BYTES], expected);
    }
}
