//! Carries out what a node's host wants done in a turn, as the engine's threads would.

use quorate_host::{Event, ShardFetch, ShardLoss, ShardPurge, ShardWrite, Turn};
use quorate_types::{Monotonic, ReplicaId, ShardId};

use super::World;
use super::apply::ApplyWork;
use super::log_disk::{DiskTurn, LogUnit, ReplicaWrite};
use super::log_replica::Damaged;
use super::network::LANE_CONTROL;
use super::node::{Node, number_of};
use super::receiving::Receiving;
use super::schedule::{Freight, Happening};
use super::units::MILLI;
use crate::observation::{Observation, why};

impl World {
    /// Hands an event to a node's worker; the caller then takes its turn with [`World::step`].
    pub(crate) fn tell(&mut self, node: usize, event: Event) {
        let now = self.nodes[node].read(self.now);
        let wall = self.nodes[node].wall(self.now);
        if let Some(process) = &mut self.nodes[node].process {
            process.host.handle(now, wall, event);
        }
    }

    /// Queues an event for a worker's next turn; it waits while the worker hangs.
    pub(crate) fn post(&mut self, node: usize, event: Event) {
        if let Some(process) = &mut self.nodes[node].process {
            process.inbox.push_back(event);
        }
    }

    /// Schedules a turn of a worker at once, after the one that it is in.
    pub(crate) fn wake(&mut self, node: usize) {
        self.nodes[node].timer_at = self.now;
        self.schedule.at(self.now, Happening::Timer { node });
    }

    /// Schedules a turn of a worker within 2 ms, with all other events that arrive until then.
    pub(crate) fn step_soon(&mut self, node: usize) {
        let at = self.now + self.random.below(2 * MILLI);
        if at < self.nodes[node].timer_at {
            self.nodes[node].timer_at = at;
            self.schedule.at(at, Happening::Timer { node });
        }
    }

    /// Notes that the commit index of `shard` may have moved at the node whose turn is next.
    pub(crate) fn touch(&mut self, shard: ShardId) {
        if !self.touched.contains(&shard) {
            self.touched.push(shard);
        }
    }

    /// Orders the worker to give a replica up in its next turn.
    pub(crate) fn order_end(
        &mut self,
        node: usize,
        (shard, replica): (ShardId, ReplicaId),
        why: &'static str,
    ) {
        if let Some(process) = &mut self.nodes[node].process {
            process.doomed.insert((shard, replica));
            process.orders.push_back((shard, replica, why));
        }
    }

    /// Takes and carries out a node's turn, unless its worker stands still.
    pub(crate) fn step(&mut self, node: usize) {
        if self.now < self.nodes[node].worker_stands_until() {
            return;
        }
        let (now, wall) = (self.nodes[node].read(self.now), self.nodes[node].wall(self.now));
        let Some(process) = &mut self.nodes[node].process else { return };
        for (shard, replica, reason) in std::mem::take(&mut process.orders) {
            self.give_up(node, (shard, replica), reason);
        }
        let process = self.nodes[node].process.as_mut().expect("it runs");
        while let Some(event) = process.inbox.pop_front() {
            process.host.handle(now, wall, event);
        }
        process.host.handle_timeouts(now);
        let turn = process.host.take_turn(now);
        self.arm(node, now);
        self.carry_out(node, turn);
    }

    fn arm(&mut self, node: usize, now: Monotonic) {
        let Node { process, clock, timer_at, .. } = &mut self.nodes[node];
        let Some(process) = process else { return };
        let Some(wanted) = process.host.poll_timeout() else { return };
        let at = clock.when(wanted.max(now)).max(self.now + MILLI);
        if at < *timer_at {
            *timer_at = at;
            self.schedule.at(at, Happening::Timer { node });
        }
    }

