//! What the world looks at from time to time, because nothing that happens tells of it.

use quorate_raft::Role;
use quorate_types::ShardId;

use super::schedule::Happening;
use super::{Clocks, MILLI, SECOND, World};
use crate::observation::{Memory, Observation};

impl World {
    /// Looks at leases, and once a second at memory.
    pub(crate) fn sample(&mut self) {
        self.schedule.at(self.now + 50 * MILLI, Happening::Sample);
        if self.character.has_liveness {
            for place in 0..self.shards.len() {
                self.sample_leases(self.shards[place]);
            }
            // Probes wake what they are sent to: the last look is the one before them.
            if self.now.is_multiple_of(SECOND / 2) && self.probes.is_empty() {
                self.sample_quiet(false);
            }
        }
        if self.now.is_multiple_of(SECOND) {
            for node in 0..self.nodes.len() {
                self.sample_memory(node);
            }
        }
    }

    /// Shows who holds a lease of the shard, each by its own clock.
    pub(crate) fn sample_leases(&mut self, shard: ShardId) {
        if !self.character.has_liveness || self.character.clocks == Clocks::BeyondMargin {
            return;
        }
        let mut holders = Vec::new();
        for node in &self.nodes {
            let Some(process) = &node.process else { continue };
            let Some(view) = process.host.view(shard) else { continue };
            let holds = view.lease_until.is_some_and(|until| node.read(self.now) < until);
            if holds && let Some(live) = process.replicas.get(&shard) {
                holders.push((node.id, live.replica, view.role.term));
            }
        }
        self.observe(Observation::Leases { shard, holders: &holders });
    }

    fn sample_memory(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let Some(process) = &self.nodes[node].process else { return };
        let look = |(shard, live): (&ShardId, &super::node::Live)| {
            let view = process.host.view(*shard)?;
            let handed = live.applying.iter().flat_map(|apply| &apply.committed.runs);
            let memory = Memory {
                cached_bytes: view.cached_bytes,
                waiting: view.waiting,
                apply_bytes: handed.map(quorate_raft::Run::len_bytes).sum(),
                held_messages: 0,
            };
            Some((*shard, memory))
        };
        for (shard, memory) in process.replicas.iter().filter_map(look).collect::<Vec<_>>() {
            self.observe(Observation::Memory { node: id, shard, memory });
        }
    }

    /// Whether every leader is quiet.
    pub(crate) fn is_all_quiet(&self) -> bool {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let mut views = processes.flat_map(|process| {
            process.replicas.keys().filter_map(|shard| process.host.view(*shard))
        });
        views.all(|view| view.role.role != Role::Leader || view.is_quiet)
    }

    /// Shows which replicas are quiet, leaders that say so and followers that are bound: those that
    /// have changed, or all.
    pub(crate) fn sample_quiet(&mut self, all: bool) {
        for node in 0..self.nodes.len() {
            let id = self.nodes[node].id;
            let Some(process) = &mut self.nodes[node].process else { continue };
            let mut seen = Vec::new();
            for (shard, live) in &mut process.replicas {
                let Some(view) = process.host.view(*shard) else { continue };
                // One that is not admitted follows nobody.
                if self.operator.in_force(*shard).node_of(live.replica).is_none() {
                    continue;
                }
                let leads = view.role.role == Role::Leader;
                let is_quiet = if leads { view.is_quiet } else { view.is_bound };
                if std::mem::replace(&mut live.is_quiet, is_quiet) != is_quiet || all {
                    seen.push((*shard, live.replica, is_quiet));
                }
            }
            for (shard, replica, is_quiet) in seen {
                self.observe(Observation::Quiet { node: id, shard, replica, is_quiet });
            }
        }
    }
}
