//! The record of one node in the meta shard.

use std::collections::BTreeMap;

use quorate_types::{Incarnation, NodeId, NodeInstance, StoreId};

use super::error::MetaError;
use quorate_types::{ByteReader, put_field};

const FORMAT: u8 = 2;
/// Services of one node. Each is a kind of listener of one program; a program has a handful.
const SERVICES_MAX: usize = 16;
/// Bytes of an address, a service's name, or its value: a DNS name has at most 253.
const TEXT_BYTES_MAX: usize = 255;
const TOO_MANY_SERVICES: &str = "a node with more than 16 services";
const TEXT_TOO_LONG: &str = "an address or a service of more than 255 bytes";

/// A node as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// The directory that this id is bound to (RULES 5 and 9), and its newest start that registered:
    /// nodes that slept learn from it which start to ask for (RULE 17).
    pub instance: NodeInstance,
    /// Where its peers reach it by QUIC, `host:port`. At most 255 bytes.
    pub address: String,
    /// Its other services: a name, such as `redis`, maps to a value, such as `127.0.0.1:7001`. At
    /// most 16, each name and value at most 255 bytes.
    pub services: BTreeMap<String, String>,
}

impl NodeRecord {
    /// Whether the record is within the bounds of its fields. One that is not can't be registered:
    /// its bytes are refused by every reader.
    ///
    /// # Errors
    /// [`MetaError::Malformed`], which names the bound.
    pub fn check(&self) -> Result<(), MetaError> {
        if self.services.len() > SERVICES_MAX {
            return Err(MetaError::Malformed(TOO_MANY_SERVICES));
        }
        let services = self.services.iter().flat_map(|(name, value)| [name, value]);
        if services.chain([&self.address]).any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(MetaError::Malformed(TEXT_TOO_LONG));
        }
        Ok(())
    }

    /// The value in the map; see the table in the parent's documentation.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out);
        out
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.instance.store.0.to_le_bytes());
        out.extend_from_slice(&self.instance.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.instance.nonce.to_le_bytes());
        put_field(out, self.address.as_bytes());
        // A record beyond its bounds is written as one that every reader refuses.
        out.push(u8::try_from(self.services.len()).unwrap_or(u8::MAX));
        for (name, value) in &self.services {
            put_field(out, name.as_bytes());
            put_field(out, value.as_bytes());
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<NodeRecord, MetaError> {
        let mut reader = ByteReader::new(bytes);
        let record = NodeRecord::read(&mut reader)?;
        if reader.is_empty() { Ok(record) } else { Err(MetaError::Malformed("trailing bytes")) }
    }

    pub(super) fn read(reader: &mut ByteReader<&[u8]>) -> Result<NodeRecord, MetaError> {
        let found = reader.u8()?;
        if found != FORMAT {
            return Err(MetaError::Format { what: "a node record", found });
        }
        let node = NodeId(reader.u64()?);
        let store = StoreId(reader.u128()?);
        let incarnation = Incarnation(reader.u64()?);
        let instance = NodeInstance { store, incarnation, nonce: reader.u64()? };
        let address = read_text(reader)?;
        let count = usize::from(reader.u8()?);
        if count > SERVICES_MAX {
            return Err(MetaError::Malformed(TOO_MANY_SERVICES));
        }
        let mut services = BTreeMap::new();
        for _ in 0..count {
            let (name, value) = (read_text(reader)?, read_text(reader)?);
            if services.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(MetaError::Malformed("services that do not ascend by name"));
            }
            services.insert(name, value);
        }
        Ok(NodeRecord { node, instance, address, services })
    }
}

fn read_text(reader: &mut ByteReader<&[u8]>) -> Result<String, MetaError> {
    let bytes = reader.field()?;
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(MetaError::Malformed(TEXT_TOO_LONG));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| MetaError::Malformed("text is no UTF-8"))?;
    Ok(text.to_owned())
}
