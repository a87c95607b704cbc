//! Drives the two stores of a node: syncs of the log disk, flushes of the data store, purges.

use quorate_host::{Event, ShardPurge};
use quorate_types::{Index, Mutant, ShardId};

use super::data_store::SpaceId;
use super::log_disk::DiskTurn;
use super::node::Node;
use super::schedule::Happening;
use super::snapshots::Receiving;
use super::{MILLI, SECOND, World};
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

    /// A sync ended.
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
        let turns = self.nodes[node].disk.complete_sync();
        self.show_durable(node, &turns);
        for turn in turns {
            match turn {
                DiskTurn::Turn(number, writes) => {
                    for write in &writes {
                        self.touch(write.shard);
                        if write.space.is_some() {
                            self.handle_install_durable(node, write.shard);
                        }
                    }
                    self.tell(node, Event::Persisted { turn: number });
                }
                DiskTurn::Longest(longest) => {
                    let process = self.nodes[node].process.as_mut();
                    if let Some(live) = process.and_then(|process| process.liveness.as_mut()) {
                        live.handle_longest_persisted(longest);
                    }
                }
                DiskTurn::Purge(..) => {}
            }
        }
        self.begin_sync(node);
        self.step(node);
    }

    /// Shows what has become durable.
    pub(crate) fn show_durable(&mut self, node: usize, turns: &[DiskTurn]) {
        let id = self.nodes[node].id;
        for turn in turns {
            let DiskTurn::Turn(_, writes) = turn else { continue };
            for part in writes {
                let (shard, replica, write) = (part.shard, part.replica, &part.write);
                // A replica that was removed meanwhile no longer has a log.
                if self.nodes[node].disk.replica(shard).is_some_and(|r| r.replica == replica) {
                    self.observe(Observation::Durable { node: id, shard, replica, write });
                }
            }
        }
    }

    /// Flushes the memtables of some shards; a log may be purged as far as its data is flushed
    /// (RULE 10).
    pub(crate) fn flush(&mut self, node: usize) {
        let after = self.random.between(200 * MILLI, 3 * SECOND);
        self.schedule.at(self.now + after, Happening::Flush { node });
        let Some(process) = &self.nodes[node].process else { return };
        if self.now < self.nodes[node].paused_until {
            return;
        }
        let all: Vec<_> = process
            .replicas
            .iter()
            .map(|(shard, live)| (*shard, live.replica, live.space))
            .collect();
        for (shard, replica, space) in all {
            if self.random.chance(600) {
                self.nodes[node].data.space(space).flush();
            }
            if self.random.chance(300) {
                let to = self.nodes[node].data.space(space).flushed().applied.index;
                self.post(node, Event::Purge { shard, replica, to, kept_from: Index(0) });
            }
        }
        self.step(node);
    }

    /// Moves a log's base forward: one of the next syncs removes its older runs.
    pub(crate) fn carry_out_purge(&mut self, node: usize, purge: ShardPurge) {
        let ShardPurge { shard, replica, base, membership } = purge;
        let id = self.nodes[node].id;
        self.observe(Observation::Purged { node: id, shard, replica, base });
        self.submit(node, DiskTurn::Purge(shard, replica, base, membership));
    }

    /// A fresh space is durably in force: deletes the space before it, with its data.
    fn handle_install_durable(&mut self, node: usize, shard: ShardId) {
        self.answer_installed(node, shard);
        let Node { disk, data, process, .. } = &mut self.nodes[node];
        let process = process.as_ref().expect("only the living sync");
        let named = disk.replicas().map(|(_, replica)| replica.space);
        let current = process.replicas.values().map(|live| live.space);
        let coming = process.receiving.values().filter_map(Receiving::space);
        let kept: Vec<SpaceId> = named.chain(current).chain(coming).collect();
        data.retain(|space| kept.contains(&space));
    }
}
