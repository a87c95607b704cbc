//! The durable state of one replica on a simulated log disk: its hard state and its log.

use std::collections::VecDeque;

use quorate_raft::{EntryKind, HardState, Membership, Restored, Run, Write};
use quorate_types::{Index, LogId, Mutant, Mutation, ReplicaId, Term};

use super::data_store::SpaceId;

/// The durable state of one replica.
#[derive(Clone, Debug)]
pub(crate) struct LogReplica {
    pub(crate) replica: ReplicaId,
    pub(crate) hard_state: HardState,
    pub(crate) base: LogId,
    pub(crate) base_membership: Membership,
    /// The space that holds its data.
    pub(crate) space: SpaceId,
    runs: VecDeque<Run>,
    /// An entry of the run in which a bit flipped; a read finds it.
    flipped: Option<Index>,
    /// A run was stored that does not follow the one before.
    has_gap: bool,
    /// What was cut off a run and is still on the disk: for a mutant.
    dead_tail: Option<Run>,
}

/// Where a stored log begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    /// The replica whose log it is.
    pub(crate) replica: ReplicaId,
    pub(crate) base: LogId,
    pub(crate) last: LogId,
    pub(crate) has_gap: bool,
}

/// The error of a read that found damage.
pub(crate) struct Damaged;

impl LogReplica {
    /// Makes a replica with an empty log after `base`.
    pub(crate) fn new(
        replica: ReplicaId,
        base: LogId,
        base_membership: Membership,
        space: SpaceId,
    ) -> LogReplica {
        let hard_state = HardState { term: base.term, vote: None, committed: base.index };
        LogReplica {
            replica,
            hard_state,
            base,
            base_membership,
            space,
            runs: VecDeque::new(),
            flipped: None,
            has_gap: false,
            dead_tail: None,
        }
    }

    /// Makes a write durable: install, hard state, cut, runs, in this order.
    pub(crate) fn apply(&mut self, write: &Write, space: Option<SpaceId>, mutation: Mutation) {
        if let Some(install) = &write.install {
            let keeps_log = install.keeps_log && !mutation.is(Mutant::KeepsLogIgnored);
            self.install(install.base, install.membership.clone(), keeps_log);
        }
        self.space = space.unwrap_or(self.space);
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.truncate(from, mutation);
        }
        for run in &write.runs {
            self.has_gap |= run.first() != self.last().index.next();
            self.runs.push_back(run.clone());
        }
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> LogId {
        self.runs.back().map_or(self.base, Run::last_id)
    }

    /// Where the log begins and ends, for a comparison with what was written.
    pub(crate) fn stored(&self) -> Stored {
        let LogReplica { replica, base, has_gap, .. } = *self;
        Stored { replica, base, last: self.last(), has_gap }
    }

