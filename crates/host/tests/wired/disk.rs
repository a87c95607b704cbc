//! What survives a restart of a node: every log, written at once, and how far it is applied.

use std::ops::Range;

use quorate_raft::{EntryKind, HardState, Member, Membership, Restored, Run, Write};
use quorate_types::{Index, LogId, NodeId, ReplicaId, Term};

const BASE: LogId = LogId::new(Term(1), Index(1));

/// The disk of one replica.
pub(crate) struct Disk {
    hard_state: HardState,
    runs: Vec<Run>,
    pub(crate) applied: Index,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let hard_state = HardState { term: BASE.term, vote: None, committed: BASE.index };
        Disk { hard_state, runs: Vec::new(), applied: BASE.index }
    }

    pub(crate) fn write(&mut self, write: &Write) {
        assert!(write.install.is_none(), "nobody sends snapshots here");
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        if let Some(from) = write.truncate_from {
            self.runs.retain(|run| run.first() < from);
            if let Some(run) = self.runs.pop() {
                self.runs.push(run.cut(run.first(), run.range().end.min(from)));
            }
        }
        self.runs.extend(write.runs.iter().cloned());
    }

    pub(crate) fn read(&self, range: &Range<Index>) -> Vec<Run> {
        let runs = self.runs.iter().filter(|run| run.last() >= range.start);
        let runs = runs.filter(|run| run.first() < range.end);
        runs.map(|run| run.cut(run.first().max(range.start), run.range().end.min(range.end)))
            .collect()
    }

    /// A replica of every node from 1 to `nodes` belongs to each group.
    pub(crate) fn restored(&self, nodes: u64) -> Restored {
        let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for run in &self.runs {
            if terms.last().is_none_or(|(_, term)| *term != run.term()) {
                terms.push((run.first(), run.term()));
            }
        }
        let changes = self.runs.iter().filter(|run| run.has_membership()).flat_map(Run::entries);
        let changes = changes.filter(|entry| entry.kind == EntryKind::Membership);
        Restored {
            hard_state: self.hard_state,
            base: BASE,
            base_membership: Membership::of_voters((1..=nodes).map(member)),
            terms,
            memberships: changes
                .map(|entry| (entry.id.index, Membership::decode(entry.payload).expect("sound")))
                .collect(),
            last: self.runs.last().map_or(BASE, Run::last_id),
            applied: self.applied,
        }
    }
}
