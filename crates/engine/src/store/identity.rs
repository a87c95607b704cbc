//! The identity of a data store. The log has the same three ids, so neither is taken for another's.

use std::fmt;

use quorate_types::{ByteReader, ClusterId, CutShort, NodeId, StoreId};

/// The identity of a store: the same three ids in log and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreIdentity {
    cluster: ClusterId,
    node: NodeId,
    store: StoreId,
}

/// The bytes are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} bytes with a checksum that does not match, or of a newer version")]
pub(crate) struct IdentityError {
    found: usize,
}

const IDENTITY_FORMAT: u8 = 1;
/// Bytes of an identity.
pub(crate) const IDENTITY_BYTES: usize = 45;

impl StoreIdentity {
    pub(crate) fn of(log: &quorate_log::Identity) -> StoreIdentity {
        StoreIdentity { cluster: log.cluster, node: log.node, store: log.store }
    }

    /// Bytes, little-endian: crc32c of the rest u32, format u8, cluster u128, node u64, store u128.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut body = vec![IDENTITY_FORMAT];
        body.extend_from_slice(&self.cluster.0.to_le_bytes());
        body.extend_from_slice(&self.node.0.to_le_bytes());
        body.extend_from_slice(&self.store.0.to_le_bytes());
        let mut bytes = crc32c::crc32c(&body).to_le_bytes().to_vec();
        bytes.append(&mut body);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<StoreIdentity, IdentityError> {
        let error = IdentityError { found: bytes.len() };
        StoreIdentity::read(bytes).map_err(|CutShort| error)?.ok_or(error)
    }

    fn read(bytes: &[u8]) -> Result<Option<StoreIdentity>, CutShort> {
        let mut reader = ByteReader::new(bytes);
        let checksum = reader.u32()?;
        let is_sound = bytes.len() == IDENTITY_BYTES && checksum == crc32c::crc32c(&bytes[4..]);
        if !is_sound || reader.u8()? != IDENTITY_FORMAT {
            return Ok(None);
        }
        let (cluster, node) = (ClusterId(reader.u128()?), NodeId(reader.u64()?));
        Ok(Some(StoreIdentity { cluster, node, store: StoreId(reader.u128()?) }))
    }
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} (store {}) of cluster {}", self.node, self.store, self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bytes are fixed forever, and damage is found. Method: golden bytes, each flipped.
    #[test]
    fn golden_bytes_of_an_identity() {
        let identity =
            StoreIdentity { cluster: ClusterId(0xC1), node: NodeId(3), store: StoreId(0x51) };
        let bytes = identity.encode();
        let mut expected = vec![0u8; 41];
        (expected[0], expected[1], expected[17], expected[25]) = (1, 0xC1, 3, 0x51);
        assert_eq!(bytes[4..], expected);
        assert_eq!(StoreIdentity::decode(&bytes), Ok(identity));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(StoreIdentity::decode(&damaged).is_err(), "byte {at}");
            assert!(StoreIdentity::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
