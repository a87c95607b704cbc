//! The simulated log disk of one node: every replica's log, tombstones, and the node's own durable
//! values. All changes are one ordered stream.
//!
//! A unit of the stream is what one turn changes: purges, then writes, then ends. Units become
//! durable in order, many per sync: while one sync runs, those of the next gather. A crash keeps any
//! number of the oldest units under way, each as a whole: a unit is in one batch. A part whose
//! replica is not the living one of its shard is skipped.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use quorate_host::ShardPurge;
use quorate_raft::{Restored, Run, Write};
use quorate_types::{Duration, Index, Mutant, Mutation, ReplicaId, ShardId};

use super::data_store::SpaceId;
use super::log_replica::{Damaged, LogReplica, Stored};

/// The part of a turn that one replica writes.
pub(crate) struct ReplicaWrite {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) write: Write,
    /// The fresh space, if the write is an install.
    pub(crate) space: Option<SpaceId>,
}

/// Names a replica that ends: once this is durable, it never starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaEnd {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
}

/// Everything that a turn changes in the logs of its node.
#[derive(Default)]
pub(crate) struct LogUnit {
    /// The number of the host's turn, if the host waits for it.
    pub(crate) number: Option<u64>,
    pub(crate) purges: Vec<ShardPurge>,
    pub(crate) writes: Vec<ReplicaWrite>,
    pub(crate) ends: Vec<ReplicaEnd>,
    /// Its ends are all that the node's damaged write-ahead log calls for.
    pub(crate) clears_damage: bool,
}

impl LogUnit {
    pub(crate) fn is_empty(&self) -> bool {
        self.number.is_none() && self.purges.is_empty() && self.ends.is_empty()
    }
}

/// What the disk makes durable as one unit.
pub(crate) enum DiskTurn {
    Unit(LogUnit),
    /// The longest support given.
    Longest(Duration),
    /// A new replica, which takes part once this is durable.
    Birth(ShardId, Box<LogReplica>),
}

/// A part of a unit that is durable, and the log that it left.
pub(crate) struct Part {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    /// `None` for a purge.
    pub(crate) write: Option<Write>,
    pub(crate) stored: Stored,
}

/// What has become durable.
pub(crate) enum Done {
    Unit {
        number: Option<u64>,
        parts: Vec<Part>,
        /// Parts of replicas that had ended before.
        skipped: Vec<(ShardId, ReplicaId)>,
        ended: Vec<ReplicaEnd>,
    },
    Longest(Duration),
    Born(ShardId, ReplicaId, SpaceId),
    /// The replica has a tombstone, or another one lives here.
    BirthRefused(ShardId, ReplicaId),
}

/// The log disk of one node.
#[derive(Default)]
pub(crate) struct LogDisk {
    replicas: BTreeMap<ShardId, LogReplica>,
    tombstones: BTreeMap<ShardId, ReplicaId>,
    /// The write-ahead log is damaged, and this is what lies before the damage. A start finds it.
    before_damage: Option<BTreeMap<ShardId, LogReplica>>,
    /// Logs of replicas that have ended: for a mutant.
    graves: BTreeMap<ShardId, LogReplica>,
    pub(crate) mutation: Mutation,
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

    /// Makes the turns of the sync under way durable; returns what they did, oldest first.
    pub(crate) fn complete_sync(&mut self) -> Vec<Done> {
        let count = std::mem::take(&mut self.syncing);
        self.complete(count)
    }

    /// The node died: the oldest `survivors` of the turns under way are durable, the rest is lost.
    /// Returns what the survivors did, and what was lost.
    pub(crate) fn crash(&mut self, survivors: usize) -> (Vec<Done>, Vec<DiskTurn>) {
        self.syncing = 0;
        self.sync += 1;
        let survived = self.complete(survivors);
        let lost = self.queue.drain(..).collect();
        self.fails_next = false;
        (survived, lost)
    }

    /// The number of the newest turn of the host that is under way.
    pub(crate) fn newest_turn(&self) -> Option<u64> {
        let number = |turn: &DiskTurn| match turn {
            DiskTurn::Unit(unit) => unit.number,
            DiskTurn::Longest(_) | DiskTurn::Birth(..) => None,
        };
        self.queue.iter().rev().find_map(number)
    }

    /// How many turns are not durable yet.
    pub(crate) fn under_way(&self) -> usize {
        self.queue.len()
    }

    /// The replicas of a shard, and their spaces, that are to be born here.
    pub(crate) fn births(&self) -> impl Iterator<Item = (ShardId, &LogReplica)> {
        self.queue.iter().filter_map(|turn| match turn {
            DiskTurn::Birth(shard, replica) => Some((*shard, &**replica)),
            DiskTurn::Unit(_) | DiskTurn::Longest(_) => None,
        })
    }

    /// Whether a turn under way ends a replica.
    pub(crate) fn has_ends_under_way(&self) -> bool {
        let ends = |turn: &DiskTurn| matches!(turn, DiskTurn::Unit(unit) if !unit.ends.is_empty());
        self.queue.iter().any(ends)
    }

