//! Hands committed entries to the state machine: in order, once, bounded, and never beyond what is
//! both committed and durable here (RULE 4).

use std::collections::VecDeque;

use quorate_types::{Index, Mutant};

use crate::kernel::Kernel;
use crate::ready::{Committed, Fetch, Reader};
use crate::run::Run;

/// How far the state machine is, and which entries it has been handed.
pub(crate) struct ApplyCursor {
    /// Last index applied.
    applied: Index,
    /// Last index handed out.
    handed: Index,
    /// Ranges handed out and not yet applied: last index, bytes.
    outstanding: VecDeque<(Index, usize)>,
    outstanding_bytes: usize,
    /// Read back from disk; begins right after `handed`.
    fetched: Vec<Run>,
    /// Bytes of that, or that are being read back at most.
    fetching_bytes: usize,
    /// Nothing was handed out, because the host had no room.
    awaits_room: bool,
    /// Entries that a snapshot has made superfluous are being read back.
    is_fetch_obsolete: bool,
}

impl ApplyCursor {
    pub(crate) fn new(applied: Index) -> ApplyCursor {
        ApplyCursor {
            applied,
            handed: applied,
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            fetched: Vec::new(),
            fetching_bytes: 0,
            awaits_room: false,
            is_fetch_obsolete: false,
        }
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// The state machine continued from a snapshot at `index`.
    pub(crate) fn reset_after_snapshot(&mut self, index: Index, is_fetching: bool) {
        *self = ApplyCursor { is_fetch_obsolete: is_fetching, ..ApplyCursor::new(index) };
    }

    /// # Panics
    /// If `index` was never handed out.
    pub(crate) fn handle_applied(&mut self, index: Index) {
        assert!(index <= self.handed, "{index:?} is applied and was never handed out");
        self.applied = self.applied.max(index);
        while let Some((last, bytes)) = self.outstanding.front()
            && *last <= index
        {
            self.outstanding_bytes -= bytes;
            self.outstanding.pop_front();
        }
    }
}

impl Kernel {
    /// The next committed entries, or a request to read them back. Room for entries that are read
    /// back is reserved when they are asked for.
    pub(crate) fn take_committed(&mut self, node_room_bytes: usize) -> Option<Committed> {
        self.apply.awaits_room = false;
        let from = self.apply.handed.next();
        let mutated = self.breaks(Mutant::ApplyUnsynced);
        let held = if mutated { self.log.last().index } else { self.log.durable() };
        let until = self.commit.min(held).next();
        let runs = if !self.apply.fetched.is_empty() {
            self.apply.fetching_bytes = 0;
            std::mem::take(&mut self.apply.fetched)
        } else {
            let room_bytes = self.config.apply_bytes_max.saturating_sub(self.apply_bytes());
            let is_fetching = self.fetching.contains(&Reader::Apply);
            if from >= until || room_bytes == 0 || is_fetching {
                return None;
            }
            if node_room_bytes == 0 {
                self.apply.awaits_room = true;
                return None;
            }
            let bytes_max = room_bytes.min(node_room_bytes);
            let first_cached = self.log.first_cached();
            if from < first_cached {
                let range = from..until.min(first_cached);
                self.apply.fetching_bytes = bytes_max;
                self.fetch(Fetch { reader: Reader::Apply, range, bytes_max });
                return None;
            }
            self.log.runs(from, until, bytes_max)
        };
        let last = runs.last().expect("never empty").last();
        let bytes = runs.iter().map(Run::len_bytes).sum();
        self.apply.handed = last;
        self.apply.outstanding.push_back((last, bytes));
        self.apply.outstanding_bytes += bytes;
        Some(Committed { range: from..last.next(), runs })
    }

    /// Bytes handed out, or being read back to be handed out, and not applied.
    #[must_use]
    pub fn apply_bytes(&self) -> usize {
        self.apply.outstanding_bytes + self.apply.fetching_bytes
    }

    /// True if committed entries wait only for room at the host.
    #[must_use]
    pub fn awaits_apply_room(&self) -> bool {
        self.apply.awaits_room
    }

    /// Entries for the state machine came back. They were committed when they were asked for, so
    /// nothing can have replaced them since.
    pub(crate) fn handle_fetched_apply(&mut self, runs: Vec<Run>) {
        if std::mem::take(&mut self.apply.is_fetch_obsolete) {
            return;
        }
        self.apply.fetching_bytes = runs.iter().map(Run::len_bytes).sum();
        let first = runs.first().expect("a fetch gives at least one run").first();
        assert!(first == self.apply.handed.next(), "fetched {first:?} out of turn");
        for run in &runs {
            assert!(self.log.holds(run.last_id()), "fetched {run:?} is not what the log holds");
        }
        self.apply.fetched = runs;
    }
}
