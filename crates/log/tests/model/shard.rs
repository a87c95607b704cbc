//! The model of one shard: its runs, as a plain list.

use quorate_log::{HeldLog, LogReadError, LogStore, NewReplica, RecoveredReplica};
use quorate_raft::{HardState, Membership, Run};
use quorate_types::{Index, LogId, ReplicaId, ShardId, SpaceId, Term};

use crate::common::{entries, id, membership, replica};

/// Whether the replica still speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Living,
    Removed,
    Damaged(String),
}

/// What the store should hold of one shard's newest replica.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    shard: u64,
    pub(crate) replica: ReplicaId,
    pub(crate) life: Life,
    pub(crate) space: SpaceId,
    pub(crate) base: LogId,
    base_membership: Membership,
    pub(crate) hard_state: HardState,
    /// Every stored run; the first may begin at or below the base.
    pub(crate) runs: Vec<Run>,
}

impl Model {
    /// A new replica.
    pub(crate) fn new(shard: u64, id: ReplicaId) -> Model {
        let born = replica(shard);
        Model {
            shard,
            replica: id,
            life: Life::Living,
            space: born.space,
            base: born.base,
            base_membership: born.base_membership,
            hard_state: HardState { term: super::TERM, ..HardState::default() },
            runs: Vec::new(),
        }
    }

    pub(crate) fn birth(&self) -> NewReplica {
        NewReplica { replica: self.replica, hard_state: self.hard_state, ..replica(self.shard) }
    }

    pub(crate) fn last(&self) -> u64 {
        self.runs.last().map_or(self.base.index, Run::last).0
    }

    pub(crate) fn term(&self) -> u64 {
        self.runs.last().map_or(self.base.term, Run::term).0
    }

    /// The entry at `index`, which is stored.
    pub(crate) fn id_at(&self, index: u64) -> LogId {
        let run = self.runs.iter().find(|run| run.range().contains(&Index(index)));
        id(run.expect("stored").term().0, index)
    }

    /// Returns how many runs it drops, if it is news.
    pub(crate) fn purge(&mut self, base: LogId) -> Option<u64> {
        if base.index <= self.base.index {
            return None;
        }
        self.base_membership = membership(3);
        Some(self.raise_base(base))
    }

    /// Returns how many runs it drops.
    pub(crate) fn install(&mut self, base: LogId, space: SpaceId, keeps_log: bool) -> u64 {
        self.space = space;
        self.base_membership = membership(5);
        if keeps_log {
            return self.raise_base(base);
        }
        self.base = base;
        std::mem::take(&mut self.runs).len() as u64
    }

    fn raise_base(&mut self, base: LogId) -> u64 {
        let before = self.runs.len();
        self.runs.retain(|run| run.last() > base.index);
        self.base = base;
        (before - self.runs.len()) as u64
    }

    pub(crate) fn truncate(&mut self, from: u64) {
        let from = Index(from);
        self.runs.retain(|run| run.first() < from);
        if let Some(last) = self.runs.last_mut()
            && last.last() >= from
        {
            *last = last.cut(last.first(), from);
        }
        // What would be left ends at or below the base.
        self.runs.retain(|run| run.last() > self.base.index);
    }

    /// As the store should report it; nothing of a replica that does not live.
    pub(crate) fn held(&self) -> impl Iterator<Item = HeldLog> {
        let bytes = self.runs.iter().map(|run| run.len_bytes() as u64).sum();
        let (runs, last) = (self.runs.len() as u64, Index(self.last()));
        let held = HeldLog { bytes, runs, base: self.base.index, last };
        (self.life == Life::Living).then_some(held).into_iter()
    }

    /// The index in memory has exactly these runs. Method: it is asked for both sides of every
    /// sum of their bytes.
    pub(crate) fn check_index(&self, log: &LogStore, shard: ShardId) {
        assert_eq!(log.held(shard), self.held().next());
        let first = self.base.index.next();
        if self.life != Life::Living {
            assert_eq!(log.index_within(shard, u64::MAX), None);
            let read = log.read(shard, first..Index(u64::MAX), 1);
            assert_eq!(read, Err(LogReadError::Unknown { shard }));
            return;
        }
        let (mut bytes, mut from) = (0, Index(self.last()).next());
        for run in self.runs.iter().rev() {
            bytes += run.len_bytes() as u64;
            assert_eq!(log.index_within(shard, bytes - 1), Some(from));
            from = run.first().max(first);
            assert_eq!(log.index_within(shard, bytes), Some(from));
        }
        assert_eq!(log.index_within(shard, u64::MAX), Some(from));
        if self.runs.is_empty() {
            let read = log.read(shard, first..Index(u64::MAX), 1);
            assert_eq!(read, Err(LogReadError::Absent { shard, index: first }));
        } else {
            let all: Vec<(u64, u64)> =
                (first.0..=self.last()).map(|at| (self.id_at(at).term.0, at)).collect();
            assert_eq!(entries(log, shard.0, first.0, self.last() + 9), all);
        }
    }

    /// A start finds the same.
    pub(crate) fn check_recovery(&self, found: &RecoveredReplica) {
        assert_eq!((found.replica, found.space), (self.replica, self.space));
        let restored = &found.restored;
        assert_eq!((restored.base, &restored.base_membership), (self.base, &self.base_membership));
        match &self.life {
            Life::Living => assert_eq!((found.tombstone, &found.damaged), (false, &None)),
            Life::Removed => return assert!(found.tombstone),
            Life::Damaged(what) => {
                assert_eq!((found.tombstone, found.damaged.as_ref()), (false, Some(what)));
                return;
            }
        }
        assert_eq!(restored.hard_state, self.hard_state);
        assert_eq!(restored.last.index, Index(self.last()));
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for run in &self.runs {
            if terms.last().is_none_or(|(_, before)| *before < run.term()) {
                terms.push((run.first().max(self.base.index.next()), run.term()));
            }
        }
        assert_eq!(restored.terms, terms);
    }
}
