//! The kernel's view of its log: the newest runs, the terms and memberships of all of it, and how
//! much of it is durable.

use std::borrow::Cow;
use std::collections::VecDeque;

use quorate_types::{Index, LogId, Mutant, Mutation, ReplicaId, Term, WriteNumber};

use crate::membership::Membership;
use crate::ready::Restored;
use crate::run::{EntryKind, Run};

/// A write under way, and the last index that its completion makes durable.
struct Flight {
    number: WriteNumber,
    last: Index,
}

/// A replica's view of its log.
pub(crate) struct Log {
    base: LogId,
    base_membership: Membership,
    memberships: Vec<(Index, Membership)>,
    /// Where each term begins, beyond `base`. A log has few terms, so this stays small.
    terms: Vec<(Index, Term)>,
    last: LogId,
    /// The newest runs; contiguous, and up to `last` unless empty.
    cached: VecDeque<Run>,
    cached_bytes: usize,
    /// First index that no write holds yet; always the first of a cached run, or beyond the log.
    unwritten: Index,
    /// What the next write has to cut off.
    truncated: Option<Index>,
    durable: Index,
    flights: VecDeque<Flight>,
    /// The highest replica id in memberships that were purged.
    newest_purged: ReplicaId,
}

/// What the next write of the log holds.
pub(crate) struct LogWrite {
    pub(crate) truncate_from: Option<Index>,
    pub(crate) runs: Vec<Run>,
}

impl Log {
    /// # Panics
    /// If `restored` contradicts itself.
    pub(crate) fn new(restored: Restored) -> Log {
        let Restored { base, base_membership, terms, memberships, last, .. } = restored;
        assert!(base.index > Index(0), "a log begins at a base that is not 0");
        assert!(last >= base && last.index >= base.index, "the log ends before its base");
        if last == base {
            assert!(terms.is_empty(), "an empty log has no terms");
        } else {
            let first = terms.first().expect("a log with entries has terms");
            assert!(
                first.0 == base.index.next() && first.1 >= base.term,
                "terms begin at the base"
            );
            let ascends = terms.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1);
            assert!(ascends, "terms ascend");
            let newest = terms.last().expect("not empty");
            assert!(newest.0 <= last.index && newest.1 == last.term, "the last term holds the end");
        }
        Log {
            base,
            base_membership,
            memberships,
            terms,
            last,
            cached: VecDeque::new(),
            cached_bytes: 0,
            unwritten: last.index.next(),
            truncated: None,
            durable: last.index,
            flights: VecDeque::new(),
            newest_purged: ReplicaId(0),
        }
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn base_membership(&self) -> &Membership {
        &self.base_membership
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// The last index up to which everything is durable here (RULE 2).
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The membership in force: the newest in the log, committed or not (thesis 4.1).
    pub(crate) fn membership(&self) -> &Membership {
        self.memberships.last().map_or(&self.base_membership, |(_, membership)| membership)
    }

    /// The membership by which quorums are counted: the one in force.
    pub(crate) fn deciding(&self, mutation: Mutation) -> Cow<'_, Membership> {
        if mutation.is(Mutant::JointByOneMajority) {
            return Cow::Owned(self.membership().settled());
        }
        if mutation.is(Mutant::QuorumOfOldMembership) {
            return Cow::Borrowed(self.membership_before());
        }
        Cow::Borrowed(self.membership())
    }

    /// The membership before the one in force, as far as this log knows.
    pub(crate) fn membership_before(&self) -> &Membership {
        let before = self.memberships.iter().rev().nth(1);
        before.map_or(&self.base_membership, |(_, membership)| membership)
    }

    /// Where the membership in force was appended; the base if it came with that.
    pub(crate) fn membership_at(&self) -> Index {
        self.memberships.last().map_or(self.base.index, |(index, _)| *index)
    }

