//! The keys in the families of runs and in the family of records. All are big-endian, so that
//! RocksDB's byte order is the order of shards and indexes.
//!
//! ```text
//! run      shard u64, first index u64       in whatever family the shard was placed
//! record   kind u8, shard, node or start u64   in the family `default`; 0 for the node's own
//! ```

use quorate_types::{Incarnation, Index, NodeId, ShardId};

/// Bytes of a run's key.
pub(crate) const RUN_KEY_BYTES: usize = 16;
/// Bytes of a record's key.
pub(crate) const RECORD_KEY_BYTES: usize = 9;

/// The key of the run of `shard` that begins at `first`.
pub(crate) fn run_key(shard: ShardId, first: Index) -> [u8; RUN_KEY_BYTES] {
    let mut key = [0; RUN_KEY_BYTES];
    key[..8].copy_from_slice(&shard.0.to_be_bytes());
    key[8..].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// Where the keys of `shard` end. No run begins at the largest index: its end would overflow.
pub(crate) fn run_keys_end(shard: ShardId) -> [u8; RUN_KEY_BYTES] {
    run_key(shard, Index(u64::MAX))
}

/// Reads what [`run_key`] wrote; `None` for anything of another length.
pub(crate) fn parse_run_key(key: &[u8]) -> Option<(ShardId, Index)> {
    let (shard, first) = key.split_first_chunk::<8>()?;
    let first: [u8; 8] = first.try_into().ok()?;
    Some((ShardId(u64::from_be_bytes(*shard)), Index(u64::from_be_bytes(first))))
}

/// What a record is about. The format comes first in the order of keys, so that a reader knows
/// whether it understands the rest before it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    /// Version of all bytes in the directory.
    Format,
    /// Cluster, node and store.
    Identity,
    /// How often the directory was opened.
    Incarnation,
    /// The first unused space id.
    Spaces,
    /// The family that holds a shard's runs.
    Family(ShardId),
    /// A replica's facts that change rarely.
    Replica(ShardId),
    /// A replica's term, vote and commit.
    HardState(ShardId),
    /// The newest instance of another node.
    Peer(NodeId),
    /// Set once every founder of the cluster has met this directory.
    Founded,
    /// The cluster's map as last received; opaque here.
    Map,
    /// Digest of the first map that the directory was made with.
    FirstMap,
    /// The nonce that the process of one start of this directory drew.
    Start(Incarnation),
    /// Set once a data store bears this directory's identity: from then on that store must exist.
    DataStore,
    /// Why this directory must never speak again.
    Ended,
    /// A replica that must never speak again, and why.
    Damaged(ShardId),
}

impl RecordKey {
    pub(crate) fn bytes(self) -> [u8; RECORD_KEY_BYTES] {
        let (kind, about) = match self {
            RecordKey::Format => (1, 0),
            RecordKey::Identity => (2, 0),
            RecordKey::Incarnation => (3, 0),
            RecordKey::Spaces => (4, 0),
            RecordKey::Family(shard) => (5, shard.0),
            RecordKey::Replica(shard) => (6, shard.0),
            RecordKey::HardState(shard) => (7, shard.0),
            RecordKey::Peer(node) => (8, node.0),
            RecordKey::Founded => (9, 0),
            RecordKey::Map => (10, 0),
            RecordKey::FirstMap => (11, 0),
            RecordKey::Start(start) => (12, start.0),
            RecordKey::DataStore => (13, 0),
            RecordKey::Ended => (14, 0),
            RecordKey::Damaged(shard) => (15, shard.0),
        };
        let mut key = [kind; RECORD_KEY_BYTES];
        key[1..].copy_from_slice(&about.to_be_bytes());
        key
    }

    /// Reads what [`RecordKey::bytes`] wrote; `None` for anything else.
    pub(crate) fn parse(key: &[u8]) -> Option<RecordKey> {
        let (kind, shard) = key.split_first()?;
        let shard = ShardId(u64::from_be_bytes(shard.try_into().ok()?));
        let parsed = match kind {
            1 => RecordKey::Format,
            2 => RecordKey::Identity,
            3 => RecordKey::Incarnation,
            4 => RecordKey::Spaces,
            5 => RecordKey::Family(shard),
            6 => RecordKey::Replica(shard),
            7 => RecordKey::HardState(shard),
            8 => RecordKey::Peer(NodeId(shard.0)),
            9 => RecordKey::Founded,
            10 => RecordKey::Map,
            11 => RecordKey::FirstMap,
            12 => RecordKey::Start(Incarnation(shard.0)),
            13 => RecordKey::DataStore,
            14 => RecordKey::Ended,
            15 => RecordKey::Damaged(shard),
            _ => return None,
        };
        (parsed.bytes() == key).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: a change of the format must show. Method: every kind of key, in full.
    #[test]
    fn golden_bytes() {
        let shard = ShardId(0x0102_0304_0506_0708);
        assert_eq!(
            run_key(shard, Index(0x1112_1314_1516_1718)),
            [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]
        );
        assert_eq!(RecordKey::Format.bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Identity.bytes(), [2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Incarnation.bytes(), [3, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Spaces.bytes(), [4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Family(shard).bytes(), [5, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(RecordKey::Replica(shard).bytes(), [6, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(RecordKey::HardState(shard).bytes(), [7, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(RecordKey::Peer(NodeId(9)).bytes(), [8, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(RecordKey::Founded.bytes(), [9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Map.bytes(), [10, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::FirstMap.bytes(), [11, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Start(Incarnation(7)).bytes(), [12, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(RecordKey::DataStore.bytes(), [13, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Ended.bytes(), [14, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(RecordKey::Damaged(shard).bytes(), [15, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_to_a_key_that_gives_them_back(
            bytes in prop::collection::vec(0u8..17, 0..18),
        ) {
            if let Some(key) = RecordKey::parse(&bytes) {
                prop_assert_eq!(&key.bytes()[..], &bytes[..]);
            }
            if let Some((shard, first)) = parse_run_key(&bytes) {
                prop_assert_eq!(&run_key(shard, first)[..], &bytes[..]);
            }
        }
    }
}
