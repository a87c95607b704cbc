//! Where each stored run of one log begins, in memory: purges, truncations and installs find what
//! they delete without a read. A read would pass over the remains of every earlier purge.

use std::collections::VecDeque;

use quorate_raft::Run;
use quorate_types::Index;

/// Places that a list may keep unused when it shrinks.
const PLACES_SPARE: usize = 64;

/// One stored run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRun {
    /// Its first index, which is its key.
    pub(crate) first: Index,
    /// Its encoded bytes. A run is far smaller than 4 GiB (`limits::RUN_BYTES_MAX`).
    pub(crate) bytes: u32,
}

impl StoredRun {
    pub(crate) fn of(run: &Run) -> StoredRun {
        StoredRun { first: run.first(), bytes: bytes_of(run) }
    }
}

/// The bytes that `run` takes when it is stored.
pub(crate) fn bytes_of(run: &Run) -> u32 {
    u32::try_from(run.len_bytes()).expect("a run is far smaller than 4 GiB")
}

/// The runs of one living replica. A run ends where the next one begins (RULE 7), the last one at
/// the end of the log; the first one may begin at or below the base.
#[derive(Debug)]
pub(crate) struct RunIndex {
    base: Index,
    last: Index,
    runs: VecDeque<StoredRun>,
    bytes: u64,
    /// The newest batch that holds runs of this log, and the first of them. Until it is written
    /// they can't be read back.
    newest: (u64, Index),
}

impl RunIndex {
    /// `runs` hold every entry in `(base, last]`.
    pub(crate) fn new(base: Index, last: Index, runs: VecDeque<StoredRun>) -> RunIndex {
        let bytes = runs.iter().map(|run| u64::from(run.bytes)).sum();
        RunIndex { base, last, runs, bytes, newest: (0, base) }
    }

    /// The entry before the log's first.
    pub(crate) fn base(&self) -> Index {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// Encoded bytes of all runs.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn runs(&self) -> &VecDeque<StoredRun> {
        &self.runs
    }

    /// Adds a run through `last` that was put into batch number `batch`.
    pub(crate) fn append(&mut self, batch: u64, run: StoredRun, last: Index) {
        self.put(batch, run.first);
        self.runs.push_back(run);
        self.bytes += u64::from(run.bytes);
        self.last = last;
    }

    /// True if a run holds the entry at `index`, maybe at or below the base.
    pub(crate) fn holds(&self, index: Index) -> bool {
        index <= self.last && self.runs.front().is_some_and(|run| run.first <= index)
    }

    /// True if the run at `first` is in batch number `batch`.
    pub(crate) fn is_in(&self, batch: u64, first: Index) -> bool {
        self.newest.0 == batch && first >= self.newest.1
    }

    /// The run with entries on both sides of `from`: before it, and at it or beyond.
    pub(crate) fn spanning(&self, from: Index) -> Option<StoredRun> {
        let at = self.runs.partition_point(|run| run.first < from).checked_sub(1)?;
        (self.end_of(at) > from).then(|| self.runs[at])
    }

    /// Raises the base, and gives every run that lies entirely at or below it to `delete`. The log
    /// may end below the new base; then it is empty.
    pub(crate) fn raise_base(&mut self, base: Index, mut delete: impl FnMut(StoredRun)) {
        while !self.runs.is_empty() && self.end_of(0) <= base.next() {
            self.pop(VecDeque::pop_front, &mut delete);
        }
        self.base = base;
        self.last = self.last.max(base);
        self.shrink();
    }

    /// Begins again behind `base`, and gives every run to `delete`.
    pub(crate) fn reset(&mut self, base: Index, mut delete: impl FnMut(StoredRun)) {
        while !self.runs.is_empty() {
            self.pop(VecDeque::pop_front, &mut delete);
        }
        self.base = base;
        self.last = base;
        self.shrink();
    }

    /// Ends the log before `from`, and gives every run that goes to `delete`. What stays of the
    /// run that spans `from` is `head_bytes` long, and was put into batch number `batch`; `None` if
    /// no run spans `from` or nothing of it stays.
    pub(crate) fn truncate(
        &mut self,
        batch: u64,
        from: Index,
        head_bytes: Option<u32>,
        mut delete: impl FnMut(StoredRun),
    ) {
        let spanning = self.spanning(from).filter(|_| head_bytes.is_none());
        let delete_from = spanning.map_or(from, |run| run.first);
        while self.runs.back().is_some_and(|run| run.first >= delete_from) {
            self.pop(VecDeque::pop_back, &mut delete);
        }
        if let Some(bytes) = head_bytes {
            let head = self.runs.back_mut().expect("the head of a run that spans");
            self.bytes = self.bytes - u64::from(head.bytes) + u64::from(bytes);
            head.bytes = bytes;
            let first = head.first;
            self.put(batch, first);
        }
        self.last = self.last.min(from.previous());
    }

    /// The first index such that the runs from there on have at most `bytes_max` bytes.
    pub(crate) fn within(&self, bytes_max: u64) -> Index {
        let mut bytes = 0;
        let mut from = self.last.next();
        for run in self.runs.iter().rev() {
            bytes += u64::from(run.bytes);
            if bytes > bytes_max {
                break;
            }
            from = run.first;
        }
        from.max(self.base.next())
    }

    /// Where the run at position `at` ends.
    fn end_of(&self, at: usize) -> Index {
        self.runs.get(at + 1).map_or(self.last.next(), |next| next.first)
    }

    fn put(&mut self, batch: u64, first: Index) {
        let (newest, begin) = self.newest;
        self.newest = (batch, if newest == batch { begin.min(first) } else { first });
    }

    fn pop(
        &mut self,
        take: impl Fn(&mut VecDeque<StoredRun>) -> Option<StoredRun>,
        delete: &mut impl FnMut(StoredRun),
    ) {
        let run = take(&mut self.runs).expect("the caller has looked");
        self.bytes -= u64::from(run.bytes);
        delete(run);
    }

    /// Gives memory back after a purge of most of a long log.
    fn shrink(&mut self) {
        if self.runs.len() + PLACES_SPARE < self.runs.capacity() / 4 {
            self.runs.shrink_to(self.runs.len() * 2 + PLACES_SPARE);
        }
    }
}

#[cfg(test)]
#[path = "run_index_tests.rs"]
mod tests;