    /// Bytes of all runs.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len_bytes() as u64).sum()
    }

    /// The first index such that the runs from there on have at most `bytes_max` bytes.
    pub(crate) fn index_within(&self, bytes_max: u64) -> Index {
        let mut bytes = 0;
        let fits = |run: &&Run| {
            bytes += run.len_bytes() as u64;
            bytes <= bytes_max
        };
        let kept = self.runs.iter().rev().take_while(fits).last();
        kept.map_or(self.last().index.next(), Run::first)
    }

    /// Whether a bit flipped and no read has found it.
    pub(crate) fn is_flipped(&self) -> bool {
        self.flipped.is_some()
    }

    pub(crate) fn truncate(&mut self, from: Index, mutation: Mutation) {
        self.flipped = self.flipped.filter(|flipped| *flipped < from);
        while self.runs.back().is_some_and(|run| run.first() >= from) {
            self.runs.pop_back();
        }
        if let Some(last) = self.runs.back_mut()
            && last.last() >= from
        {
            if mutation.is(Mutant::DeadTailReturns) {
                self.dead_tail = Some(last.cut(from, last.range().end));
            }
            *last = last.cut(last.first(), from);
        }
    }

    fn install(&mut self, base: LogId, membership: Membership, keeps_log: bool) {
        if keeps_log {
            self.purge(base, membership);
        } else {
            self.runs.clear();
            self.flipped = None;
            (self.base, self.base_membership) = (base, membership);
        }
    }

    /// Removes runs up to and including `base`; a run that extends beyond it keeps its tail.
    pub(crate) fn purge(&mut self, base: LogId, membership: Membership) {
        if base.index <= self.base.index {
            return;
        }
        self.flipped = self.flipped.filter(|flipped| *flipped > base.index);
        while self.runs.front().is_some_and(|run| run.last() <= base.index) {
            self.runs.pop_front();
        }
        if let Some(first) = self.runs.front_mut()
            && first.first() <= base.index
        {
            *first = first.cut(base.index.next(), first.range().end);
        }
        (self.base, self.base_membership) = (base, membership);
        // Only a mutant leaves a tail: nothing hides it once what replaced it is gone.
        if let Some(tail) = self.dead_tail.take_if(|tail| tail.range().contains(&base.index.next()))
            && self.runs.is_empty()
        {
            self.runs.push_back(tail.cut(base.index.next(), tail.range().end));
        }
    }

    /// The replica's state as a start reads it; `None` if it is damaged.
    pub(crate) fn restore(&self, applied: Index) -> Option<Restored> {
        if self.flipped.is_some() {
            return None;
        }
        let mut terms: Vec<(Index, Term)> = Vec::new();
        let mut memberships = Vec::new();
        for run in &self.runs {
            if terms.last().is_none_or(|(_, term)| *term != run.term()) {
                terms.push((run.first(), run.term()));
            }
            if run.has_membership() {
                let changes = run.entries().filter(|e| e.kind == EntryKind::Membership);
                memberships.extend(changes.map(|entry| {
                    let membership = Membership::decode(entry.payload);
                    (entry.id.index, membership.expect("a logged membership is sound"))
                }));
            }
        }
        Some(Restored {
            hard_state: self.hard_state,
            base: self.base,
            base_membership: self.base_membership.clone(),
            terms,
            memberships,
            last: self.last(),
            applied,
        })
    }

    /// Flips a bit in the run that holds the log's entry number `place`, modulo the count of
    /// entries; false if the log is empty.
    pub(crate) fn flip(&mut self, place: u64) -> bool {
        let (Some(first), Some(last)) = (self.runs.front(), self.runs.back()) else {
            return false;
        };
        let (first, count) = (first.first(), last.last().0 - first.first().0 + 1);
        self.flipped = Some(first.plus(place % count));
        true
    }

    /// Undoes a flip that no read has found, as a scrub against the other copies does.
    pub(crate) fn scrub(&mut self) {
        self.flipped = None;
    }

    /// Treats damage as the end of the log, against RULE 5: for a mutant.
    pub(crate) fn cut_at_damage(&mut self) {
        if let Some(flipped) = self.flipped {
            self.truncate(flipped, Mutation::NONE);
            self.flipped = None;
        }
    }

    /// Reads durable runs from `from` up to before `until`; stops once `bytes_max` is exceeded, so
    /// it reads at least one run if there is one.
    pub(crate) fn read(
        &self,
        from: Index,
        until: Index,
        bytes_max: usize,
    ) -> Result<Vec<Run>, Damaged> {
        let mut found: Vec<Run> = Vec::new();
        let mut bytes = 0;
        // Runs ascend and do not overlap.
        let skipped = self.runs.partition_point(|run| run.last() < from);
        for run in self.runs.range(skipped..) {
            let (start, end) = (run.first().max(from), run.range().end.min(until));
            let expected = found.last().map_or(from, |last| last.range().end);
            if start >= end || start != expected || (bytes > 0 && bytes > bytes_max) {
                break;
            }
            if self.flipped.is_some_and(|flipped| run.range().contains(&flipped)) {
                return Err(Damaged);
            }
            bytes += run.len_bytes();
            found.push(run.cut(start, end));
        }
        Ok(found)
    }
}
