//! Encodes and decodes records, the small facts beside the runs. Each has a version and a checksum
//! that covers its key, so that a valid record under the wrong key is found, too.
//!
//! Layout, little-endian:
//!
//! ```text
//! 0        version    u8      of this kind of record
//! 1        body               fixed fields, see each `encode`
//! end - 4  checksum   u32     crc32c of key, version and body
//! ```

use quorate_raft::{HardState, Membership};
use quorate_types::{
    ByteReader, ClusterId, CutShort, Incarnation, Index, LogId, NodeId, NodeInstance, ReplicaId,
    ShardId, SpaceId, StoreId, Term,
};

use crate::keys::RecordKey;

/// The directory format that this release reads and writes.
pub(crate) const FORMAT: u32 = 2;
/// The version of every kind of record so far.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// The bytes are not a record of the kind that the key names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("{found} bytes are shorter than any record")]
    Short { found: usize },
    #[error("checksum is {found:08x}, expected {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("record version is {found}, this release reads {supported}")]
    Version { found: u8, supported: u8 },
    #[error("record is malformed: {what}")]
    Malformed { what: &'static str },
}

impl From<CutShort> for RecordError {
    fn from(_: CutShort) -> Self {
        RecordError::Malformed { what: "cut short" }
    }
}

/// Wraps `body` for storage under `key`.
pub(crate) fn seal(key: RecordKey, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + body.len() + CHECKSUM_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&checksum(key, &bytes).to_le_bytes());
    bytes
}

/// The body of what [`seal`] wrote under `key`.
pub(crate) fn unseal(key: RecordKey, bytes: &[u8]) -> Result<&[u8], RecordError> {
    let short = RecordError::Short { found: bytes.len() };
    let (covered, stored) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(short.clone())?;
    let (version, body) = covered.split_first().ok_or(short)?;
    let (expected, found) = (u32::from_le_bytes(*stored), checksum(key, covered));
    if expected != found {
        return Err(RecordError::Checksum { expected, found });
    }
    if *version != VERSION {
        return Err(RecordError::Version { found: *version, supported: VERSION });
    }
    Ok(body)
}

fn checksum(key: RecordKey, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.bytes()), covered)
}

/// The identity of a directory, and its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; a directory never changes it.
    pub cluster: ClusterId,
    /// The node; a directory never changes it.
    pub node: NodeId,
    /// The directory itself, drawn at random when it was made (RULE 9).
    pub store: StoreId,
    /// How often it was opened, this time included.
    pub incarnation: Incarnation,
}

/// Body of [`RecordKey::Identity`]: cluster u128, node u64, store u128. The incarnation has a
/// separate record, so that this one, which never changes, is never rewritten.
pub(crate) fn encode_identity(cluster: ClusterId, node: NodeId, store: StoreId) -> Vec<u8> {
    let mut body = Vec::with_capacity(40);
    body.extend_from_slice(&cluster.0.to_le_bytes());
    body.extend_from_slice(&node.0.to_le_bytes());
    body.extend_from_slice(&store.0.to_le_bytes());
    body
}

/// Reads [`encode_identity`].
pub(crate) fn decode_identity(body: &[u8]) -> Result<(ClusterId, NodeId, StoreId), RecordError> {
    let mut fields = ByteReader::new(body);
    let cluster = ClusterId(fields.u128()?);
    let node = NodeId(fields.u64()?);
    let store = StoreId(fields.u128()?);
    end(&fields)?;
    Ok((cluster, node, store))
}

/// Body of [`RecordKey::Peer`]: store u128, incarnation u64, nonce u64.
pub(crate) fn encode_instance(instance: NodeInstance) -> Vec<u8> {
    let mut body = Vec::with_capacity(32);
    body.extend_from_slice(&instance.store.0.to_le_bytes());
    body.extend_from_slice(&instance.incarnation.0.to_le_bytes());
    body.extend_from_slice(&instance.nonce.to_le_bytes());
    body
}

/// Reads [`encode_instance`].
pub(crate) fn decode_instance(body: &[u8]) -> Result<NodeInstance, RecordError> {
    let mut fields = ByteReader::new(body);
    let store = StoreId(fields.u128()?);
    let incarnation = Incarnation(fields.u64()?);
    let nonce = fields.u64()?;
    end(&fields)?;
    Ok(NodeInstance { store, incarnation, nonce })
}

/// Reads a body of one u64: [`RecordKey::Incarnation`], [`RecordKey::Spaces`].
pub(crate) fn decode_u64(body: &[u8]) -> Result<u64, RecordError> {
    let mut fields = ByteReader::new(body);
    let value = fields.u64()?;
    end(&fields)?;
    Ok(value)
}

/// Reads a body of one u32: [`RecordKey::Format`].
pub(crate) fn decode_u32(body: &[u8]) -> Result<u32, RecordError> {
    let mut fields = ByteReader::new(body);
    let value = fields.u32()?;
    end(&fields)?;
    Ok(value)
}

