//! `[bootstrap]`: how a new cluster is cut into shards.

use std::collections::BTreeSet;

use quorate::{Bootstrap, NodeId};

use super::faults::{Faults, Placed};
use super::nodes::{ConfiguredNode, NodeEntry};
use super::section::Section;
use crate::redis::protocol::slot::{SLOTS, split_keys};

const SHARDS: u32 = 64;
const COPIES: usize = 3;

/// The section, as far as it can be understood.
#[derive(Debug, Default)]
pub(super) struct BootstrapSettings {
    shards: Option<u32>,
    copies: Option<usize>,
    nodes: Option<BTreeSet<u64>>,
}

impl BootstrapSettings {
    pub(super) fn read(
        section: Option<&Section<'_>>,
        entries: &[NodeEntry],
        faults: &mut Faults<'_>,
    ) -> BootstrapSettings {
        let Some(section) = section else {
            return BootstrapSettings::default();
        };
        let shards =
            section.number("shards", faults).and_then(|shards| shard_count(shards, faults));
        let nodes =
            section.numbers("nodes", faults).map(|list| known_nodes(&list, entries, faults));
        let holders = nodes.as_ref().map_or(entries.len(), BTreeSet::len);
        let copies = section.number("copies", faults);
        let copies = copies.and_then(|copies| copy_count(copies, holders, faults));
        BootstrapSettings { shards, copies, nodes }
    }

    /// The first map. Nodes are dealt out in ascending order, so that every node makes the same
    /// map however its file is ordered. None if no node holds anything, which is a fault.
    pub(super) fn map(&self, nodes: &[ConfiguredNode]) -> Option<Bootstrap> {
        let mut holders: Vec<NodeId> = match &self.nodes {
            Some(chosen) => chosen.iter().copied().map(NodeId).collect(),
            None => nodes.iter().map(|node| node.id).collect(),
        };
        holders.sort();
        let copies = self.copies.unwrap_or(COPIES);
        let keys = split_keys(self.shards.unwrap_or(SHARDS));
        (!holders.is_empty()).then(|| Bootstrap::split_at(&holders, copies, keys))
    }
}

fn shard_count(shards: Placed<u64>, faults: &mut Faults<'_>) -> Option<u32> {
    match u32::try_from(shards.value) {
        Ok(count) if count <= u32::from(SLOTS) => Some(count),
        _ => {
            let what = format!(
                "`shards` is {}; write one from 1 to {SLOTS}: a shard owns at least one of {SLOTS} \
                 hash slots",
                shards.value
            );
            faults.add(shards.at, what);
            None
        }
    }
}

fn copy_count(copies: Placed<u64>, holders: usize, faults: &mut Faults<'_>) -> Option<usize> {
    match usize::try_from(copies.value) {
        Ok(count) if count <= holders => Some(count),
        // That there is no node at all is another fault, noted where the nodes are.
        _ if holders == 0 => None,
        _ => {
            let what = format!(
                "`copies` is {}, more than the nodes that hold replicas ({holders}), each at most one \
                 copy; lower it or add nodes",
                copies.value
            );
            faults.add(copies.at, what);
            None
        }
    }
}

fn known_nodes(
    list: &Placed<Vec<Placed<u64>>>,
    entries: &[NodeEntry],
    faults: &mut Faults<'_>,
) -> BTreeSet<u64> {
    if list.value.is_empty() {
        faults.add(list.at, "`nodes` names no node; leave it out, and all nodes hold replicas");
    }
    // As long as ids are missing or appear twice, it is not known which ones are meant.
    let mut known = BTreeSet::new();
    let is_known = entries.iter().all(|entry| entry.id.is_some_and(|id| known.insert(id)));
    let mut chosen = BTreeSet::new();
    for node in &list.value {
        let id = node.value;
        if !chosen.insert(id) {
            faults.add(node.at, format!("`nodes` names node {id} twice; once is enough"));
        } else if is_known && !known.contains(&id) {
            let what =
                format!("`nodes` names node {id}, which is not under [[nodes]]; add it there");
            faults.add(node.at, what);
        }
    }
    chosen
}