    /// The highest replica id in any membership that this log knows of, in force or not.
    pub(crate) fn newest_replica(&self) -> ReplicaId {
        let logged = self.memberships.iter().map(|(_, membership)| membership);
        let all = logged.chain([&self.base_membership]).flat_map(Membership::members);
        all.map(|member| member.replica).fold(self.newest_purged, ReplicaId::max)
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// First index held in memory; the one after `last` if none is.
    pub(crate) fn first_cached(&self) -> Index {
        self.cached.front().map_or(self.last.index.next(), Run::first)
    }

    /// Term of the entry at `index`; `None` before the base and beyond the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        Some(self.terms[self.term_position(index)].1)
    }

    pub(crate) fn holds(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The entry with the highest index at most `id.index` whose term is at most `id.term`, or the
    /// base: the best place where a log that holds `id` can match this one.
    pub(crate) fn closest(&self, id: LogId) -> LogId {
        let mut index = id.index.min(self.last.index);
        while index > self.base.index {
            let (first, term) = self.terms[self.term_position(index)];
            if term <= id.term {
                return LogId::new(term, index);
            }
            index = first.previous();
        }
        self.base
    }

    /// The first index of `run`, at `from` or beyond, that this log does not hold; the run's end if
    /// there is none. The entry before `from` and the one before the run match, so by log matching
    /// (Raft paper, 5.3) those that match are a head of the run.
    pub(crate) fn first_missing(&self, run: &Run, from: Index) -> Index {
        let from = from.max(run.first());
        if from >= run.range().end || self.term_at(from) != Some(run.term()) {
            return from;
        }
        let next_term = self.terms.get(self.term_position(from) + 1);
        let end = next_term.map_or(self.last.index.next(), |(first, _)| *first);
        end.min(run.range().end)
    }

    /// Adds a run at the end.
    ///
    /// # Panics
    /// If it does not follow the last entry, or holds a membership that was not checked.
    pub(crate) fn append(&mut self, run: Run) {
        assert!(run.first() == self.last.index.next(), "{run:?} does not follow {}", self.last);
        assert!(run.term() >= self.last.term, "{run:?} has an older term than {}", self.last);
        if self.terms.last().map(|(_, term)| *term) != Some(run.term()) {
            self.terms.push((run.first(), run.term()));
        }
        if run.has_membership() {
            for entry in run.entries().filter(|entry| entry.kind == EntryKind::Membership) {
                let membership = Membership::decode(entry.payload).expect("checked on arrival");
                self.memberships.push((entry.id.index, membership));
            }
        }
        self.last = run.last_id();
        self.cached_bytes += run.len_bytes();
        self.cached.push_back(run);
    }

    /// Forgets every entry at `from` and beyond, with the memberships among them.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(self.base.index < from && from <= self.last.index, "truncation at {from:?}");
        let end = from.previous();
        self.last = LogId::new(self.term_at(end).expect("within the log"), end);
        self.terms.retain(|(first, _)| *first < from);
        self.memberships.retain(|(index, _)| *index < from);
        while self.cached.back().is_some_and(|run| run.last() >= from) {
            let run = self.cached.pop_back().expect("looked at just now");
            self.cached_bytes -= run.len_bytes();
            if run.first() < from {
                let head = run.cut(run.first(), from);
                self.cached_bytes += head.len_bytes();
                self.cached.push_back(head);
            }
        }
        if from < self.unwritten {
            self.unwritten = from;
            self.truncated = Some(self.truncated.map_or(from, |earlier| earlier.min(from)));
        }
        // Completions of writes that were overwritten since must not vouch for the new entries.
        self.durable = self.durable.min(end);
        for flight in &mut self.flights {
            flight.last = flight.last.min(end);
        }
    }

    /// Cached runs that hold `[from, until)`, or a head of it of about `bytes_max`; not empty.
    pub(crate) fn runs(&self, from: Index, until: Index, bytes_max: usize) -> Vec<Run> {
        assert!(self.first_cached() <= from && from < until, "runs {from:?}..{until:?}");
        assert!(until <= self.last.index.next(), "runs until {until:?} beyond {}", self.last);
        let position = self.cached.partition_point(|run| run.last() < from);
        let mut runs = Vec::new();
        let mut bytes = 0;
        for run in self.cached.range(position..) {
            bytes += run.len_bytes();
            if run.first() >= until || (!runs.is_empty() && bytes > bytes_max) {
                break;
            }
            runs.push(run.cut(run.first().max(from), run.range().end.min(until)));
        }
        runs
    }