    fn carry_out(&mut self, node: usize, turn: Turn) {
        let id = self.nodes[node].id;
        // Shown in the order that the properties need: roles, writes, commits, messages.
        for role in &turn.roles {
            if let Some(replica) = self.replica_of(node, role.shard) {
                let (shard, role) = (role.shard, role.role);
                self.observe(Observation::Role { node: id, shard, replica, role });
                self.touch(shard);
                if role.serving {
                    self.sample_leases(shard);
                }
            }
        }
        for ShardLoss { shard, replica, loss } in &turn.losses {
            let (shard, replica) = (*shard, *replica);
            self.observe(Observation::LossFound { node: id, shard, replica, loss });
            self.give_up(node, (shard, replica), why::DAMAGED);
        }
        self.end_transfers_of_former_leaders(node, &turn.roles);
        self.carry_out_installs(node, &turn);
        self.write(node, turn.write, turn.purges);
        for apply in &turn.applies {
            self.touch(apply.shard);
        }
        self.show_commits(node);
        for (to, messages) in turn.send {
            self.send_messages(node, to, messages);
        }
        for (to, shard, control) in turn.control {
            self.observe(Observation::ControlSent { from: id, to, shard, control: &control });
            self.send(node, number_of(to), LANE_CONTROL, Freight::Control(shard, control));
        }
        for note in turn.notes {
            self.handle_note(node, note);
        }
        for apply in turn.applies {
            let of = (apply.shard, apply.replica);
            self.queue_apply(node, of, ApplyWork::Range(apply));
        }
        for (ticket, answer) in turn.answers {
            self.handle_answer(node, ticket, &answer);
        }
        for snapshot in turn.snapshots {
            self.ask_for_snapshot(node, snapshot);
        }
        for (ticket, result) in turn.changes {
            self.handle_change_answer(ticket, &result);
        }
        for fetch in turn.fetches {
            self.fetch(node, fetch);
        }
    }

    /// The replica of a shard that a node hosts.
    pub(crate) fn replica_of(&self, node: usize, shard: ShardId) -> Option<ReplicaId> {
        Some(self.nodes[node].process.as_ref()?.replicas.get(&shard)?.replica)
    }

    /// Hands everything that the turn changes in the logs to the disk, as one unit.
    fn write(
        &mut self,
        node: usize,
        write: Option<(u64, Vec<ShardWrite>)>,
        purges: Vec<ShardPurge>,
    ) {
        self.show_purges(node, &purges);
        let (number, writes) = write.map_or((None, Vec::new()), |(n, writes)| (Some(n), writes));
        let id = self.nodes[node].id;
        for ShardWrite { shard, replica, write } in &writes {
            let (shard, replica) = (*shard, *replica);
            self.observe(Observation::Written { node: id, shard, replica, write });
        }
        let process = self.nodes[node].process.as_mut().expect("it took a turn");
        let receiving = &process.receiving;
        let part = |ShardWrite { shard, replica, write }| {
            let arrived = receiving.get(&shard).filter(|_| write.install.is_some());
            let space = arrived.filter(|arrived| arrived.to == replica).and_then(Receiving::space);
            ReplicaWrite { shard, replica, write, space }
        };
        let writes = writes.into_iter().map(part).collect();
        let ends = std::mem::take(&mut process.ends);
        let unit = LogUnit { number, purges, writes, ends, clears_damage: false };
        if !unit.is_empty() {
            self.submit(node, DiskTurn::Unit(unit));
        }
    }

    /// Asks the fetch thread for runs; it lags, and reads when its time has come.
    fn fetch(&mut self, node: usize, fetch: ShardFetch) {
        let is_late = !self.is_healed && self.random.chance(self.profile.lag_per_mille);
        let longest = if is_late { self.profile.fetch_lag } else { MILLI };
        let (life, at) = (self.nodes[node].life, self.now + self.random.between(100_000, longest));
        let fetch = Box::new(fetch);
        self.schedule.at(at, Happening::Fetch { node, life, fetch });
    }

    /// The fetch thread reads runs back from the disk.
    pub(crate) fn handle_fetch(&mut self, node: usize, life: u64, fetch: &ShardFetch) {
        if self.nodes[node].life != life {
            return;
        }
        let ShardFetch { shard, replica, reader, ref range, bytes_max } = *fetch;
        match self.nodes[node].disk.read((shard, replica), range, bytes_max) {
            // The log of a replica that has ended is gone, and so is whoever asked.
            None => {}
            Some(Ok(runs)) => {
                let fetched = Event::Fetched { shard, replica, reader, runs };
                self.report(node, (shard, replica), fetched);
            }
            Some(Err(Damaged)) => {
                self.order_end(node, (shard, replica), why::DAMAGED);
                self.step(node);
            }
        }
    }

    /// Shows the commit indexes that moved in this turn.
    fn show_commits(&mut self, node: usize) {
        let mut touched = std::mem::take(&mut self.touched);
        for shard in touched.drain(..) {
            let Some(process) = &mut self.nodes[node].process else { continue };
            let Some(view) = process.host.view(shard) else { continue };
            let Some(live) = process.replicas.get_mut(&shard) else { continue };
            if live.commit != view.commit {
                live.commit = view.commit;
                let (replica, commit) = (live.replica, view.commit);
                let id = self.nodes[node].id;
                self.observe(Observation::Commit { node: id, shard, replica, commit });
            }
        }
        self.touched = touched;
    }
}
