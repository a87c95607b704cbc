//! Injects faults: each kind that the seed has strikes again and again, at random times.

use quorate_types::ShardId;

use super::World;
use super::node::Node;
use super::profile::Clocks;
use super::schedule::Happening;
use super::units::{MILLI, SECOND};
use crate::observation::{FaultKind, Observation, why};

/// The end of a fault that lasts.
pub(crate) struct FaultEnd {
    kind: FaultKind,
    node: Option<usize>,
}

/// The most that a clock runs fast or slow within the margin, in millionths.
const DRIFT_WITHIN: u64 = 10_000;
/// The most that a clock jumps within the margin. Two clocks that each drift by 1% for one support
/// and jump once stray by 44 ms, which is less than the margin of 50 ms.
const JUMP_WITHIN: u64 = 12 * MILLI;
/// Shortest time between two jumps of one clock: longer than a support lasts by any clock.
const JUMPS_APART: u64 = 1_300 * MILLI;

impl World {
    /// Schedules the first fault of each kind.
    pub(crate) fn begin_faults(&mut self) {
        if self.profile.is_unruly {
            for kind in [FaultKind::Loss, FaultKind::Duplication, FaultKind::Reorder] {
                self.show_fault(kind, None);
            }
        }
        for (kind, interval) in self.profile.faults.clone() {
            let at = SECOND + self.random.below(interval * MILLI);
            self.schedule.at(at, Happening::Fault(kind));
        }
    }

    /// Draws the end of a fault: `low` to `high` milliseconds from now, but not after the heal.
    fn lasts(&mut self, low: u64, high: u64) -> u64 {
        let until = self.now + self.random.between(low * MILLI, high * MILLI);
        until.min(self.config.faulty_ms * MILLI)
    }

    /// A fault of this kind strikes.
    pub(crate) fn handle_fault(&mut self, kind: FaultKind) {
        if self.is_healed {
            return;
        }
        let interval = self.profile.faults.iter().find(|(k, _)| *k == kind);
        let interval = interval.expect("scheduled because the seed has it").1 * MILLI;
        let next = self.now + self.random.between(interval / 2, interval * 3 / 2);
        self.schedule.at(next, Happening::Fault(kind));
        let node = self.random.place(self.nodes.len());
        match kind {
            FaultKind::Crash => self.crash(kind, &[node]),
            FaultKind::CrashAll => self.crash(kind, &(0..self.nodes.len()).collect::<Vec<_>>()),
            FaultKind::ClockDrift | FaultKind::ClockJump | FaultKind::ClockJumpBeyond => {
                self.disturb_clock(kind, node);
            }
            FaultKind::Suspend | FaultKind::Pause => {
                let until = self.lasts(200, 7_000);
                self.nodes[node].paused_until = until.max(self.nodes[node].paused_until);
                self.lasting(kind, Some(node), until);
            }
            FaultKind::WorkerHung => {
                let until = self.lasts(500, 8_000);
                let this = &mut self.nodes[node];
                (this.hung_since, this.hung_until) = (self.now, until);
                self.lasting(kind, Some(node), until);
            }
            FaultKind::DiskSlow => {
                let until = self.lasts(1_000, 8_000);
                let slow = self.random.between(10, 400) * MILLI;
                let disk = &mut self.nodes[node].disk;
                (disk.slow, disk.slow_until) = (slow, until);
                self.lasting(kind, Some(node), until);
            }
            FaultKind::DiskStall => {
                let until = self.lasts(1_000, 9_000);
                self.nodes[node].disk.stalled_until = until;
                self.lasting(kind, Some(node), until);
            }
            // These are shown when they take effect.
            FaultKind::SyncFailed => self.nodes[node].disk.fails_next = true,
            FaultKind::BitFlip => self.flip(node),
            FaultKind::WalDamaged => self.damage_wal(node),
            FaultKind::SnapshotCut => self.snapshot_cut = Some(node),
            _ => self.disturb_network(kind, node),
        }
    }

    /// Shows a fault that lasts, and schedules its end.
    fn lasting(&mut self, kind: FaultKind, node: Option<usize>, until: u64) {
        self.show_fault(kind, node);
        self.schedule.at(until, Happening::FaultEnd(FaultEnd { kind, node }));
    }

    pub(crate) fn show_fault(&mut self, kind: FaultKind, node: Option<usize>) {
        let node = node.map(|node| self.nodes[node].id);
        self.observe(Observation::Fault { kind, node, detail: "" });
    }

    /// A fault that lasts ends.
    pub(crate) fn handle_fault_end(&mut self, end: FaultEnd) {
        let FaultEnd { kind, node } = end;
        let id = node.map(|node| self.nodes[node].id);
        self.observe(Observation::FaultEnded { kind, node: id });
        if matches!(
            kind,
            FaultKind::OneWayCut
                | FaultKind::Cut
                | FaultKind::Partition
                | FaultKind::PartialPartition
                | FaultKind::StreamsHang
        ) {
            self.handle_reconnects();
        }
        if let Some(node) = node {
            self.step(node);
        }
    }

    pub(crate) fn crash(&mut self, kind: FaultKind, nodes: &[usize]) {
        let one = nodes.first().copied().filter(|_| nodes.len() == 1);
        if nodes.iter().all(|node| self.nodes[*node].process.is_none()) {
            return;
        }
        self.show_fault(kind, one);
        for node in nodes {
            self.stop(*node, why::CRASHED);
        }
    }

