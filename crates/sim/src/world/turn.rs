//! Carries out what a node's host wants done in a turn, as the engine's threads would.

use quorate_host::{Apply, Event, ShardFetch, ShardInstall, ShardLoss, ShardWrite, Turn};
use quorate_machine::{ApplyOutcome, apply_committed};
use quorate_raft::{EntryKind, Run};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, ShardId};

use super::log_disk::{DiskTurn, ReplicaWrite};
use super::network::LANE_CONTROL;
use super::node::Node;
use super::node::number_of;
use super::schedule::{Freight, Happening};
use super::{MILLI, World};
use crate::observation::{Observation, entry_hash, why};

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

    /// Takes and carries out a node's turn, unless its worker stands still.
    pub(crate) fn step(&mut self, node: usize) {
        if self.now < self.nodes[node].worker_stands_until() {
            return;
        }
        let (now, wall) = (self.nodes[node].read(self.now), self.nodes[node].wall(self.now));
        let Some(process) = &mut self.nodes[node].process else { return };
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
            self.remove_replica(node, shard, why::DAMAGED);
        }
        self.carry_out_installs(node, &turn);
        self.write(node, turn.write, &turn.installs);
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
            self.queue_apply(node, apply);
        }
        for (ticket, answer) in turn.answers {
            self.handle_answer(node, ticket, &answer);
        }
        for snapshot in turn.snapshots {
            self.begin_snapshot(node, &snapshot);
        }
        for purge in turn.purges {
            self.carry_out_purge(node, purge);
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

    fn write(
        &mut self,
        node: usize,
        write: Option<(u64, Vec<ShardWrite>)>,
        installs: &[ShardInstall],
    ) {
        let Some((number, writes)) = write else { return };
        let id = self.nodes[node].id;
        let mut parts = Vec::with_capacity(writes.len());
        for ShardWrite { shard, replica, write } in writes {
            // A replica that was removed in this very turn writes nothing.
            if self.replica_of(node, shard) != Some(replica) {
                continue;
            }
            self.observe(Observation::Written { node: id, shard, replica, write: &write });
            let is_installed = installs.iter().any(|install| install.shard == shard);
            let live = self.nodes[node].live(shard, replica).expect("looked at just now");
            let space = (is_installed && write.install.is_some()).then_some(live.space);
            parts.push(ReplicaWrite { shard, replica, write, space });
        }
        self.submit(node, DiskTurn::Turn(number, parts));
    }

    fn queue_apply(&mut self, node: usize, apply: Apply) {
        let shard = apply.shard;
        let (life, after) = (self.nodes[node].life, self.random.between(50_000, 3 * MILLI));
        let now = self.now;
        let process = self.nodes[node].process.as_mut().expect("it took a turn");
        let Some(live) = process.replicas.get_mut(&shard) else { return };
        // One thread applies a shard, in order.
        live.apply_at = live.apply_at.max(now + after);
        live.applying.push_back(apply);
        let (at, replica) = (live.apply_at, live.replica);
        self.schedule.at(at, Happening::Apply { node, life, shard, replica });
    }

    /// An apply thread applies the oldest waiting entries of a shard.
    pub(crate) fn handle_apply(
        &mut self,
        node: usize,
        life: u64,
        shard: ShardId,
        replica: ReplicaId,
    ) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(live) = self.nodes[node].live(shard, replica) else { return };
        let apply = live.applying.pop_front().expect("queued once, applied once");
        let id = self.nodes[node].id;
        let committed = &apply.committed;
        self.observe(Observation::Applied { node: id, shard, replica, committed });
        let replies = self.apply(node, &apply);
        self.show_replies(id, shard, &replies);
        self.note_memberships(shard, committed);
        let mut tickets = apply.tickets.iter().peekable();
        for (id, outcome) in replies {
            if let Some((_, ticket)) = tickets.next_if(|(wanted, _)| *wanted == id.index) {
                let hash = hash_of(&apply.committed.runs, id.index);
                self.handle_reply(node, shard, (*ticket, id, hash), &outcome);
            }
        }
        let index = apply.committed.range.end.previous();
        self.touch(shard);
        self.tell(node, Event::Applied { shard, replica, index });
        self.step(node);
        self.try_install(node, shard);
    }

    fn apply(&mut self, node: usize, apply: &Apply) -> Vec<(LogId, ApplyOutcome)> {
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_mut().expect("only the living apply");
        let live = process.replicas.get_mut(&apply.shard).expect("looked at just now");
        let space = data.space(live.space);
        let mut record = space.record.clone();
        let mut replies = Vec::new();
        apply_committed(
            apply.shard,
            live.machine.as_mut(),
            &mut record,
            &apply.committed,
            space,
            &mut |id, outcome| replies.push((id, outcome)),
        );
        space.record = record;
        replies
    }

    fn show_replies(&mut self, node: NodeId, shard: ShardId, replies: &[(LogId, ApplyOutcome)]) {
        for (id, outcome) in replies {
            // What did not reach the machine was refused by the entry alone.
            let ApplyOutcome::Reply(reply) = outcome else { continue };
            let reply_hash = entry_hash(EntryKind::Command, reply);
            self.observe(Observation::Replied { node, shard, id: *id, reply_hash });
        }
    }

    fn fetch(&mut self, node: usize, fetch: ShardFetch) {
        let replica = fetch.replica;
        let (from, until) = (fetch.range.start, fetch.range.end);
        let disk = &self.nodes[node].disk;
        let Ok(runs) = disk.read(fetch.shard, from, until, fetch.bytes_max) else {
            self.remove_replica(node, fetch.shard, why::DAMAGED);
            return;
        };
        let (life, at) = (self.nodes[node].life, self.now + self.random.between(100_000, MILLI));
        let fetch = Box::new((fetch, runs));
        self.schedule.at(at, Happening::Fetched { node, life, replica, fetch });
    }

    /// Runs were read back from disk.
    pub(crate) fn handle_fetched(
        &mut self,
        node: usize,
        life: u64,
        replica: ReplicaId,
        (fetch, runs): (ShardFetch, Vec<Run>),
    ) {
        let ShardFetch { shard, reader, .. } = fetch;
        if self.nodes[node].life == life && self.nodes[node].live(shard, replica).is_some() {
            self.tell(node, Event::Fetched { shard, replica, reader, runs });
            self.step(node);
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

/// The hash of the entry at `index`.
fn hash_of(runs: &[Run], index: Index) -> u64 {
    let run = runs.iter().find(|run| run.range().contains(&index)).expect("it was just applied");
    entry_hash(EntryKind::Command, &run.payload(index))
}
