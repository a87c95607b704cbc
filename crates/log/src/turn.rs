//! What a worker's turn changes in the logs: the elements of the one ordered stream of changes.

use quorate_raft::{Membership, Run, Write};
use quorate_types::{LogId, ReplicaId, ShardId, SpaceId};

/// Bytes of a record in a batch, with its key: most have fewer.
const RECORD_BYTES: usize = 128;
/// Bytes that a batch needs per run beside the run: its key, and the batch's own framing.
const RUN_OVERHEAD_BYTES: usize = crate::keys::RUN_KEY_BYTES + 16;

/// One worker's turn: everything that it changes in the logs, as one unit of one ordered stream.
///
/// A part whose replica is no longer, or not yet, the living one of its shard is skipped: the end
/// of a replica may overtake what is still queued for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnWrite {
    /// The worker to notify.
    pub worker: usize,
    /// The worker's number of this turn's write, given back once it is durable; `None` if nobody
    /// waits for it.
    pub number: Option<u64>,
    /// These take effect first.
    pub purges: Vec<ShardPurge>,
    /// Then these, in their order.
    pub writes: Vec<ShardWrite>,
    /// Then these.
    pub ends: Vec<ReplicaEnd>,
}

/// One replica's write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardWrite {
    /// The shard whose log is written.
    pub shard: ShardId,
    /// The replica whose kernel requested the write.
    pub replica: ReplicaId,
    /// What it requested. Becomes durable whole or not at all.
    pub write: Write,
    /// The fresh space of the state that `write.install` names; set if and only if it installs.
    pub space: Option<SpaceId>,
}

/// A new base of one replica's log: the runs that lie entirely at or below it are deleted. The
/// caller has made the state at `base` durable (RULE 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPurge {
    /// The shard whose log is purged.
    pub shard: ShardId,
    /// The replica whose kernel gave the entries up.
    pub replica: ReplicaId,
    /// The entry before the log's first from now on. An older one than the present is no news.
    pub base: LogId,
    /// The membership in force there.
    pub base_membership: Membership,
}

/// From now on this replica never speaks again. It may be living, or found damaged by the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEnd {
    /// Its group.
    pub shard: ShardId,
    /// Its admission to the group.
    pub replica: ReplicaId,
    /// Decides what stays of it.
    pub why: EndReason,
}

/// Why a replica ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// There is proof that its group continues without it (RULES 3 and 15). Its runs go; its id
    /// stays as a tombstone.
    Removed,
    /// It may have lost what it promised (RULE 5); the text says what was found. Its runs stay as
    /// evidence, and no start trusts it again. Of several reasons the first one stays.
    Damaged(String),
}

impl TurnWrite {
    /// About how many bytes it adds to a batch, never fewer by much.
    pub(crate) fn batch_bytes(&self) -> usize {
        let run_bytes = |run: &Run| run.len_bytes() + RUN_OVERHEAD_BYTES;
        let runs = self.writes.iter().flat_map(|item| &item.write.runs);
        let records = self.purges.len() + self.writes.len() + self.ends.len();
        runs.map(run_bytes).sum::<usize>() + records * RECORD_BYTES
    }
}
