//! The kernel's view of its log: the newest runs, the terms and memberships of all of it, and how
//! much of it is durable.

use std::collections::VecDeque;

use quorate_types::{Index, LogId, Term, WriteNumber};

use crate::membership::Membership;
use crate::ready::Restored;
use crate::run::{EntryKind, Run};

/// A write under way, and the last index that its completion makes durable.
struct Flight {
    number: WriteNumber,
    last: Index,
}

/// See the module.
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
        }
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// Last index of which everything up to and with it is durable here (RULE 2).
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The membership in force: the newest in the log, committed or not (thesis 4.1).
    pub(crate) fn membership(&self) -> &Membership {
        self.memberships.last().map_or(&self.base_membership, |(_, membership)| membership)
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

    fn term_position(&self, index: Index) -> usize {
        self.terms.partition_point(|(first, _)| *first <= index) - 1
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{NodeId, ReplicaId};

    use super::*;
    use crate::membership::Member;
    use crate::ready::HardState;
    use crate::run::RunDraft;

    fn log() -> Log {
        let base = LogId::new(Term(1), Index(1));
        Log::new(Restored {
            hard_state: HardState::default(),
            base,
            base_membership: Membership::default(),
            terms: Vec::new(),
            memberships: Vec::new(),
            last: base,
            applied: base.index,
        })
    }

    fn run(term: u64, first: u64, count: u64) -> Run {
        let mut draft = RunDraft::new();
        (0..count).for_each(|_| draft.push(EntryKind::Command, &[b"x"]));
        draft.seal(Term(term), Index(first))
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), Index(index))
    }

    /// Goal: a completion counts only for what it wrote last. Method: an overwrite while the first
    /// write is under way, in the three orders that matter.
    #[test]
    fn an_overwritten_write_does_not_vouch_for_its_successor() {
        let mut log = log();
        log.append(run(1, 2, 4));
        log.take_write(WriteNumber(1));
        log.truncate(Index(4));
        log.append(run(2, 4, 3));
        let write = log.take_write(WriteNumber(2));
        assert_eq!(write.truncate_from, Some(Index(4)));
        assert_eq!(write.runs, [run(2, 4, 3)]);
        log.handle_persisted(WriteNumber(1));
        assert_eq!(log.durable(), Index(3));
        log.handle_persisted(WriteNumber(2));
        assert_eq!(log.durable(), Index(6));
    }

    #[test]
    fn what_was_never_written_needs_no_truncation() {
        let mut log = log();
        log.append(run(1, 2, 4));
        log.truncate(Index(3));
        log.append(run(2, 3, 1));
        let write = log.take_write(WriteNumber(1));
        assert_eq!(write.truncate_from, None);
        assert_eq!(write.runs, [run(1, 2, 1), run(2, 3, 1)]);
    }

    #[test]
    fn the_closest_entry_skips_whole_terms() {
        let mut log = log();
        for run in [run(2, 2, 3), run(4, 5, 3), run(6, 8, 3)] {
            log.append(run);
        }
        let table = [
            (id(9, 99), id(6, 10)),
            (id(5, 10), id(4, 7)),
            (id(5, 6), id(4, 6)),
            (id(3, 9), id(2, 4)),
            (id(1, 9), id(1, 1)),
            (id(0, 0), id(1, 1)),
        ];
        for (asked, found) in table {
            assert_eq!(log.closest(asked), found, "closest to {asked}");
        }
    }

    #[test]
    fn a_run_is_missing_from_its_first_unmatched_entry() {
        let mut log = log();
        log.append(run(2, 2, 3));
        log.append(run(3, 5, 2));
        let first_missing = |run: &Run| log.first_missing(run, Index(2));
        assert_eq!(first_missing(&run(2, 2, 3)), Index(5));
        assert_eq!(first_missing(&run(2, 3, 5)), Index(5));
        assert_eq!(first_missing(&run(3, 5, 4)), Index(7));
        assert_eq!(first_missing(&run(4, 5, 1)), Index(5));
        assert_eq!(first_missing(&run(4, 7, 1)), Index(7));
        assert_eq!(log.first_missing(&run(2, 1, 2), Index(4)), Index(4), "the run is older");
        assert_eq!(
            log.first_missing(&run(2, 1, 4), Index(3)),
            Index(5),
            "it reaches below the base"
        );
    }

    /// A membership is in force from append, and a truncation brings the one before it back.
    #[test]
    fn memberships_come_and_go_with_their_entries() {
        let mut log = log();
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let joint = Membership {
            outgoing: vec![member(1)],
            ..Membership::of_voters([member(1), member(2)])
        };
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Command, &[b"x"]);
        draft.push(EntryKind::Membership, &[&joint.encode()]);
        draft.push(EntryKind::Command, &[b"y"]);
        log.append(draft.seal(Term(2), Index(2)));
        assert_eq!(*log.membership(), joint);
        log.truncate(Index(4));
        assert_eq!(*log.membership(), joint);
        log.truncate(Index(3));
        assert_eq!(*log.membership(), Membership::default());
        assert_eq!(log.last(), id(2, 2));
    }

    #[test]
    fn eviction_keeps_what_is_not_durable() {
        let mut log = log();
        log.append(run(2, 2, 3));
        log.take_write(WriteNumber(1));
        log.append(run(2, 5, 3));
        log.handle_persisted(WriteNumber(1));
        log.evict_below(Index(100));
        assert_eq!(log.first_cached(), Index(5));
        assert_eq!(log.term_at(Index(3)), Some(Term(2)));
        assert_eq!(log.cached_bytes(), run(2, 5, 3).len_bytes());
    }
}
