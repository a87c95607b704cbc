//! The apply thread of a node: it applies the ranges that its worker hands out, each shard's in order,
//! and lags behind the worker. It goes on while the worker stands still, and while a replica that
//! was given up still has ranges in its queue.
//!
//! Before a snapshot is installed, the replica's queue is paused behind everything that was queued
//! before; ranges that are handed out meanwhile are parked there (RULE 13).

use std::collections::VecDeque;

use quorate_host::{Answer, Apply, Event, Ticket};
use quorate_machine::{ApplyOutcome, apply_committed};
use quorate_raft::{EntryKind, Run};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId};

use super::World;
use super::node::{Live, Node};
use super::schedule::Happening;
use super::units::MILLI;
use crate::observation::{Observation, entry_hash};

/// Something that the apply thread does for one replica.
pub(crate) enum ApplyWork {
    /// Applies a range.
    Range(Apply),
    /// Pauses, and says so: a snapshot is to be installed.
    Pause,
}

/// The queue of one replica.
#[derive(Default)]
pub(crate) struct ApplyQueue {
    /// The oldest first.
    waiting: VecDeque<ApplyWork>,
    /// When the last of them is done.
    last_at: u64,
    /// Nothing is done until the install is decided and, if it was taken, in force.
    is_paused: bool,
}

impl ApplyQueue {
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the ranges that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.ranges().flat_map(|apply| &apply.committed.runs).map(Run::len_bytes).sum()
    }

    fn ranges(&self) -> impl Iterator<Item = &Apply> {
        self.waiting.iter().filter_map(|work| match work {
            ApplyWork::Range(apply) => Some(apply),
            ApplyWork::Pause => None,
        })
    }

    /// Takes the ranges out that begin at `through` or before.
    fn take_through(&mut self, through: Index) -> Vec<Apply> {
        let mut taken = Vec::new();
        for work in std::mem::take(&mut self.waiting) {
            match work {
                ApplyWork::Range(apply) if apply.committed.range.start <= through => {
                    taken.push(apply);
                }
                work => self.waiting.push_back(work),
            }
        }
        taken
    }
}

impl World {
    /// Queues work for the apply thread.
    pub(crate) fn queue_apply(
        &mut self,
        node: usize,
        (shard, replica): (ShardId, ReplicaId),
        work: ApplyWork,
    ) {
        let (life, now, lag) = (self.nodes[node].life, self.now, self.apply_lag());
        let Some(live) = self.nodes[node].live(shard, replica) else {
            // It was given up in this very turn.
            if let ApplyWork::Range(apply) = work {
                self.forget_tickets(node, apply.tickets);
            }
            return;
        };
        let queue = &mut live.apply;
        queue.last_at = queue.last_at.max(now + lag);
        queue.waiting.push_back(work);
        let at = queue.last_at;
        self.schedule.at(at, Happening::Apply { node, life, shard, replica });
    }

    /// How long the apply thread takes for one range: usually little, sometimes seconds.
    fn apply_lag(&mut self) -> u64 {
        let is_late = !self.is_healed && self.random.chance(self.profile.lag_per_mille);
        let longest = if is_late { self.profile.apply_lag } else { 3 * MILLI };
        self.random.between(50_000, longest)
    }

