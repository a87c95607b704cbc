//! The replies of the meta shard.

use bytes::Bytes;
use quorate_types::{ShardId, StoreId};

use super::error::MetaError;
use quorate_types::ByteReader;

/// The reply to a [`MetaCommand`](crate::MetaCommand).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaReply {
    /// The command is in effect, whether it changed something or had nothing to change.
    Done {
        /// The revision in force after it.
        revision: u64,
    },
    /// A second founding: nothing was changed.
    AlreadyFounded {
        /// The revision in force.
        revision: u64,
    },
    /// Any other command before the founding: nothing was changed.
    NotFounded,
    /// The node's id is bound to another store: nothing was changed.
    OtherStore {
        /// The store that it is bound to.
        known: StoreId,
    },
    /// A descriptor that can't be true, alone or beside what is held: nothing of the command was
    /// taken.
    Contradiction {
        /// The shard it describes.
        shard: ShardId,
    },
    /// As many ids as were asked for, one after another.
    Allocated {
        /// The first.
        first: u64,
    },
    /// The cluster version is not `from`, or would fall: nothing was changed.
    OtherVersion {
        /// The version in force.
        current: u32,
    },
    /// The command's bytes are not known to this version, or it can't be carried out (ids are
    /// exhausted, or what is stored makes no sense, which reading the map shows): nothing was
    /// changed.
    Unknown,
}

impl MetaReply {
    /// Bytes: kind u8, then the field, little-endian.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(17);
        match self {
            MetaReply::Done { revision } => put_u64(&mut out, 1, *revision),
            MetaReply::AlreadyFounded { revision } => put_u64(&mut out, 2, *revision),
            MetaReply::NotFounded => out.push(3),
            MetaReply::OtherStore { known } => {
                out.push(4);
                out.extend_from_slice(&known.0.to_le_bytes());
            }
            MetaReply::Contradiction { shard } => put_u64(&mut out, 5, shard.0),
            MetaReply::Allocated { first } => put_u64(&mut out, 6, *first),
            MetaReply::OtherVersion { current } => {
                out.push(7);
                out.extend_from_slice(&current.to_le_bytes());
            }
            MetaReply::Unknown => out.push(8),
        }
        Bytes::from(out)
    }

    /// Reads what [`MetaReply::encode`] wrote.
    ///
    /// # Errors
    /// [`MetaError`] for anything else. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<MetaReply, MetaError> {
        let mut reader = ByteReader::new(bytes);
        let reply = match reader.u8()? {
            1 => MetaReply::Done { revision: reader.u64()? },
            2 => MetaReply::AlreadyFounded { revision: reader.u64()? },
            3 => MetaReply::NotFounded,
            4 => MetaReply::OtherStore { known: StoreId(reader.u128()?) },
            5 => MetaReply::Contradiction { shard: ShardId(reader.u64()?) },
            6 => MetaReply::Allocated { first: reader.u64()? },
            7 => MetaReply::OtherVersion { current: reader.u32()? },
            8 => MetaReply::Unknown,
            _ => return Err(MetaError::Malformed("unknown kind of reply")),
        };
        if reader.is_empty() { Ok(reply) } else { Err(MetaError::Malformed("trailing bytes")) }
    }
}

fn put_u64(out: &mut Vec<u8>, kind: u8, number: u64) {
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
}
