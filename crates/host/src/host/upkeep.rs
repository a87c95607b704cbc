//! Changes of members, installed snapshots, purges and removals of a host's replicas.

use quorate_liveness::{Decision, Heard};
use quorate_raft::{ChangeError, InstallError, Membership};
use quorate_types::{Index, Monotonic, ShardId};

use super::Host;
use super::slots::Slot;
use crate::shard::Shard;
use crate::turn::{Arrived, ShardInstall, ShardPurge, Ticket};

impl Host {
    pub(super) fn change_membership(
        &mut self,
        now: Monotonic,
        shard: ShardId,
        ticket: Ticket,
        (expected, target): (&Membership, &Membership),
    ) {
        let Some(slot) = self.shards.find(shard) else {
            self.turn.changes.push((ticket, Err(ChangeError::NotLeader { leader: None })));
            return;
        };
        let change = self.shards[slot].kernel.change_membership(now, expected, target);
        self.turn.changes.push((ticket, change));
        self.mark_dirty(slot);
    }

    /// Restarts a shard's log after a snapshot. Callers whose entries the snapshot may hold are
    /// told that the outcome is unknown: this log never shows their entries.
    pub(super) fn install(&mut self, now: Monotonic, shard: ShardId, arrived: Arrived) {
        let Arrived { to, from, term, base, membership, descriptor_version } = arrived;
        let ended = |outcome| ShardInstall { shard, replica: to, outcome };
        let Some(slot) = self.find_replica(shard, to) else {
            self.turn.installs.push(ended(Err(InstallError::NoReplica)));
            return;
        };
        // Only an elected leader sends one.
        if self.decide(now, slot, from, term, Heard::Leader) == Decision::Drop {
            let term = self.shards[slot].kernel.role().term;
            let dropped = InstallError::Superseded { sent_in: term, term };
            self.turn.installs.push(ended(Err(dropped)));
            return;
        }
        let installed = self.shards[slot].kernel.install(now, term, base, membership);
        if installed.is_ok() {
            self.shards[slot].descriptor_version = descriptor_version;
            self.shards[slot].reset_after_snapshot(base.index, &mut self.turn.answers);
            self.stalls.expect_applied(now, &mut self.shards[slot], base.index);
            // The log now begins later than any purge of this turn would make it begin.
            self.turn.purges.retain(|purge| purge.shard != shard);
        }
        self.turn.installs.push(ended(installed.map(|()| base)));
        self.mark_dirty(slot);
    }

    /// Purges the entries of a shard's log that nobody needs.
    pub(super) fn purge(&mut self, slot: Slot, to: Index, kept_from: Index) {
        let Shard { id: shard, replica, ref mut kernel, .. } = self.shards[slot];
        let before = kernel.base();
        let base = kernel.purge(to, kept_from);
        if base != before {
            let membership = kernel.base_membership().clone();
            self.turn.purges.push(ShardPurge { shard, replica, base, membership });
        }
        self.mark_dirty(slot);
    }

    /// Gives a replica up: it was destroyed on proof, or has lost what it had promised (RULES 5 and
    /// 15). Its callers are answered with the next turn, and nothing else of it is in that turn: no
    /// message, no purge, no outcome of an install. Its slot is free. What is on its way to it is
    /// dropped when it arrives.
    pub fn remove(&mut self, now: Monotonic, shard: ShardId) {
        let Some(slot) = self.shards.find(shard) else { return };
        self.forget_liveness(now, slot);
        self.shards[slot].end(&mut self.turn.answers);
        self.removed.insert(shard, self.shards[slot].replica);
        self.vacate(slot);
        self.turn.silence(shard);
    }
}
