//! `[[nodes]]`: the members of the cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quorate::NodeId;

use super::addresses::{Addresses, Taken, Use};
use super::faults::{Faults, Placed};
use super::section::Section;

/// One node of the cluster, as every other one reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfiguredNode {
    /// Its id.
    pub id: NodeId,
    /// UDP, for the other nodes.
    pub address: SocketAddr,
    /// TCP, for Redis clients.
    pub redis: SocketAddr,
    /// TCP, for HTTP.
    pub admin: SocketAddr,
}

/// One entry, as far as it can be understood.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) id: Option<u64>,
    at: usize,
    addresses: Addresses,
}

impl NodeEntry {
    /// The entry, if nothing of it is missing.
    pub(super) fn complete(&self) -> Option<ConfiguredNode> {
        Some(ConfiguredNode {
            id: NodeId(self.id?),
            address: self.addresses.address?.value,
            redis: self.addresses.redis?.value,
            admin: self.addresses.admin?.value,
        })
    }
}

pub(super) fn read(sections: &[Section<'_>], faults: &mut Faults<'_>) -> Vec<NodeEntry> {
    let mut entries = Vec::new();
    for section in sections {
        section.require(&["id", "address", "redis", "admin"], faults);
        let id = section.number("id", faults);
        entries.push(NodeEntry {
            id: id.map(|id| id.value),
            at: id.map_or(section.at(), |id| id.at),
            addresses: Addresses::read(section, Use::Reach, faults),
        });
    }
    entries
}

/// Notes ids and addresses that appear twice, and a missing entry of this node.
pub(super) fn check(entries: &[NodeEntry], own: Option<Placed<u64>>, faults: &mut Faults<'_>) {
    let mut ids: BTreeMap<u64, usize> = BTreeMap::new();
    let mut taken = Taken::default();
    for entry in entries {
        let Some(id) = entry.id else {
            taken.add("another node", &entry.addresses, faults);
            continue;
        };
        taken.add(&format!("node {id}"), &entry.addresses, faults);
        match ids.get(&id) {
            Some(line) => faults.add(
                entry.at,
                format!("node {id} stands in line {line} already; give each node its own id"),
            ),
            None => {
                ids.insert(id, faults.line(entry.at));
            }
        }
    }
    let nothing_unknown = !entries.is_empty() && entries.iter().all(|entry| entry.id.is_some());
    if let Some(own) = own
        && nothing_unknown
        && !ids.contains_key(&own.value)
    {
        let known: Vec<_> = ids.keys().map(ToString::to_string).collect();
        faults.add(
            own.at,
            format!(
                "this is node {}, but [[nodes]] has only {}; add it there, as on every node",
                own.value,
                known.join(", "),
            ),
        );
    }
}
