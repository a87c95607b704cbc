//! Drives the two stores of a node: syncs of the log disk, flushes of the data store, purges.

use quorate_host::{Event, ShardPurge};
use quorate_types::{Index, Mutant, ReplicaId, ShardId};

use super::World;
use super::log_disk::{DiskTurn, Done, Part, ReplicaEnd};
use super::log_replica::Stored;
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use crate::observation::{FaultKind, Observation, why};

impl World {
    /// Hands a turn to the log disk.
    pub(crate) fn submit(&mut self, node: usize, turn: DiskTurn) {
        if self.nodes[node].disk.submit(turn) {
            self.begin_sync(node);
        }
        if self.breaks(Mutant::DiskLies) {
            self.lie_about_turns(node);
        }
    }

    /// Reports queued turns as durable although they are not: for mutants.
    fn lie_about_turns(&mut self, node: usize) {
        let newest = self.nodes[node].disk.newest_turn();
        if let Some(turn) = newest {
            self.post(node, Event::Persisted { turn });
            self.wake(node);
        }
    }

    fn begin_sync(&mut self, node: usize) {
        let latency = self.random.between(200_000, 3 * MILLI);
        let disk = &mut self.nodes[node].disk;
        let Some(sync) = disk.begin_sync(self.now) else { return };
        let slow = if self.now < disk.slow_until { self.random.below(disk.slow) } else { 0 };
        let at = (self.now + latency + slow).max(disk.stalled_until);
        self.schedule.at(at, Happening::Synced { node, sync });
    }

    /// A sync ended: the log's thread tells the worker, even if that stands still.
    pub(crate) fn handle_synced(&mut self, node: usize, sync: u64) {
        if self.nodes[node].disk.sync != sync {
            return;
        }
        if self.nodes[node].disk.fails_next {
            let id = Some(self.nodes[node].id);
            let detail = "the node latches";
            self.observe(Observation::Fault { kind: FaultKind::SyncFailed, node: id, detail });
            if self.breaks(Mutant::FailedSyncIgnored) {
                self.nodes[node].disk.fails_next = false;
                self.lie_about_turns(node);
                self.begin_sync(node);
                return;
            }
            self.stop(node, why::LATCHED);
            return;
        }
        let all = self.nodes[node].disk.complete_sync();
        for done in &all {
            self.show_durable(node, done);
        }
        for done in all {
            self.handle_durable(node, done);
        }
        self.begin_sync(node);
        self.step(node);
    }

    /// Something has become durable while the process runs.
    fn handle_durable(&mut self, node: usize, done: Done) {
        match done {
            Done::Unit { number, parts, ended, .. } => {
                for Part { shard, replica, write, .. } in parts {
                    self.touch(shard);
                    if write.is_some_and(|write| write.install.is_some()) {
                        self.handle_install_durable(node, (shard, replica));
                    }
                }
                if !ended.is_empty() {
                    self.nodes[node].sweep_spaces();
                }
                if let Some(turn) = number {
                    self.post(node, Event::Persisted { turn });
                }
            }
            Done::Longest(longest) => {
                let process = self.nodes[node].process.as_mut();
                if let Some(live) = process.and_then(|process| process.liveness.as_mut()) {
                    live.handle_longest_persisted(longest);
                }
            }
            Done::Born(shard, replica, space) => self.take_in(node, shard, replica, space),
            Done::BirthRefused(..) => self.nodes[node].sweep_spaces(),
        }
    }

