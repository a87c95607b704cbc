//! The simulated log disk of one node: every replica's log and hard state, tombstones, and the
//! node's own durable values.
//!
//! Turns become durable in order, many per sync: while one sync runs, the turns of the next gather.
//! A crash keeps any number of the oldest turns under way, each as a whole: a turn is one batch.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{EntryKind, HardState, Membership, Restored, Run, Write};
use quorate_types::{Duration, Index, LogId, ReplicaId, ShardId, Term};

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
}

impl LogReplica {
    /// Makes a replica with an empty log after `base`.
    pub(crate) fn new(
        replica: ReplicaId,
        base: LogId,
        base_membership: Membership,
        space: SpaceId,
    ) -> LogReplica {
        let hard_state = HardState { term: base.term, vote: None, committed: base.index };
        let (runs, flipped) = (VecDeque::new(), None);
        LogReplica { replica, hard_state, base, base_membership, space, runs, flipped }
    }

    fn apply(&mut self, write: &Write, space: Option<SpaceId>) {
        if let Some(install) = &write.install {
            self.install(install.base, install.membership.clone(), install.keeps_log);
        }
        self.space = space.unwrap_or(self.space);
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.truncate(from);
        }
        for run in &write.runs {
            let next = self.runs.back().map_or(self.base.index.next(), |last| last.range().end);
            assert_eq!(run.first(), next, "a write must continue the log");
            self.runs.push_back(run.clone());
        }
    }

    /// Whether a bit flipped and no read has found it.
    pub(crate) fn is_flipped(&self) -> bool {
        self.flipped.is_some()
    }

    fn truncate(&mut self, from: Index) {
        self.flipped = self.flipped.filter(|flipped| *flipped < from);
        while self.runs.back().is_some_and(|run| run.first() >= from) {
            self.runs.pop_back();
        }
        if let Some(last) = self.runs.back_mut()
            && last.last() >= from
        {
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
    fn purge(&mut self, base: LogId, membership: Membership) {
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
    }

    /// The replica's state as a start reads it; `None` if it is damaged.
    fn restore(&self, applied: Index) -> Option<Restored> {
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
            last: self.runs.back().map_or(self.base, Run::last_id),
            applied,
        })
    }
}

/// The part of a turn that one replica writes.
pub(crate) struct ReplicaWrite {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) write: Write,
    /// The fresh space, if the write is an install.
    pub(crate) space: Option<SpaceId>,
}

/// What the disk writes as one unit.
pub(crate) enum DiskTurn {
    /// A host's turn with its number.
    Turn(u64, Vec<ReplicaWrite>),
    /// The longest support given.
    Longest(Duration),
    /// Runs up to and including a base may be removed; nobody waits for that.
    Purge(ShardId, ReplicaId, LogId, Membership),
}

/// The error of a read that found damage.
pub(crate) struct Damaged;

/// The log disk of one node.
#[derive(Default)]
pub(crate) struct LogDisk {
    replicas: BTreeMap<ShardId, LogReplica>,
    tombstones: BTreeMap<ShardId, ReplicaId>,
    /// Raised at every start.
    pub(crate) incarnation: u64,
    /// The longest support ever given.
    pub(crate) longest: Duration,
    queue: VecDeque<DiskTurn>,
    /// How many turns at the front of the queue the sync under way covers.
    pub(crate) syncing: usize,
    /// The number of the sync under way; a crash ends that sync.
    pub(crate) sync: u64,
    /// True time before which the disk finishes nothing.
    pub(crate) stalled_until: u64,
    /// Until `slow_until`, syncs take up to this many nanoseconds longer.
    pub(crate) slow: u64,
    pub(crate) slow_until: u64,
    /// The next sync fails.
    pub(crate) fails_next: bool,
    /// When the oldest sync under way began, for the node's fitness.
    pub(crate) sync_began: u64,
}

impl LogDisk {
    /// Queues a turn; true if the caller must begin a sync.
    pub(crate) fn submit(&mut self, turn: DiskTurn) -> bool {
        self.queue.push_back(turn);
        self.syncing == 0
    }

    /// Begins a sync of all queued turns; returns its number, or `None` if there is no work.
    pub(crate) fn begin_sync(&mut self, now: u64) -> Option<u64> {
        self.syncing = self.queue.len();
        self.sync += 1;
        self.sync_began = now;
        (self.syncing > 0).then_some(self.sync)
    }

    /// Makes the turns of the sync under way durable; returns them, oldest first.
    pub(crate) fn complete_sync(&mut self) -> Vec<DiskTurn> {
        let count = std::mem::take(&mut self.syncing);
        self.complete(count)
    }

    /// The node died: the oldest `survivors` of the turns under way are durable, the rest is lost.
    /// Returns the survivors.
    pub(crate) fn crash(&mut self, survivors: usize) -> Vec<DiskTurn> {
        self.syncing = 0;
        self.sync += 1;
        let survived = self.complete(survivors);
        self.queue.clear();
        self.fails_next = false;
        survived
    }

