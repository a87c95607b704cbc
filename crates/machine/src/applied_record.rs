//! The applied record: it lies beside a shard's data and says which entries that data holds (RULE
//! 10).

use bytes::Bytes;
use quorate_raft::Membership;
use quorate_types::{Epoch, Index, LogId, Term, WallMillis};

use quorate_types::{ByteReader, CutShort, put_field, put_optional_field};

const FORMAT: u8 = 1;

/// How far a shard's data has come; written in the same batch as that data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRecord {
    /// The last entry applied.
    pub applied: LogId,
    /// Epoch of the descriptor in force.
    pub epoch: Epoch,
    /// First key of the shard.
    pub start: Bytes,
    /// First key beyond the shard; `None`: no bound.
    pub end: Option<Bytes>,
    /// Membership in force at `applied`.
    pub membership: Membership,
    /// The shard's clock: the maximum of all leader times applied.
    pub clock: WallMillis,
}

/// The bytes are no applied record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppliedRecordError {
    /// Written by a newer version.
    #[error("applied record has format {found}, this version knows {FORMAT}")]
    Format {
        /// Format byte.
        found: u8,
    },
    /// The checksum does not match.
    #[error("applied record is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// Sound checksum, senseless contents.
    #[error("applied record is malformed: {what}")]
    Malformed {
        /// What does not fit.
        what: String,
    },
}

impl From<CutShort> for AppliedRecordError {
    fn from(_: CutShort) -> Self {
        AppliedRecordError::Malformed { what: "cut short".to_owned() }
    }
}

impl AppliedRecord {
    /// Bytes: crc32c of the rest u32, format u8, applied term u64 and index u64, epoch membership
    /// u64 and version u64, clock u64, start (u32 length, bytes), end (u8 0, or 1 and as start),
    /// membership (u32 length, bytes). Little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, FORMAT];
        for number in [
            self.applied.term.0,
            self.applied.index.0,
            self.epoch.membership,
            self.epoch.version,
            self.clock.0,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        put_field(&mut bytes, &self.start);
        put_optional_field(&mut bytes, self.end.as_deref());
        put_field(&mut bytes, &self.membership.encode());
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`AppliedRecord::encode`] wrote.
    ///
    /// # Errors
    /// [`AppliedRecordError`] for anything else. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<AppliedRecord, AppliedRecordError> {
        let mut reader = ByteReader::new(bytes);
        let expected = reader.u32()?;
        let found = crc32c::crc32c(&bytes[4..]);
        if expected != found {
            return Err(AppliedRecordError::Checksum { expected, found });
        }
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(AppliedRecordError::Format { found: format });
        }
        let applied = LogId::new(Term(reader.u64()?), Index(reader.u64()?));
        let epoch = Epoch { membership: reader.u64()?, version: reader.u64()? };
        let clock = WallMillis(reader.u64()?);
        let start = Bytes::copy_from_slice(reader.field()?);
        let end = reader.optional_field()?.map(Bytes::copy_from_slice);
        let membership = Membership::decode(reader.field()?)
            .map_err(|error| AppliedRecordError::Malformed { what: error.to_string() })?;
        if !reader.is_empty() {
            return Err(AppliedRecordError::Malformed { what: "trailing bytes".to_owned() });
        }
        Ok(AppliedRecord { applied, epoch, start, end, membership, clock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AppliedRecord {
        AppliedRecord {
            applied: LogId::new(Term(2), Index(30)),
            epoch: Epoch { membership: 1, version: 4 },
            start: Bytes::from_static(b"a"),
            end: Some(Bytes::from_static(b"m")),
            membership: Membership::default(),
            clock: WallMillis(77),
        }
    }

    #[test]
    fn survives_its_bytes() {
        for end in [None, Some(Bytes::new()), Some(Bytes::from_static(b"zz"))] {
            let record = AppliedRecord { end, ..sample() };
            assert_eq!(AppliedRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn every_flip_and_cut_is_refused() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            assert!(AppliedRecord::decode(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(AppliedRecord::decode(&flipped).is_err());
        }
    }

    #[test]
    fn golden_bytes() {
        let hex: String = sample().encode()[4..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01".to_owned()
                + "0200000000000000"
                + "1e00000000000000"
                + "0100000000000000"
                + "0400000000000000"
                + "4d00000000000000"
                + "0100000061"
                + "01010000006d"
                + "0700000001000000000000"
        );
    }
}
