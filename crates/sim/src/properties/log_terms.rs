//! The shape of one replica's log: its base, and where each term begins. Contents are compared once
//! for all replicas, by [`super::log_matching`], so the terms are enough to tell logs apart.

use quorate_raft::{Restored, Write};
use quorate_types::{Index, LogId, Term};

/// The base, the last index and the terms of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogTerms {
    base: LogId,
    last: LogId,
    /// First index of each term beyond the base, ascending.
    terms: Vec<(Index, Term)>,
}

impl LogTerms {
    pub(crate) fn of(restored: &Restored) -> LogTerms {
        LogTerms { base: restored.base, last: restored.last, terms: restored.terms.clone() }
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// `None` before the base and beyond the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let position = self.terms.partition_point(|(first, _)| *first <= index);
        position.checked_sub(1).map(|position| self.terms[position].1)
    }

    pub(crate) fn holds(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The first index of both logs at which they differ, if there is one.
    pub(crate) fn differs_from(&self, other: &LogTerms) -> Option<Index> {
        let from = self.base.index.max(other.base.index);
        let until = self.last.index.min(other.last.index);
        let starts = self.terms.iter().chain(&other.terms).map(|(first, _)| *first);
        let places = starts.chain([from]).filter(|index| from <= *index && *index <= until);
        places.filter(|index| self.term_at(*index) != other.term_at(*index)).min()
    }

    /// Takes in a write. False if its runs do not follow the log: then none of them is taken in.
    pub(crate) fn write(&mut self, write: &Write) -> bool {
        if let Some(install) = super::install_of(write) {
            self.install(install.base, install.keeps_log);
        }
        if let Some(from) = write.truncate_from {
            self.truncate(from);
        }
        for run in &write.runs {
            if run.first() != self.last.index.next() || run.term() < self.last.term {
                return false;
            }
            if self.terms.last().is_none_or(|(_, term)| *term != run.term()) {
                self.terms.push((run.first(), run.term()));
            }
            self.last = run.last_id();
        }
        true
    }

    pub(crate) fn install(&mut self, base: LogId, keeps_log: bool) {
        if keeps_log && self.last.index >= base.index {
            self.purge(base);
        } else {
            *self = LogTerms { base, last: base, terms: Vec::new() };
        }
    }

    pub(crate) fn purge(&mut self, base: LogId) {
        if base.index <= self.base.index {
            return;
        }
        if base.index >= self.last.index {
            *self = LogTerms { base, last: base, terms: Vec::new() };
            return;
        }
        let ended = self.terms.partition_point(|(first, _)| *first <= base.index.next());
        self.terms.drain(..ended.saturating_sub(1));
        if let Some((first, _)) = self.terms.first_mut() {
            *first = base.index.next().max(*first);
        }
        self.base = base;
    }

    fn truncate(&mut self, from: Index) {
        if from > self.last.index || from <= self.base.index {
            return;
        }
        let end = from.previous();
        self.last = LogId::new(self.term_at(end).expect("within the log"), end);
        self.terms.retain(|(first, _)| *first < from);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{id, restored, write};
    use super::*;

    #[test]
    fn a_log_grows_and_is_cut_at_both_ends() {
        let mut log = LogTerms::of(&restored());
        assert!(log.write(&write(1).run(1, 2, 3).run(2, 5, 2).build()));
        assert_eq!((log.base(), log.last()), (id(1, 1), id(2, 6)));
        assert!(log.holds(id(1, 4)) && log.holds(id(2, 5)) && !log.holds(id(1, 7)));
        assert!(log.write(&write(2).cut(4).run(3, 4, 1).build()));
        assert_eq!(log.last(), id(3, 4));
        assert!(!log.write(&write(3).run(3, 6, 1).build()), "a gap");
        log.purge(id(1, 3));
        assert_eq!(log.term_at(Index(2)), None);
        assert_eq!(log.term_at(Index(4)), Some(Term(3)));
        log.install(id(4, 9), false);
        assert_eq!((log.base(), log.last()), (id(4, 9), id(4, 9)));
    }

    #[test]
    fn the_first_difference_is_found() {
        let mut one = LogTerms::of(&restored());
        let mut other = one.clone();
        one.write(&write(1).run(1, 2, 3).run(3, 5, 2).build());
        other.write(&write(1).run(1, 2, 2).run(2, 4, 9).build());
        assert_eq!(one.differs_from(&other), Some(Index(4)));
        assert_eq!(one.differs_from(&one.clone()), None);
    }
}