    /// True if [`Log::take_write`] would give something.
    pub(crate) fn is_dirty(&self) -> bool {
        self.truncated.is_some() || self.unwritten <= self.last.index
    }

    /// What is not yet in any write; from now on it is in write `number`.
    pub(crate) fn take_write(&mut self, number: WriteNumber) -> LogWrite {
        let truncate_from = self.truncated.take();
        let position = self.cached.partition_point(|run| run.last() < self.unwritten);
        let runs: Vec<Run> = self.cached.range(position..).cloned().collect();
        if let Some(run) = runs.first() {
            assert!(run.first() == self.unwritten, "writes end where runs end");
        }
        self.unwritten = self.last.index.next();
        self.flights.push_back(Flight { number, last: self.last.index });
        LogWrite { truncate_from, runs }
    }

    /// Every write up to and with `number` is durable.
    pub(crate) fn handle_persisted(&mut self, number: WriteNumber) {
        while let Some(flight) = self.flights.front()
            && flight.number <= number
        {
            self.durable = self.durable.max(flight.last);
            self.flights.pop_front();
        }
    }

    /// Forgets cached runs that lie wholly below `index` and are durable.
    pub(crate) fn evict_below(&mut self, index: Index) {
        let end = index.min(self.durable.next());
        while let Some(run) = self.cached.front()
            && run.last() < end
        {
            self.cached_bytes -= run.len_bytes();
            self.cached.pop_front();
        }
    }

    /// Bytes of cached runs that are not durable.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let pinned = self.cached.iter().rev().take_while(|run| run.last() > self.durable);
        pinned.map(Run::len_bytes).sum()
    }

    /// Moves the base up to an entry of this log: what lies below, and the entry itself, is in the
    /// state that the base stands for, and need not be written any more.
    pub(crate) fn purge(&mut self, to: Index) {
        assert!(self.base.index <= to && to <= self.last.index, "purge to {to:?}");
        let term = self.term_at(to).expect("within the log");
        self.newest_purged = self.newest_replica();
        let logged = self.memberships.partition_point(|(index, _)| *index <= to);
        if let Some((_, newest)) = self.memberships.drain(..logged).next_back() {
            self.base_membership = newest;
        }
        let ended = self.terms.partition_point(|(first, _)| *first <= to.next());
        self.terms.drain(..ended.saturating_sub(1));
        if to == self.last.index {
            self.terms.clear();
        } else if let Some((first, _)) = self.terms.first_mut() {
            *first = to.next().max(*first);
        }
        self.base = LogId::new(term, to);
        while let Some(run) = self.cached.front()
            && run.first() <= to
        {
            let run = self.cached.pop_front().expect("looked at just now");
            self.cached_bytes -= run.len_bytes();
            if run.last() > to {
                let tail = run.cut(to.next(), run.range().end);
                self.cached_bytes += tail.len_bytes();
                self.cached.push_front(tail);
            }
        }
        self.unwritten = self.unwritten.max(to.next());
        self.truncated = self.truncated.map(|from| from.max(to.next()));
    }

    /// Restarts after a state that this log does not lead to: every entry in it is dropped.
    pub(crate) fn reset(&mut self, base: LogId, membership: Membership) {
        self.newest_purged = self.newest_replica();
        self.base = base;
        self.base_membership = membership;
        self.memberships.clear();
        self.terms.clear();
        self.last = base;
        self.cached.clear();
        self.cached_bytes = 0;
        self.unwritten = base.index.next();
        // The new base is written in a way that drops every run (RULE 13).
        self.truncated = None;
        // Writes under way do not vouch for entries that are yet to come.
        self.durable = self.durable.min(base.index);
        for flight in &mut self.flights {
            flight.last = flight.last.min(base.index);
        }
    }

    fn term_position(&self, index: Index) -> usize {
        self.terms.partition_point(|(first, _)| *first <= index) - 1
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
