//! The head of the meta shard's map, and its keys. The layout stands in the parent's documentation.

use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId};

use super::command::IdKind;
use super::error::MetaError;
use crate::state_machine::OrderedMap;
use quorate_types::ByteReader;

const FORMAT: u8 = 1;

pub(super) const KEY_HEAD: [u8; 1] = [0];
pub(super) const TAG_NODE: u8 = 1;
pub(super) const TAG_SHARD: u8 = 2;
pub(super) const TAG_OPERATION: u8 = 3;

/// The values that the meta shard has once: revision, version and highest ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// At least 1.
    pub(super) revision: u64,
    pub(super) cluster_version: u32,
    /// Highest id given out or seen; 0 if there was none. The highest, and not the next, so that
    /// no id that somebody may name lies out of reach.
    shard_max: u64,
    replica_max: u64,
    node_max: u64,
}

impl Head {
    /// The head of a cluster that is being founded: no id seen, no change counted yet.
    pub(super) fn founding(cluster_version: u32) -> Head {
        Head { revision: 0, cluster_version, shard_max: 0, replica_max: 0, node_max: 0 }
    }

    /// The head in `map`; `None`: not founded.
    ///
    /// # Errors
    /// [`MetaError::Stored`] if the value makes no sense.
    pub(super) fn read(map: &mut dyn OrderedMap) -> Result<Option<Head>, MetaError> {
        let Some(value) = map.get(&KEY_HEAD) else { return Ok(None) };
        Head::decode(&value).map(Some).map_err(|error| error.under(&KEY_HEAD))
    }

    /// Ends a command that changed something.
    pub(super) fn write_next_revision(&mut self, map: &mut dyn OrderedMap) {
        self.revision += 1;
        map.put(&KEY_HEAD, &self.encode());
    }

    pub(super) fn note_descriptor(&mut self, descriptor: &ShardDescriptor) {
        self.shard_max = self.shard_max.max(descriptor.shard.0);
        for member in &descriptor.members {
            self.replica_max = self.replica_max.max(member.replica.0);
            self.note_node(member.node);
        }
    }

    pub(super) fn note_node(&mut self, node: NodeId) {
        self.node_max = self.node_max.max(node.0);
    }

    /// Gives out `count` ids and returns the first; `None` if there are not that many left.
    pub(super) fn allocate(&mut self, kind: IdKind, count: u32) -> Option<u64> {
        let max = match kind {
            IdKind::Shard => &mut self.shard_max,
            IdKind::Replica => &mut self.replica_max,
            IdKind::Node => &mut self.node_max,
        };
        let first = max.checked_add(1)?;
        *max = max.checked_add(u64::from(count))?;
        Some(first)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.cluster_version.to_le_bytes());
        for number in [self.shard_max, self.replica_max, self.node_max] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Head, MetaError> {
        let mut reader = ByteReader::new(bytes);
        let found = reader.u8()?;
        if found != FORMAT {
            return Err(MetaError::Format { what: "the meta shard's head", found });
        }
        let (revision, cluster_version) = (reader.u64()?, reader.u32()?);
        let (shard_max, replica_max) = (reader.u64()?, reader.u64()?);
        let head =
            Head { revision, cluster_version, shard_max, replica_max, node_max: reader.u64()? };
        if !reader.is_empty() {
            return Err(MetaError::Malformed("trailing bytes"));
        }
        // The largest has no next one; counting never gets there, damage might.
        if revision == 0 || revision == u64::MAX {
            return Err(MetaError::Malformed("a revision that no cluster has"));
        }
        Ok(head)
    }
}

pub(super) fn node_key(node: NodeId) -> [u8; 9] {
    key(TAG_NODE, node.0)
}

pub(super) fn shard_key(shard: ShardId) -> [u8; 9] {
    key(TAG_SHARD, shard.0)
}

fn key(tag: u8, id: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}
