//! The meta shard's contents at one moment: what nodes cache and what is sent to them.

use quorate_router::ShardDescriptor;
use quorate_types::NodeId;

use super::descriptor::{decode_descriptor, put_descriptor, read_descriptor};
use super::error::MetaError;
use super::head::{Head, KEY_HEAD, TAG_NODE, TAG_OPERATION, TAG_SHARD, node_key, shard_key};
use super::node::NodeRecord;
use crate::state_machine::OrderedMap;
use quorate_types::{ByteReader, put_count};

const FORMAT: u8 = 1;

/// Everything the meta shard holds, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaMap {
    /// Counts the commands that changed something; 0: the cluster is not founded.
    pub revision: u64,
    /// Version of formats and behaviour that all nodes of the cluster may use.
    pub cluster_version: u32,
    /// Ascending by id.
    pub nodes: Vec<NodeRecord>,
    /// Ascending by shard id.
    pub shards: Vec<ShardDescriptor>,
}

impl MetaMap {
    /// The key of the head: alone it gives the revision, by [`MetaMap::from_pairs`].
    pub const HEAD_KEY: &'static [u8] = &KEY_HEAD;

    /// All of `map`, by one scan. A map that was not founded gives the default.
    ///
    /// # Errors
    /// [`MetaError::Stored`] for a pair that makes no sense.
    pub fn read(map: &mut dyn OrderedMap) -> Result<MetaMap, MetaError> {
        let mut gatherer = Gatherer::default();
        let mut outcome = Ok(());
        map.scan(&[], None, &mut |key, value| {
            outcome = gatherer.take(key, value);
            outcome.is_ok()
        });
        outcome?;
        gatherer.finish()
    }

    /// As [`MetaMap::read`], from pairs that the caller has scanned, in the order of their keys.
    ///
    /// # Errors
    /// [`MetaError::Stored`] for a pair that makes no sense, or out of order.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<MetaMap, MetaError> {
        let mut gatherer = Gatherer::default();
        for (key, value) in pairs {
            gatherer.take(key, value)?;
        }
        gatherer.finish()
    }

    /// The revision of `map` without reading the rest: one look-up. 0 if it is not founded, and
    /// also if its head makes no sense; [`MetaMap::read`] says which.
    pub fn revision_of(map: &mut dyn OrderedMap) -> u64 {
        Head::read(map).ok().flatten().map_or(0, |head| head.revision)
    }

    /// What is known of `node`.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        let at = self.nodes.binary_search_by_key(&node, |record| record.node).ok()?;
        self.nodes.get(at)
    }

    /// Bytes: crc32c of the rest u32, format u8, revision u64, cluster version u32, node count u32,
    /// node records, shard count u32, descriptors; records are as the meta shard keeps them.
    /// Little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, FORMAT];
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.cluster_version.to_le_bytes());
        put_count(&mut bytes, self.nodes.len());
        for node in &self.nodes {
            node.encode_into(&mut bytes);
        }
        put_count(&mut bytes, self.shards.len());
        for shard in &self.shards {
            put_descriptor(&mut bytes, shard);
        }
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`MetaMap::encode`] wrote.
    ///
    /// # Errors
    /// [`MetaError`] for anything else, also for lists that do not ascend. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<MetaMap, MetaError> {
        let mut reader = ByteReader::new(bytes);
        let expected = reader.u32()?;
        let found = crc32c::crc32c(&bytes[4..]);
        if expected != found {
            return Err(MetaError::Checksum { expected, found });
        }
        let found = reader.u8()?;
        if found != FORMAT {
            return Err(MetaError::Format { what: "the meta map", found });
        }
        let (revision, cluster_version) = (reader.u64()?, reader.u32()?);
        let nodes = read_ascending(&mut reader, NodeRecord::read, |record| record.node.0)?;
        let shards = read_ascending(&mut reader, read_descriptor, |shard| shard.shard.0)?;
        if !reader.is_empty() {
            return Err(MetaError::Malformed("trailing bytes"));
        }
        Ok(MetaMap { revision, cluster_version, nodes, shards })
    }
}

/// A list behind a u32 count. The count has no bound and no memory is reserved ahead: it is
/// believed only as far as there are bytes for it, and the frame bounds those.
fn read_ascending<T>(
    reader: &mut ByteReader<&[u8]>,
    read: impl Fn(&mut ByteReader<&[u8]>) -> Result<T, MetaError>,
    id: impl Fn(&T) -> u64,
) -> Result<Vec<T>, MetaError> {
    let mut list: Vec<T> = Vec::new();
    for _ in 0..reader.u32()? {
        let item = read(reader)?;
        if list.last().is_some_and(|last| id(last) >= id(&item)) {
            return Err(MetaError::Malformed("a list that does not ascend by id"));
        }
        list.push(item);
    }
    Ok(list)
}

/// Builds a map from pairs.
#[derive(Default)]
struct Gatherer {
    map: MetaMap,
    last_key: Option<Vec<u8>>,
}

impl Gatherer {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), MetaError> {
        self.take_pair(key, value).map_err(|error| error.under(key))
    }

    fn take_pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), MetaError> {
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            return Err(MetaError::Malformed("a key out of order"));
        }
        match key.first() {
            Some(&tag) if tag == KEY_HEAD[0] && key == KEY_HEAD => {
                let head = Head::decode(value)?;
                self.map.revision = head.revision;
                self.map.cluster_version = head.cluster_version;
            }
            Some(&TAG_NODE) => {
                let record = NodeRecord::decode(value)?;
                check_key(key, node_key(record.node))?;
                self.map.nodes.push(record);
            }
            Some(&TAG_SHARD) => {
                let descriptor = decode_descriptor(value)?;
                check_key(key, shard_key(descriptor.shard))?;
                self.map.shards.push(descriptor);
            }
            Some(&TAG_OPERATION) => {}
            _ => return Err(MetaError::Malformed("a key of no known kind")),
        }
        self.last_key = Some(key.to_vec());
        Ok(())
    }

    fn finish(self) -> Result<MetaMap, MetaError> {
        if self.map.revision == 0 && self.last_key.is_some() {
            return Err(MetaError::Malformed("no head beside other pairs").under(&KEY_HEAD));
        }
        Ok(self.map)
    }
}

fn check_key(found: &[u8], expected: [u8; 9]) -> Result<(), MetaError> {
    if found == expected { Ok(()) } else { Err(MetaError::Malformed("another id than its key's")) }
}
