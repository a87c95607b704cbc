//! What a state machine's own store keeps for the engine: the applied record, and whose it is.
//!
//! Bytes, little-endian: crc32c of the rest u32, format u8 (1), identity of the directory (45 bytes, as
//! the data store has it), shard u64, applied record to the end.

use quorate_machine::{AppliedRecord, AppliedRecordError};
use quorate_types::{ByteReader, CutShort, ShardId};

use crate::store::identity::{IDENTITY_BYTES, IdentityError, StoreIdentity};

const FORMAT: u8 = 1;

/// How far an own store has come, and to which replica it belongs: its author names it, so it may be
/// left from another directory (RULE 17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnRecord {
    pub(crate) identity: StoreIdentity,
    pub(crate) shard: ShardId,
    pub(crate) record: AppliedRecord,
}

/// The bytes are no such record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnRecordError {
    #[error("the record in it is cut short")]
    CutShort,
    #[error("the record in it has checksum {found:08x}, expected {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("the record in it has format {found}, this version knows {FORMAT}")]
    Format { found: u8 },
    #[error("the identity in it: {0}")]
    Identity(#[from] IdentityError),
    #[error("{0}")]
    Applied(#[from] AppliedRecordError),
}

impl From<CutShort> for OwnRecordError {
    fn from(_: CutShort) -> Self {
        OwnRecordError::CutShort
    }
}

impl OwnRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.identity.encode());
        bytes.extend_from_slice(&self.shard.0.to_le_bytes());
        bytes.extend_from_slice(&self.record.encode());
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`OwnRecord::encode`] wrote. Never panics.
    pub(crate) fn decode(bytes: &[u8]) -> Result<OwnRecord, OwnRecordError> {
        let (checksum, covered) = bytes.split_first_chunk().ok_or(CutShort)?;
        let (expected, found) = (u32::from_le_bytes(*checksum), crc32c::crc32c(covered));
        if expected != found {
            return Err(OwnRecordError::Checksum { expected, found });
        }
        let mut reader = ByteReader::new(covered);
        match reader.u8()? {
            FORMAT => {}
            found => return Err(OwnRecordError::Format { found }),
        }
        let (identity, rest) = reader.rest().split_at_checked(IDENTITY_BYTES).ok_or(CutShort)?;
        let identity = StoreIdentity::decode(identity)?;
        let mut reader = ByteReader::new(rest);
        let shard = ShardId(reader.u64()?);
        let record = AppliedRecord::decode(reader.rest())?;
        Ok(OwnRecord { identity, shard, record })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_log::Identity;
    use quorate_raft::Membership;
    use quorate_types::{
        ClusterId, Epoch, Incarnation, Index, LogId, NodeId, StoreId, Term, WallMillis,
    };

    use super::*;

    fn sample() -> OwnRecord {
        let (cluster, node, store) = (ClusterId(0xC1), NodeId(3), StoreId(0x51));
        OwnRecord {
            identity: StoreIdentity::of(&Identity {
                cluster,
                node,
                store,
                incarnation: Incarnation(1),
            }),
            shard: ShardId(9),
            record: AppliedRecord {
                applied: LogId::new(Term(2), Index(30)),
                epoch: Epoch { membership: 1, version: 4 },
                start: Bytes::new(),
                end: None,
                membership: Membership::default(),
                clock: WallMillis(77),
            },
        }
    }

    /// Goal: the bytes are fixed. Method: what they are made of, in order.
    #[test]
    fn golden_bytes_of_an_own_record() {
        let bytes = sample().encode();
        let mut expected = vec![1];
        expected.extend_from_slice(&sample().identity.encode());
        expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&sample().record.encode());
        assert_eq!(bytes[4..], expected);
    }

    /// Goal: it survives its bytes, and every flip and cut is found.
    #[test]
    fn an_own_record_survives_and_damage_is_found() {
        let bytes = sample().encode();
        assert_eq!(OwnRecord::decode(&bytes), Ok(sample()));
        for at in 0..bytes.len() {
            assert!(OwnRecord::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(OwnRecord::decode(&flipped).is_err(), "flipped at {at}");
        }
    }
}