/// A family that holds runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Made for this shard.
    Dedicated(ShardId),
    /// Shared; numbered from 0.
    Pooled(u64),
}

impl Family {
    /// Its name in RocksDB.
    pub(crate) fn name(self) -> String {
        match self {
            Family::Dedicated(shard) => format!("s{shard}"),
            Family::Pooled(number) => format!("p{number}"),
        }
    }

    /// Body of [`RecordKey::Family`]: kind u8 (0 dedicated, 1 pooled), number u64.
    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, number) = match self {
            Family::Dedicated(shard) => (0u8, shard.0),
            Family::Pooled(number) => (1, number),
        };
        let mut body = vec![kind];
        body.extend_from_slice(&number.to_le_bytes());
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Family, RecordError> {
        let mut fields = ByteReader::new(body);
        let kind = fields.u8()?;
        let number = fields.u64()?;
        end(&fields)?;
        match kind {
            0 => Ok(Family::Dedicated(ShardId(number))),
            1 => Ok(Family::Pooled(number)),
            _ => Err(RecordError::Malformed { what: "unknown kind of family" }),
        }
    }
}

/// A replica's facts that change only by purge, install and removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaRecord {
    pub(crate) replica: ReplicaId,
    pub(crate) space: SpaceId,
    /// True once removed: then only the id still matters (RULE 3).
    pub(crate) tombstone: bool,
    pub(crate) base: LogId,
    pub(crate) base_membership: Membership,
}

impl ReplicaRecord {
    /// Body of [`RecordKey::Replica`]: replica u64, space u64, tombstone u8, base term u64, base
    /// index u64, membership to the end.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let membership = self.base_membership.encode();
        let mut body = Vec::with_capacity(33 + membership.len());
        body.extend_from_slice(&self.replica.0.to_le_bytes());
        body.extend_from_slice(&self.space.0.to_le_bytes());
        body.push(u8::from(self.tombstone));
        body.extend_from_slice(&self.base.term.0.to_le_bytes());
        body.extend_from_slice(&self.base.index.0.to_le_bytes());
        body.extend_from_slice(&membership);
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Result<ReplicaRecord, RecordError> {
        let mut fields = ByteReader::new(body);
        let replica = ReplicaId(fields.u64()?);
        let space = SpaceId(fields.u64()?);
        let tombstone = flag(&mut fields)?;
        let base = LogId::new(Term(fields.u64()?), Index(fields.u64()?));
        let base_membership = Membership::decode(fields.rest())
            .map_err(|error| RecordError::Malformed { what: error.what })?;
        Ok(ReplicaRecord { replica, space, tombstone, base, base_membership })
    }
}

/// Body of [`RecordKey::HardState`]: term u64, voted u8, vote u64 (0 without one), committed u64.
pub(crate) fn encode_hard_state(state: &HardState) -> [u8; 25] {
    let mut body = [0; 25];
    body[0..8].copy_from_slice(&state.term.0.to_le_bytes());
    body[8] = u8::from(state.vote.is_some());
    body[9..17].copy_from_slice(&state.vote.map_or(0, |vote| vote.0).to_le_bytes());
    body[17..25].copy_from_slice(&state.committed.0.to_le_bytes());
    body
}

/// Reads [`encode_hard_state`].
pub(crate) fn decode_hard_state(body: &[u8]) -> Result<HardState, RecordError> {
    let mut fields = ByteReader::new(body);
    let term = Term(fields.u64()?);
    let voted = flag(&mut fields)?;
    let vote = ReplicaId(fields.u64()?);
    let committed = Index(fields.u64()?);
    end(&fields)?;
    if !voted && vote != ReplicaId(0) {
        return Err(RecordError::Malformed { what: "a vote that was not cast" });
    }
    Ok(HardState { term, vote: voted.then_some(vote), committed })
}

/// Body of [`RecordKey::Damaged`]: replica u64, what was found as text to the end.
pub(crate) fn encode_damage(replica: ReplicaId, what: &str) -> Vec<u8> {
    let mut body = replica.0.to_le_bytes().to_vec();
    body.extend_from_slice(what.as_bytes());
    body
}

/// Reads [`encode_damage`].
pub(crate) fn decode_damage(body: &[u8]) -> Result<(ReplicaId, String), RecordError> {
    let mut fields = ByteReader::new(body);
    let replica = ReplicaId(fields.u64()?);
    let what = std::str::from_utf8(fields.rest())
        .map_err(|_| RecordError::Malformed { what: "a text that is not UTF-8" })?;
    Ok((replica, what.to_owned()))
}

fn flag(body: &mut ByteReader<&[u8]>) -> Result<bool, RecordError> {
    match body.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RecordError::Malformed { what: "a flag that is neither 0 nor 1" }),
    }
}

fn end(body: &ByteReader<&[u8]>) -> Result<(), RecordError> {
    let trailing = RecordError::Malformed { what: "trailing bytes" };
    if body.is_empty() { Ok(()) } else { Err(trailing) }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