    /// The apply thread does the oldest work of a replica.
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
        let Some(live) = self.nodes[node].applier(shard, replica) else { return };
        if live.apply.is_paused {
            return;
        }
        match live.apply.waiting.pop_front() {
            Some(ApplyWork::Range(apply)) => self.apply_range(node, &apply),
            Some(ApplyWork::Pause) => {
                live.apply.is_paused = true;
                self.handle_paused(node, shard);
            }
            None => {}
        }
        self.release_leaving(node, shard, replica);
    }

    fn apply_range(&mut self, node: usize, apply: &Apply) {
        let Apply { shard, replica, ref committed, ref tickets } = *apply;
        let id = self.nodes[node].id;
        self.observe(Observation::Applied { node: id, shard, replica, committed });
        if self.watch.is_broken() {
            return;
        }
        let replies = self.run_machine(node, apply);
        self.show_replies(id, shard, &replies);
        self.note_memberships(shard, committed);
        let mut tickets = tickets.iter().peekable();
        for (id, outcome) in replies {
            if let Some((_, ticket)) = tickets.next_if(|(wanted, _)| *wanted == id.index) {
                let hash = hash_of(&committed.runs, id.index);
                self.handle_reply(node, shard, (*ticket, id, hash), &outcome);
            }
        }
        let index = committed.range.end.previous();
        self.touch(shard);
        self.report(node, (shard, replica), Event::Applied { shard, replica, index });
    }

    /// Tells a worker what was done for one of its replicas, even if it has given that up.
    pub(crate) fn report(&mut self, node: usize, of: (ShardId, ReplicaId), event: Event) {
        if self.nodes[node].live(of.0, of.1).is_none() {
            let (shard, replica) = of;
            self.observe(Observation::LateReport { node: self.nodes[node].id, shard, replica });
        }
        self.post(node, event);
        self.step(node);
    }

    fn run_machine(&mut self, node: usize, apply: &Apply) -> Vec<(LogId, ApplyOutcome)> {
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_mut().expect("only the living apply");
        let live = match process.replicas.get_mut(&apply.shard) {
            Some(live) if live.replica == apply.replica => live,
            _ => process.leaving.get_mut(&(apply.shard, apply.replica)).expect("looked at"),
        };
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

    /// Continues a queue that was paused.
    pub(crate) fn resume_apply(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        let (life, now) = (self.nodes[node].life, self.now);
        let Some(live) = self.nodes[node].live(shard, replica) else { return };
        live.apply.is_paused = false;
        live.apply.last_at = live.apply.last_at.max(now);
        let (at, count) = (live.apply.last_at, live.apply.waiting.len());
        for _ in 0..count {
            self.schedule.at(at, Happening::Apply { node, life, shard, replica });
        }
    }

    /// Drops the parked ranges that the state of a snapshot at `base` has made superfluous: whether
    /// it holds their entries is not known here.
    pub(crate) fn drop_parked(&mut self, node: usize, of: (ShardId, ReplicaId), base: Index) {
        let Some(live) = self.nodes[node].live(of.0, of.1) else { return };
        let dropped = live.apply.take_through(base);
        if !dropped.is_empty() {
            let (node, shard) = (self.nodes[node].id, of.0);
            self.observe(Observation::ParkedDropped { node, shard, ranges: dropped.len() });
        }
        for apply in dropped {
            self.forget_tickets(node, apply.tickets);
        }
    }

    /// What is left of the queue of a replica that was given up: a paused one never continues.
    pub(crate) fn give_up_apply(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        let Some(live) = self.nodes[node].applier(shard, replica) else { return };
        live.apply.waiting.retain(|work| matches!(work, ApplyWork::Range(_)));
        if live.apply.is_paused {
            for apply in live.apply.take_through(Index(u64::MAX)) {
                self.forget_tickets(node, apply.tickets);
            }
        }
        self.release_leaving(node, shard, replica);
    }

    /// Forgets a replica that was given up, once all of its queue is done.
    fn release_leaving(&mut self, node: usize, shard: ShardId, replica: ReplicaId) {
        let this = &mut self.nodes[node];
        let Some(process) = &mut this.process else { return };
        let is_done = |live: &Live| live.apply.is_empty();
        if process.leaving.get(&(shard, replica)).is_some_and(is_done) {
            process.leaving.remove(&(shard, replica));
            this.sweep_spaces();
        }
    }

    fn forget_tickets(&mut self, node: usize, tickets: Vec<(Index, Ticket)>) {
        for (_, ticket) in tickets {
            self.handle_answer(node, ticket, &Answer::OutcomeUnknown);
        }
    }
}

/// The hash of the entry at `index`.
fn hash_of(runs: &[Run], index: Index) -> u64 {
    let run = runs.iter().find(|run| run.range().contains(&index)).expect("it was just applied");
    entry_hash(EntryKind::Command, &run.payload(index))
}
