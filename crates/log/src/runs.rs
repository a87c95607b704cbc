//! One shard's runs within its family: scan and read.
//!
//! RULE 7: runs are disjoint. Every function here relies on it to find the run that holds an index
//! (the last one that begins at or before it), and every change keeps it.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use rocksdb::{AsColumnFamilyRef, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions, WriteBatch};

use quorate_raft::{EntryKind, Membership, MembershipError, Run, RunError};
use quorate_types::{Index, LogId, ShardId, Term};

use crate::keys::{parse_run_key, run_key, run_keys_end};
use crate::run_index::StoredRun;
use crate::settings::Db;

/// Stored bytes that are not what was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFault {
    #[error("{0}")]
    Storage(#[from] rocksdb::Error),
    #[error("key {found:02x?} is no run's")]
    Key { found: Vec<u8> },
    #[error("run stored at {at} begins at {found}")]
    Place { at: Index, found: Index },
    #[error("run at {at}: {source}")]
    Run { at: Index, source: RunError },
    #[error("membership entry at {at}: {source}")]
    Membership { at: Index, source: MembershipError },
    #[error("hole or overlap: expected a run at {expected}, found one at {found}")]
    Hole { expected: Index, found: Index },
    #[error("the run at {at} is gone")]
    Missing { at: Index },
    #[error("first run ends at {last}, at or below the base {base}")]
    BelowBase { last: Index, base: LogId },
    #[error("term falls from {before} to {found} at {at}")]
    TermFalls { at: Index, before: Term, found: Term },
}

impl RunFault {
    /// Whether the stored bytes are to blame, and not the disk or the system that did not give them.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            RunFault::Storage(error) => error.kind() == ErrorKind::Corruption,
            _ => true,
        }
    }

    /// Whether a table's own checksums show the damage, so that no merge can take that table in.
    pub(crate) fn is_of_table(&self) -> bool {
        matches!(self, RunFault::Storage(_)) && self.is_damage()
    }
}

/// What a start needs to know about a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) terms: Vec<(Index, Term)>,
    pub(crate) memberships: Vec<(Index, Membership)>,
    pub(crate) last: LogId,
    pub(crate) runs: VecDeque<StoredRun>,
}

/// The place where one shard's runs are stored.
pub(crate) struct Place<'a, F: AsColumnFamilyRef> {
    pub(crate) db: &'a Db,
    pub(crate) family: F,
    pub(crate) shard: ShardId,
}

type RunIterator<'a> = DBRawIteratorWithThreadMode<'a, Db>;

impl<F: AsColumnFamilyRef> Place<'_, F> {
    /// Verifies every run above `base`, and that there are no holes between them.
    pub(crate) fn scan(&self, base: LogId) -> Result<Scan, RunFault> {
        let mut scan =
            Scan { terms: Vec::new(), memberships: Vec::new(), last: base, runs: VecDeque::new() };
        let mut runs = self.iterator();
        runs.seek(run_key(self.shard, Index(0)));
        while let Some(run) = current(&runs)? {
            self.check_follows(base, scan.last, &run)?;
            let from = run.first().max(base.index.next());
            if scan.terms.last().is_none_or(|(_, term)| *term < run.term()) {
                scan.terms.push((from, run.term()));
            }
            if run.has_membership() {
                collect_memberships(&run, from, &mut scan.memberships)?;
            }
            scan.runs.push_back(StoredRun::of(&run));
            scan.last = run.last_id();
            runs.next();
        }
        Ok(scan)
    }

    /// `last` is the entry before the run's first, or, for the first run, the base, which the run
    /// may span: purge drops whole runs only.
    fn check_follows(&self, base: LogId, last: LogId, run: &Run) -> Result<(), RunFault> {
        let (expected, found) = (last.index.next(), run.first());
        if last == base && found <= base.index && run.last() <= base.index {
            return Err(RunFault::BelowBase { last: run.last(), base });
        }
        let spans_base = last == base && found <= base.index;
        if found != expected && !spans_base {
            return Err(RunFault::Hole { expected, found });
        }
        let (before, found) = (last.term, run.term());
        if found < before || (spans_base && found != before) {
            return Err(RunFault::TermFalls { at: run.first(), before, found });
        }
        Ok(())
    }

    /// Contiguous runs from the start of `range`, cut to it at both ends, up to its end, the end
    /// of the log, or the run that passes `bytes_max`. Empty if the first entry is not there.
    pub(crate) fn read(&self, range: Range<Index>, bytes_max: usize) -> Result<Vec<Run>, RunFault> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        let mut runs = self.iterator();
        runs.seek_for_prev(run_key(self.shard, range.start));
        while let Some(run) = current(&runs)? {
            if run.last() < next && found.is_empty() {
                break;
            }
            if !found.is_empty() && run.first() != next {
                return Err(RunFault::Hole { expected: next, found: run.first() });
            }
            let part = run.cut(next, range.end.min(run.range().end));
            next = part.range().end;
            bytes += part.len_bytes();
            found.push(part);
            if next == range.end || bytes >= bytes_max {
                break;
            }
            runs.next();
        }
        Ok(found)
    }

    /// Passes every run, verified, to `visit`, in order, until that fails.
    pub(crate) fn each(
        &self,
        visit: &mut dyn FnMut(Run) -> Result<(), rocksdb::Error>,
    ) -> Result<(), RunFault> {
        let mut runs = self.iterator();
        runs.seek(run_key(self.shard, Index(0)));
        while let Some(run) = current(&runs)? {
            visit(run)?;
            runs.next();
        }
        Ok(())
    }

    /// The run at `first`, which must have entries on both sides of `from`.
    pub(crate) fn run_at(&self, first: Index, from: Index) -> Result<Run, RunFault> {
        let mut runs = self.iterator();
        runs.seek(run_key(self.shard, first));
        let run = current(&runs)?.filter(|run| run.first() == first);
        let run = run.ok_or(RunFault::Missing { at: first })?;
        if run.last() < from {
            return Err(RunFault::Hole { expected: run.range().end, found: from });
        }
        Ok(run)
    }

    /// Adds to `batch` the removal of every run.
    pub(crate) fn clear(&self, batch: &mut WriteBatch) {
        let (start, end) = (run_key(self.shard, Index(0)), run_keys_end(self.shard));
        batch.delete_range_cf(&self.family, start, end);
    }

    fn iterator(&self) -> RunIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(run_key(self.shard, Index(0)));
        options.set_iterate_upper_bound(run_keys_end(self.shard));
        options.fill_cache(false);
        self.db.raw_iterator_cf_opt(&self.family, options)
    }
}

/// The run under the iterator, verified; `None` past either end.
fn current(runs: &RunIterator<'_>) -> Result<Option<Run>, RunFault> {
    let Some((key, value)) = runs.item() else {
        runs.status()?;
        return Ok(None);
    };
    let (_, at) = parse_run_key(key).ok_or_else(|| RunFault::Key { found: key.to_vec() })?;
    let run = Run::decode(Bytes::copy_from_slice(value))
        .map_err(|source| RunFault::Run { at, source })?;
    if run.first() != at {
        return Err(RunFault::Place { at, found: run.first() });
    }
    Ok(Some(run))
}

fn collect_memberships(
    run: &Run,
    from: Index,
    memberships: &mut Vec<(Index, Membership)>,
) -> Result<(), RunFault> {
    for entry in run.entries() {
        let at = entry.id.index;
        if entry.kind == EntryKind::Membership && at >= from {
            let membership = Membership::decode(entry.payload)
                .map_err(|source| RunFault::Membership { at, source })?;
            memberships.push((at, membership));
        }
    }
    Ok(())
}