    /// Shows what has become durable.
    pub(crate) fn show_durable(&mut self, node: usize, done: &Done) {
        let node = self.nodes[node].id;
        match done {
            Done::Unit { parts, skipped, ended, .. } => {
                for (shard, replica) in skipped {
                    let (shard, replica) = (*shard, *replica);
                    self.observe(Observation::PartSkipped { node, shard, replica });
                }
                for Part { shard, replica, write, stored } in parts {
                    let (shard, replica) = (*shard, *replica);
                    if let Some(write) = write {
                        self.observe(Observation::Durable { node, shard, replica, write });
                    }
                    let Stored { replica, base, last, has_gap } = *stored;
                    self.observe(Observation::Stored { node, shard, replica, base, last, has_gap });
                }
                for ReplicaEnd { shard, replica } in ended {
                    let (shard, replica) = (*shard, *replica);
                    self.observe(Observation::ReplicaEnded { node, shard, replica });
                }
            }
            Done::BirthRefused(shard, replica) => {
                let (shard, replica) = (*shard, *replica);
                self.observe(Observation::TombstoneRefused { node, shard, replica });
            }
            Done::Longest(_) | Done::Born(..) => {}
        }
    }

    /// Begins to flush the memtables of some shards.
    pub(crate) fn flush(&mut self, node: usize) {
        let after = self.random.between(200 * MILLI, 3 * SECOND);
        self.schedule.at(self.now + after, Happening::Flush { node });
        let Some(process) = &self.nodes[node].process else { return };
        if self.now < self.nodes[node].paused_until {
            return;
        }
        let spaces: Vec<_> = process.replicas.values().map(|live| live.space).collect();
        for space in spaces {
            if self.random.chance(600)
                && let Some(space) = self.nodes[node].data.find(space)
            {
                space.begin_flush();
            }
        }
        let is_late = self.random.chance(100);
        let lasts = self.random.between(MILLI, if is_late { 2 * SECOND } else { 50 * MILLI });
        let life = self.nodes[node].life;
        self.schedule.at(self.now + lasts, Happening::Flushed { node, life });
    }

    /// A flush has completed. A log may be purged as far as its data is flushed (RULE 10).
    pub(crate) fn handle_flushed(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(process) = &self.nodes[node].process else { return };
        let all: Vec<_> = process
            .replicas
            .iter()
            .map(|(shard, live)| (*shard, live.replica, live.space))
            .collect();
        for (shard, replica, space) in all {
            let Some(space) = self.nodes[node].data.find(space) else { continue };
            let is_news = space.end_flush();
            let (flushed, applied) = (space.flushed().applied.index, space.record.applied.index);
            if is_news {
                let id = self.nodes[node].id;
                self.observe(Observation::Flushed { node: id, shard, replica, applied: flushed });
            }
            let mutated = self.breaks(Mutant::PurgeUnpersisted);
            self.ask_to_purge(node, (shard, replica), if mutated { applied } else { flushed });
        }
        self.step(node);
    }

    /// Asks for a purge of a log that holds too much. Entries are kept for followers within a larger
    /// bound.
    fn ask_to_purge(&mut self, node: usize, (shard, replica): (ShardId, ReplicaId), to: Index) {
        let (asked, kept) = (self.profile.log_bytes_asked, self.profile.log_bytes_kept);
        let Some(log) = self.nodes[node].disk.replica(shard) else { return };
        if log.replica != replica || log.held_bytes() <= asked || !self.random.chance(700) {
            return;
        }
        let kept_from = log.index_within(kept);
        let process = self.nodes[node].process.as_mut().expect("it flushes");
        process.kept_from.insert(shard, kept_from);
        self.post(node, Event::Purge { shard, replica, to, kept_from });
    }

    /// Shows the purges that are handed to the log.
    pub(crate) fn show_purges(&mut self, node: usize, purges: &[ShardPurge]) {
        let Some(process) = &self.nodes[node].process else { return };
        let of = |purge: &ShardPurge| process.kept_from.get(&purge.shard).copied();
        let bounds: Vec<Index> = purges.iter().map(|purge| of(purge).unwrap_or_default()).collect();
        let node = self.nodes[node].id;
        for (ShardPurge { shard, replica, base, .. }, kept_from) in purges.iter().zip(bounds) {
            let (shard, replica, base) = (*shard, *replica, *base);
            self.observe(Observation::Purged { node, shard, replica, base, kept_from });
        }
    }
}