    /// The number of the newest turn of the host that is under way.
    pub(crate) fn newest_turn(&self) -> Option<u64> {
        let number = |turn: &DiskTurn| match turn {
            DiskTurn::Turn(number, _) => Some(*number),
            DiskTurn::Longest(_) | DiskTurn::Purge(..) => None,
        };
        self.queue.iter().rev().find_map(number)
    }

    /// How many turns are not durable yet.
    pub(crate) fn under_way(&self) -> usize {
        self.queue.len()
    }

    fn complete(&mut self, count: usize) -> Vec<DiskTurn> {
        let turns: Vec<DiskTurn> = self.queue.drain(..count).collect();
        for turn in &turns {
            match turn {
                DiskTurn::Turn(_, writes) => {
                    for write in writes {
                        if let Some(replica) = self.living(write.shard, write.replica) {
                            replica.apply(&write.write, write.space);
                        }
                    }
                }
                DiskTurn::Longest(longest) => self.longest = self.longest.max(*longest),
                DiskTurn::Purge(shard, replica, base, membership) => {
                    if let Some(replica) = self.living(*shard, *replica) {
                        replica.purge(*base, membership.clone());
                    }
                }
            }
        }
        turns
    }

    /// The replica, if it has exactly this id.
    fn living(&mut self, shard: ShardId, replica: ReplicaId) -> Option<&mut LogReplica> {
        self.replicas.get_mut(&shard).filter(|living| living.replica == replica)
    }

    /// Adds a new replica, durably.
    pub(crate) fn create(&mut self, shard: ShardId, replica: LogReplica) {
        let is_dead = self.tombstone(shard).is_some_and(|dead| replica.replica <= dead);
        assert!(!is_dead, "replica id {} of shard {shard} has a tombstone", replica.replica);
        let clash = self.replicas.insert(shard, replica);
        assert!(clash.is_none(), "shard {shard} has a replica here already");
    }

    /// Ends a replica and leaves a tombstone. Returns its space.
    pub(crate) fn end(&mut self, shard: ShardId) -> Option<SpaceId> {
        let ended = self.replicas.remove(&shard)?;
        self.tombstones.insert(shard, ended.replica);
        Some(ended.space)
    }

    /// The newest dead replica id of a shard.
    pub(crate) fn tombstone(&self, shard: ShardId) -> Option<ReplicaId> {
        self.tombstones.get(&shard).copied()
    }

    pub(crate) fn replica(&self, shard: ShardId) -> Option<&LogReplica> {
        self.replicas.get(&shard)
    }

    pub(crate) fn replicas(&self) -> impl Iterator<Item = (ShardId, &LogReplica)> {
        self.replicas.iter().map(|(shard, replica)| (*shard, replica))
    }

    /// The replica's state as a start reads it; `None` if it is absent or damaged.
    pub(crate) fn restore(&self, shard: ShardId, applied: Index) -> Option<Restored> {
        self.replicas.get(&shard)?.restore(applied)
    }

    /// Flips a bit in the run that holds the log's entry number `place`, modulo the count of
    /// entries; false if the log is empty.
    pub(crate) fn flip(&mut self, shard: ShardId, place: u64) -> bool {
        let Some(replica) = self.replicas.get_mut(&shard) else { return false };
        let (Some(first), Some(last)) = (replica.runs.front(), replica.runs.back()) else {
            return false;
        };
        let (first, count) = (first.first(), last.last().0 - first.first().0 + 1);
        replica.flipped = Some(first.plus(place % count));
        true
    }

    /// Treats damage as the end of a log, against RULE 5: for a mutant.
    pub(crate) fn cut_at_damage(&mut self, shard: ShardId) {
        let Some(replica) = self.replicas.get_mut(&shard) else { return };
        if let Some(flipped) = replica.flipped {
            replica.truncate(flipped);
            replica.flipped = None;
        }
    }

    /// Undoes flips that no read has found, as a scrub against the other copies does.
    pub(crate) fn scrub(&mut self) {
        self.replicas.values_mut().for_each(|replica| replica.flipped = None);
    }

    /// Reads durable runs from `from` up to before `until`; stops once `bytes_max` is exceeded, so
    /// it reads at least one run if there is one.
    pub(crate) fn read(
        &self,
        shard: ShardId,
        from: Index,
        until: Index,
        bytes_max: usize,
    ) -> Result<Vec<Run>, Damaged> {
        let mut found: Vec<Run> = Vec::new();
        let Some(replica) = self.replicas.get(&shard) else { return Ok(found) };
        let mut bytes = 0;
        // Runs ascend and do not overlap.
        let skipped = replica.runs.partition_point(|run| run.last() < from);
        for run in replica.runs.range(skipped..) {
            let (start, end) = (run.first().max(from), run.range().end.min(until));
            let expected = found.last().map_or(from, |last| last.range().end);
            if start >= end || start != expected || (bytes > 0 && bytes > bytes_max) {
                break;
            }
            if replica.flipped.is_some_and(|flipped| run.range().contains(&flipped)) {
                return Err(Damaged);
            }
            bytes += run.len_bytes();
            found.push(run.cut(start, end));
        }
        Ok(found)
    }
}
