//! The commands of the meta shard.

use quorate_router::ShardDescriptor;

use super::descriptor::{put_descriptor, read_descriptor};
use super::error::MetaError;
use super::node::NodeRecord;
use quorate_types::{ByteReader, put_count};

/// Descriptors in one command. A static bootstrap names all shards in one; with short keys and
/// three members each that is about 6 MiB, which an entry holds.
const DESCRIPTORS_MAX: usize = 65_536;

/// A kind of id that the meta shard gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// Shard ids.
    Shard,
    /// Replica ids: one counter for all shards.
    Replica,
    /// Node ids.
    Node,
}

/// A change of the directory of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaCommand {
    /// The first command of a cluster; a no-op if the map is founded already. The highest ids are
    /// those of the descriptors.
    Found {
        /// Cluster version to begin with.
        cluster_version: u32,
        /// The first shards. At most 65,536.
        shards: Vec<ShardDescriptor>,
    },
    /// A node announces itself, for the first time or again: it is inserted, or its address and
    /// services are updated. Another store under a known id is refused (RULES 5 and 9).
    Register(NodeRecord),
    /// Descriptors as their own logs have them, parent and children together. Each is taken if its
    /// epoch is newer than what is held, others are ignored; all or nothing if one of them can't be
    /// true. At most 65,536.
    ReportShards(Vec<ShardDescriptor>),
    /// Asks for ids that were never given out.
    Allocate {
        /// The kind of id.
        kind: IdKind,
        /// How many; 0 gives none.
        count: u32,
    },
    /// Raises the cluster version if it still is `from`.
    RaiseVersion {
        /// The version that the caller believes to be in force.
        from: u32,
        /// The version to have; never lower than `from`.
        to: u32,
    },
}

impl MetaCommand {
    /// Bytes: kind u8, then the fields in order; a list is led by a u32 count, descriptors and node
    /// records are as the meta shard keeps them, a kind of id is u8 1 (shard), 2 (replica) or 3
    /// (node). Little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            MetaCommand::Found { cluster_version, shards } => {
                out.push(1);
                out.extend_from_slice(&cluster_version.to_le_bytes());
                put_descriptors(&mut out, shards);
            }
            MetaCommand::Register(record) => {
                out.push(2);
                record.encode_into(&mut out);
            }
            MetaCommand::ReportShards(shards) => {
                out.push(3);
                put_descriptors(&mut out, shards);
            }
            MetaCommand::Allocate { kind, count } => {
                out.push(4);
                out.push(match kind {
                    IdKind::Shard => 1,
                    IdKind::Replica => 2,
                    IdKind::Node => 3,
                });
                out.extend_from_slice(&count.to_le_bytes());
            }
            MetaCommand::RaiseVersion { from, to } => {
                out.push(5);
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&to.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`MetaCommand::encode`] wrote.
    ///
    /// # Errors
    /// [`MetaError`] for anything else. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<MetaCommand, MetaError> {
        let mut reader = ByteReader::new(bytes);
        let command = match reader.u8()? {
            1 => MetaCommand::Found {
                cluster_version: reader.u32()?,
                shards: read_descriptors(&mut reader)?,
            },
            2 => MetaCommand::Register(NodeRecord::read(&mut reader)?),
            3 => MetaCommand::ReportShards(read_descriptors(&mut reader)?),
            4 => MetaCommand::Allocate {
                kind: match reader.u8()? {
                    1 => IdKind::Shard,
                    2 => IdKind::Replica,
                    3 => IdKind::Node,
                    _ => return Err(MetaError::Malformed("unknown kind of id")),
                },
                count: reader.u32()?,
            },
            5 => MetaCommand::RaiseVersion { from: reader.u32()?, to: reader.u32()? },
            _ => return Err(MetaError::Malformed("unknown kind of command")),
        };
        if reader.is_empty() { Ok(command) } else { Err(MetaError::Malformed("trailing bytes")) }
    }
}

fn put_descriptors(out: &mut Vec<u8>, descriptors: &[ShardDescriptor]) {
    put_count(out, descriptors.len());
    for descriptor in descriptors {
        put_descriptor(out, descriptor);
    }
}

fn read_descriptors(reader: &mut ByteReader<&[u8]>) -> Result<Vec<ShardDescriptor>, MetaError> {
    let count = reader.u32()? as usize;
    if count > DESCRIPTORS_MAX {
        return Err(MetaError::Malformed("more than 65,536 descriptors in a command"));
    }
    // No memory is reserved ahead: the count is believed only as far as there are bytes for it.
    let mut descriptors = Vec::new();
    for _ in 0..count {
        descriptors.push(read_descriptor(reader)?);
    }
    Ok(descriptors)
}