    /// The spaces that turns under way name: after a crash, the log may.
    pub(crate) fn spaces_under_way(&self) -> impl Iterator<Item = SpaceId> {
        self.queue.iter().flat_map(|turn| match turn {
            DiskTurn::Birth(_, replica) => vec![replica.space],
            DiskTurn::Unit(unit) => unit.writes.iter().filter_map(|write| write.space).collect(),
            DiskTurn::Longest(_) => Vec::new(),
        })
    }

    fn complete(&mut self, count: usize) -> Vec<Done> {
        let turns: Vec<DiskTurn> = self.queue.drain(..count).collect();
        let complete = |turn| match turn {
            DiskTurn::Unit(unit) => self.complete_unit(unit),
            DiskTurn::Longest(longest) => {
                self.longest = self.longest.max(longest);
                Done::Longest(longest)
            }
            DiskTurn::Birth(shard, replica) => {
                let (id, space) = (replica.replica, replica.space);
                let is_dead = self.tombstone(shard).is_some_and(|dead| id <= dead);
                if is_dead || self.replicas.contains_key(&shard) {
                    return Done::BirthRefused(shard, id);
                }
                self.create(shard, *replica);
                Done::Born(shard, id, space)
            }
        };
        turns.into_iter().map(complete).collect()
    }

    fn complete_unit(&mut self, unit: LogUnit) -> Done {
        let mutation = self.mutation;
        let LogUnit { number, purges, writes, ends, clears_damage } = unit;
        let (mut parts, mut skipped, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for ShardPurge { shard, replica, base, membership } in purges {
            match self.living(shard, replica) {
                Some(log) => {
                    log.purge(base, membership);
                    parts.push(Part { shard, replica, write: None, stored: log.stored() });
                }
                None => skipped.push((shard, replica)),
            }
        }
        for ReplicaWrite { shard, replica, write, space } in writes {
            match self.living(shard, replica) {
                Some(log) => {
                    log.apply(&write, space, mutation);
                    let stored = log.stored();
                    parts.push(Part { shard, replica, write: Some(write), stored });
                }
                None => skipped.push((shard, replica)),
            }
        }
        for end in ends {
            if self.living(end.shard, end.replica).is_some() {
                self.end(end.shard);
                ended.push(end);
            }
        }
        if clears_damage {
            self.before_damage = None;
        }
        Done::Unit { number, parts, skipped, ended }
    }

    /// The log of the living replica of a shard, if that has exactly this id.
    fn living(&mut self, shard: ShardId, replica: ReplicaId) -> Option<&mut LogReplica> {
        if self.mutation.is(Mutant::SkippedPartWritten) {
            if let Some(risen) = self.graves.remove(&shard) {
                self.replicas.entry(shard).or_insert(risen);
            }
            return self.replicas.get_mut(&shard);
        }
        self.replicas.get_mut(&shard).filter(|living| living.replica == replica)
    }

    /// Adds a new replica, durably.
    pub(crate) fn create(&mut self, shard: ShardId, replica: LogReplica) {
        let clash = self.replicas.insert(shard, replica);
        assert!(clash.is_none(), "shard {shard} has a replica here already");
    }

    /// Ends the replica of a shard and leaves a tombstone.
    fn end(&mut self, shard: ShardId) {
        let ended = self.replicas.remove(&shard).expect("it lives");
        self.tombstones.insert(shard, ended.replica);
        if self.mutation.is(Mutant::SkippedPartWritten) {
            self.graves.insert(shard, ended);
        }
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

    /// Flips a bit in a log; see [`LogReplica::flip`].
    pub(crate) fn flip(&mut self, shard: ShardId, place: u64) -> bool {
        self.replicas.get_mut(&shard).is_some_and(|replica| replica.flip(place))
    }

    /// Damages the write-ahead log just behind what is durable now: of what follows, a start can
    /// trust nothing, and it can't tell which replicas that concerns (RULES 5 and 9).
    pub(crate) fn damage_wal(&mut self) {
        self.before_damage = Some(self.replicas.clone());
    }

    /// Whether the write-ahead log is damaged.
    pub(crate) fn is_wal_damaged(&self) -> bool {
        self.before_damage.is_some()
    }

    /// Treats damage as the end of a log, against RULE 5: for mutants.
    pub(crate) fn cut_at_damage(&mut self, shard: ShardId) {
        if let Some(replica) = self.replicas.get_mut(&shard) {
            replica.cut_at_damage();
        }
    }

    /// Treats damage of the write-ahead log as its end, against RULES 5 and 9: for a mutant.
    pub(crate) fn cut_wal_at_damage(&mut self) {
        if let Some(before) = self.before_damage.take() {
            self.replicas = before;
        }
    }

    /// Undoes all damage that no read has found, as a scrub against the other copies does.
    pub(crate) fn scrub(&mut self) {
        self.replicas.values_mut().for_each(LogReplica::scrub);
        self.before_damage = None;
    }

    /// Reads durable runs, see [`LogReplica::read`]; `None` if the replica no longer lives here.
    pub(crate) fn read(
        &self,
        (shard, replica): (ShardId, ReplicaId),
        range: &Range<Index>,
        bytes_max: usize,
    ) -> Option<Result<Vec<Run>, Damaged>> {
        let log = self.replicas.get(&shard).filter(|log| log.replica == replica)?;
        Some(log.read(range.start, range.end, bytes_max))
    }
}
