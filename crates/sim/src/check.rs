//! The properties, and what is remembered to check them.

use std::collections::BTreeMap;

use quorate_host::{Apply, ShardRole};
use quorate_raft::Role;
use quorate_types::{Index, NodeId, ShardId, Term};

/// A property was violated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the world: the same one gives the same history.
    pub seed: u64,
    /// Simulated milliseconds since the start.
    pub at_ms: u64,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

impl std::error::Error for Violation {}

/// One counter key: what callers were told about its increments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    /// Increments that were acknowledged.
    pub(crate) acknowledged: i64,
    /// Increments that may or may not have happened.
    pub(crate) unknown: i64,
}

/// Everything remembered.
#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<(ShardId, Term), NodeId>,
    applied: BTreeMap<(ShardId, Index), (Term, Vec<u8>)>,
    pub(crate) counters: BTreeMap<Vec<u8>, Counter>,
}

impl Checks {
    /// Election safety.
    pub(crate) fn role(&mut self, node: NodeId, role: &ShardRole) -> Result<(), String> {
        if role.role.role != Role::Leader {
            return Ok(());
        }
        let leader = self.leaders.entry((role.shard, role.role.term)).or_insert(node);
        if *leader != node {
            let (shard, term) = (role.shard, role.role.term);
            return Err(format!("shard {shard} has two leaders in {term:?}: {leader:?}, {node:?}"));
        }
        Ok(())
    }

    /// State machine safety.
    pub(crate) fn applied(&mut self, node: NodeId, apply: &Apply) -> Result<(), String> {
        for entry in apply.committed.runs.iter().flat_map(quorate_raft::Run::entries) {
            let place = (apply.shard, entry.id.index);
            let here = (entry.id.term, entry.payload.to_vec());
            let first = self.applied.entry(place).or_insert_with(|| here.clone());
            if *first != here {
                return Err(format!(
                    "shard {} at {:?}: node {node} applies the entry of {:?}, another node that \
                     of {:?}",
                    apply.shard, entry.id.index, here.0, first.0
                ));
            }
        }
        Ok(())
    }

    /// Reads, and at the end every counter.
    pub(crate) fn value(&self, key: &[u8], value: i64, at_least: i64) -> Result<(), String> {
        let counter = self.counters.get(key).copied().unwrap_or_default();
        let at_most = counter.acknowledged + counter.unknown;
        if value < at_least || value > at_most {
            let key = String::from_utf8_lossy(key);
            return Err(format!(
                "counter {key} is {value}; acknowledged before: {at_least}, possible: {at_most}"
            ));
        }
        Ok(())
    }
}
