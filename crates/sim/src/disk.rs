//! The simulated log disk of one node.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{HardState, Membership, Restored, Run, Write};
use quorate_types::{Index, LogId, ShardId};

use crate::random::Random;

/// What is durable of one replica.
#[derive(Clone, Debug)]
struct Durable {
    hard_state: HardState,
    base: LogId,
    base_membership: Membership,
    runs: Vec<Run>,
}

impl Durable {
    fn apply(&mut self, write: Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.runs.retain(|run| run.first() < from);
            if let Some(last) = self.runs.last_mut()
                && last.last() >= from
            {
                *last = last.cut(last.first(), from);
            }
        }
        for run in write.runs {
            let next = self.runs.last().map_or(self.base.index.next(), |last| last.range().end);
            assert_eq!(run.first(), next, "a write must continue the log");
            self.runs.push(run);
        }
    }
}

/// Turns under way and what is durable.
pub(crate) struct Disk {
    durable: BTreeMap<ShardId, Durable>,
    under_way: VecDeque<(u64, Vec<(ShardId, Write)>)>,
}

impl Disk {
    pub(crate) fn new(
        shards: impl IntoIterator<Item = ShardId>,
        base: LogId,
        membership: &Membership,
    ) -> Disk {
        let hard_state = HardState { term: base.term, vote: None, committed: base.index };
        let replica = |shard| {
            let base_membership = membership.clone();
            (shard, Durable { hard_state, base, base_membership, runs: Vec::new() })
        };
        Disk { durable: shards.into_iter().map(replica).collect(), under_way: VecDeque::new() }
    }

    pub(crate) fn submit(&mut self, turn: u64, writes: Vec<(ShardId, Write)>) {
        self.under_way.push_back((turn, writes));
    }

    /// The sync of `turn`, and so of every one before it, is done.
    pub(crate) fn complete(&mut self, turn: u64) {
        while self.under_way.front().is_some_and(|(number, _)| *number <= turn) {
            self.complete_oldest();
        }
    }

    fn complete_oldest(&mut self) {
        let (_, writes) = self.under_way.pop_front().expect("looked at just now");
        for (shard, write) in writes {
            self.durable.get_mut(&shard).expect("a replica of this node").apply(write);
        }
    }

    /// The node crashed: what was under way is lost, but for a random number of the oldest turns.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let survivors = random.below(self.under_way.len() as u64 + 1);
        for _ in 0..survivors {
            self.complete_oldest();
        }
        self.under_way.clear();
    }

    /// The replica as a restart finds it.
    pub(crate) fn restore(&self, shard: ShardId, applied: Index) -> Restored {
        let durable = &self.durable[&shard];
        let mut terms: Vec<(Index, quorate_types::Term)> = Vec::new();
        for run in &durable.runs {
            if terms.last().is_none_or(|(_, term)| *term != run.term()) {
                terms.push((run.first(), run.term()));
            }
        }
        Restored {
            hard_state: durable.hard_state,
            base: durable.base,
            base_membership: durable.base_membership.clone(),
            terms,
            memberships: Vec::new(),
            last: durable.runs.last().map_or(durable.base, Run::last_id),
            applied,
        }
    }

    /// Durable runs that together hold `[from, until)`; at most `bytes_max`, but at least one.
    pub(crate) fn read(
        &self,
        shard: ShardId,
        from: Index,
        until: Index,
        bytes_max: usize,
    ) -> Vec<Run> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for run in &self.durable[&shard].runs {
            let (start, end) = (run.first().max(from), run.range().end.min(until));
            if start >= end || bytes > bytes_max {
                continue;
            }
            bytes += run.len_bytes();
            found.push(run.cut(start, end));
        }
        found
    }
}