    fn disturb_clock(&mut self, kind: FaultKind, node: usize) {
        let now = self.now;
        let is_within = self.profile.clocks == Clocks::WithinMargin;
        match kind {
            FaultKind::ClockDrift => {
                let most = if is_within { DRIFT_WITHIN } else { 200_000 };
                let rate = self.random.below(2 * most + 1).cast_signed() - most.cast_signed();
                self.nodes[node].clock.set_rate(now, rate);
            }
            FaultKind::ClockJump => {
                if now < self.nodes[node].jumped_at + JUMPS_APART {
                    return;
                }
                self.nodes[node].jumped_at = now;
                let by = self.random.below(JUMP_WITHIN);
                self.nodes[node].clock.jump(now, by);
            }
            _ if self.random.chance(500) => {
                let by = self.random.between(60, 10_000) * MILLI;
                self.nodes[node].clock.jump(now, by);
            }
            _ => {
                // A machine frozen from outside: both its clock and its process stand still.
                let until = self.lasts(60, 5_000);
                let this = &mut self.nodes[node];
                this.clock.freeze(now, until);
                this.paused_until = this.paused_until.max(until);
            }
        }
        self.show_fault(kind, Some(node));
        self.rearm(node);
    }

    /// Checks the timers of a node again, since its clock has changed.
    fn rearm(&mut self, node: usize) {
        self.wake(node);
        self.nodes[node].heartbeat_at = self.now;
        self.schedule.at(self.now, Happening::Heartbeat { node });
    }

    fn flip(&mut self, node: usize) {
        let shard = self.shards[self.random.place(self.shards.len())];
        let id = self.nodes[node].id;
        let members = self.operator.in_force(shard);
        let is_member = self.nodes[node]
            .disk
            .replica(shard)
            .is_some_and(|replica| members.is_voter(replica.replica));
        if !is_member || !self.operator.may_damage(shard) || self.is_flipped(shard) {
            return;
        }
        let place = self.random.bits();
        if self.nodes[node].disk.flip(shard, place) {
            let (kind, node) = (FaultKind::BitFlip, Some(id));
            let detail = "in a run of one replica";
            self.observe(Observation::Fault { kind, node, detail });
        }
    }

    /// Damages the whole write-ahead log of the first node, from `node` on, of which every shard
    /// survives that. The process does not notice; a start does, after the crash that follows.
    fn damage_wal(&mut self, node: usize) {
        let count = self.nodes.len();
        let survives = |shard| self.operator.may_damage(shard) && !self.is_flipped(shard);
        let may_be_damaged = |node: &usize| {
            let Node { process, disk, .. } = &self.nodes[*node];
            process.is_some()
                && !self.operator.expects_birth_at(*node)
                && disk.replicas().all(|(shard, _)| survives(shard))
        };
        let Some(node) = (node..node + count).map(|node| node % count).find(may_be_damaged) else {
            return;
        };
        self.nodes[node].disk.damage_wal();
        self.show_fault(FaultKind::WalDamaged, Some(node));
        let (life, after) = (self.nodes[node].life, self.random.between(50, 1_500) * MILLI);
        self.schedule.at(self.now + after, Happening::CrashDamaged { node, life });
    }

    /// Whether a replica of the shard has damage that no read has found yet.
    fn is_flipped(&self, shard: ShardId) -> bool {
        let is_damaged = |Node { disk, .. }: &Node| {
            disk.replica(shard).is_some_and(|log| log.is_flipped() || disk.is_wal_damaged())
        };
        self.nodes.iter().any(is_damaged)
    }

    fn disturb_network(&mut self, kind: FaultKind, node: usize) {
        let count = self.nodes.len();
        let other = (node + 1 + self.random.place(count - 1)) % count;
        let until = self.lasts(200, 6_000);
        // Which side each node is on, for a partition.
        let side: Vec<bool> = (0..count).map(|_| self.random.chance(500)).collect();
        let slow = self.random.between(20, 500) * MILLI;
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let is_pair = (from, to) == (node, other);
                let is_either = is_pair || (to, from) == (node, other);
                match kind {
                    FaultKind::OneWayCut if is_pair => self.network.cut(from, to, until),
                    FaultKind::Cut if is_either => self.network.cut(from, to, until),
                    FaultKind::Partition if side[from] != side[to] => {
                        self.network.cut(from, to, until);
                    }
                    // The nodes of one side lose the link to `node`, and no other link.
                    FaultKind::PartialPartition
                        if (from == node && side[to]) || (to == node && side[from]) =>
                    {
                        self.network.cut(from, to, until);
                    }
                    FaultKind::SlowPeer if from == node || to == node => {
                        self.network.slow(from, to, slow, until);
                    }
                    FaultKind::Delay => self.network.slow(from, to, slow / 4, until),
                    FaultKind::DatagramsLost if is_either => {
                        self.network.lose_datagrams(from, to, until);
                    }
                    FaultKind::StreamsHang if is_either => self.network.hang(from, to, until),
                    FaultKind::ReleaseLost if from == node => {
                        self.network.deafen(from, to, until);
                    }
                    _ => {}
                }
            }
        }
        self.lasting(kind, Some(node), until);
    }
}
