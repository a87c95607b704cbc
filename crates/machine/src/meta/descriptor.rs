//! The bytes of a shard's descriptor.

use bytes::Bytes;
use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId, limits};

use super::error::MetaError;
use quorate_types::{ByteReader, put_count, put_field, put_optional_field};

const FORMAT: u8 = 1;
/// Members of one shard, learners and outgoing voters included. A group of more would spend its
/// time on acknowledgements; seven is much.
const MEMBERS_MAX: usize = 256;

/// The bytes of a descriptor, as the meta shard keeps it and as it goes over the wire: format u8
/// (1), shard u64, start (u32 length, bytes), end (u8 0, or 1 and as start), epoch membership u64
/// and version u64, member count u32, per member replica u64 and node u64. Little-endian.
#[must_use]
pub fn encode_descriptor(descriptor: &ShardDescriptor) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_descriptor(&mut out, descriptor);
    out
}

/// Reads what [`encode_descriptor`] wrote.
///
/// # Errors
/// [`MetaError`] for anything else, also for keys beyond [`limits::KEY_BYTES_MAX`] and for more
/// than 256 members. Never panics.
pub fn decode_descriptor(bytes: &[u8]) -> Result<ShardDescriptor, MetaError> {
    let mut reader = ByteReader::new(bytes);
    let descriptor = read_descriptor(&mut reader)?;
    if reader.is_empty() { Ok(descriptor) } else { Err(MetaError::Malformed("trailing bytes")) }
}

pub(super) fn put_descriptor(out: &mut Vec<u8>, descriptor: &ShardDescriptor) {
    out.push(FORMAT);
    out.extend_from_slice(&descriptor.shard.0.to_le_bytes());
    put_field(out, &descriptor.start);
    put_optional_field(out, descriptor.end.as_deref());
    out.extend_from_slice(&descriptor.epoch.membership.to_le_bytes());
    out.extend_from_slice(&descriptor.epoch.version.to_le_bytes());
    put_count(out, descriptor.members.len());
    for member in &descriptor.members {
        out.extend_from_slice(&member.replica.0.to_le_bytes());
        out.extend_from_slice(&member.node.0.to_le_bytes());
    }
}

pub(super) fn read_descriptor(
    reader: &mut ByteReader<&[u8]>,
) -> Result<ShardDescriptor, MetaError> {
    let found = reader.u8()?;
    if found != FORMAT {
        return Err(MetaError::Format { what: "a shard's descriptor", found });
    }
    let shard = ShardId(reader.u64()?);
    let start = read_key(reader.field()?)?;
    let end = reader.optional_field()?.map(read_key).transpose()?;
    let epoch = Epoch { membership: reader.u64()?, version: reader.u64()? };
    let count = reader.u32()? as usize;
    if count > MEMBERS_MAX {
        return Err(MetaError::Malformed("a shard with more than 256 members"));
    }
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(Replica { replica: ReplicaId(reader.u64()?), node: NodeId(reader.u64()?) });
    }
    Ok(ShardDescriptor { shard, start, end, epoch, members })
}

fn read_key(bytes: &[u8]) -> Result<Bytes, MetaError> {
    if bytes.len() > limits::KEY_BYTES_MAX {
        return Err(MetaError::Malformed("a bound of a range that is longer than any key"));
    }
    Ok(Bytes::copy_from_slice(bytes))
}
