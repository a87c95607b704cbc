//! The types that a kernel and its host exchange: what it starts from, and what it wants done.

use std::ops::Range;

use quorate_types::{Index, LogId, NodeId, ReplicaId, Term, WriteNumber};

use crate::membership::Membership;
use crate::message::Message;
use crate::run::Run;

/// The hard state of a replica: it must be on disk before a promise made from it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: Term,
    /// The replica that got this term's vote.
    pub vote: Option<ReplicaId>,
    /// Known to be committed when this was written; it may be too low, never too high. It is never
    /// the only reason for a write.
    pub committed: Index,
}

/// A replica's durable state, as its log hands it back after a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// As last written.
    pub hard_state: HardState,
    /// The entry before the first of the log: the state the replica was made with (RULE 14). Its
    /// index is not 0.
    pub base: LogId,
    /// The membership in force at `base`.
    pub base_membership: Membership,
    /// Where each term begins: `(first index of the term, term)`, ascending, beyond `base`.
    pub terms: Vec<(Index, Term)>,
    /// Membership entries beyond `base`, ascending.
    pub memberships: Vec<(Index, Membership)>,
    /// The last entry, or `base`.
    pub last: LogId,
    /// Applied to the data store and durable there; at least `base.index`, at most `last.index`.
    pub applied: Index,
}

/// A write of one replica, to be made durable as one unit together with other replicas' writes.
/// The parts take effect in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Grows by one per write of this kernel; completions come back in this order (RULE 2).
    pub number: WriteNumber,
    /// The log restarts after a snapshot.
    pub install: Option<Install>,
    /// New hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Forget every entry at this index and beyond, before the runs are written.
    pub truncate_from: Option<Index>,
    /// Contiguous runs to append.
    pub runs: Vec<Run>,
}

/// Entries that are committed and may be applied, in order, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Indexes `[start, end)`; `start` follows the last range handed out.
    pub range: Range<Index>,
    /// Runs that together hold exactly `range`.
    pub runs: Vec<Run>,
}

/// The reader for which entries are read back from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// The state machine: entries left over from before a restart, or evicted from memory.
    Apply,
    /// A follower that lags behind what is held in memory.
    Follower(ReplicaId),
}

/// Asks for runs that are no longer in memory. Answered by
/// [`Kernel::handle_fetched`](crate::Kernel::handle_fetched); one at a time per reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The reader.
    pub reader: Reader,
    /// Indexes `[start, end)`; a head of it is enough, empty only if the range is gone.
    pub range: Range<Index>,
    /// Stop after the run that passes this many bytes.
    pub bytes_max: usize,
}

/// A follower needs entries that this leader's log no longer holds. The host sends it a snapshot
/// and answers once, by [`Kernel::handle_snapshot_report`](crate::Kernel::handle_snapshot_report).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The follower.
    pub to: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// The state must hold at least this entry: the log continues after it.
    pub at_least: Index,
}

/// The outcome of a snapshot that a [`SnapshotRequest`] asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// The follower says that it holds the state through this entry.
    Installed(LogId),
    /// The snapshot did not arrive.
    Failed,
}

/// The log restarts after a snapshot. Takes effect in one synced batch with the rest of its
/// [`Write`], before the other parts (RULE 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The entry before the first of the log from now on.
    pub base: LogId,
    /// The membership in force there.
    pub membership: Membership,
    /// The log held `base`: its runs beyond stay. Otherwise every run is dropped.
    pub keeps_log: bool,
}

/// The outcome of a read that [`Kernel::read`](crate::Kernel::read) began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// As given by `read`.
    pub context: u64,
    /// `Some`: linearizable once this index is applied here. `None`: leadership changed or could
    /// not be confirmed; nothing was read, ask again.
    pub index: Option<Index>,
}

/// The role of a replica in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether it would win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
}

/// Role, term and leader, reported whenever one of them changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleState {
    /// Own role.
    pub role: Role,
    /// Current term.
    pub term: Term,
    /// The leader of `term`, if known.
    pub leader: Option<(ReplicaId, NodeId)>,
    /// True on a leader whose own-term entry is committed: it can confirm reads.
    pub serving: bool,
}

/// The proof that this replica's log has lost entries that it had acknowledged: it was rolled back,
/// and takes no part in its group any more (RULE 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entries through {acknowledged} were acknowledged to the leader of term {term}, and are not in \
     this log, which ends at {last}"
)]
pub struct Loss {
    /// The term.
    pub term: Term,
    /// The leader has an acknowledgement of this replica through here.
    pub acknowledged: Index,
    /// Where the log ends.
    pub last: LogId,
}

/// Everything a kernel wants done since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Messages that may leave at once, beside the disk write, each with its receiver's node.
    pub send_now: Vec<(NodeId, Message)>,
    /// To be made durable.
    pub write: Option<Write>,
    /// Messages that leave once the newest write so far, this one included, is durable (RULE 2),
    /// even if this `Ready` has no write.
    pub send_after_sync: Vec<(NodeId, Message)>,
    /// To be applied.
    pub committed: Option<Committed>,
    /// Reads that ended.
    pub reads: Vec<ReadOutcome>,
    /// To be read back from the log.
    pub fetches: Vec<Fetch>,
    /// Followers that need a snapshot.
    pub snapshots: Vec<SnapshotRequest>,
    /// The new role, if it changed.
    pub role: Option<RoleState>,
    /// This replica's service has ended; told once. There is nothing to send or to write any more,
    /// and what waits for a sync must not leave.
    pub loss: Option<Loss>,
}

impl Ready {
    /// True if nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.send_now.is_empty()
            && self.write.is_none()
            && self.send_after_sync.is_empty()
            && self.committed.is_none()
            && self.reads.is_empty()
            && self.fetches.is_empty()
            && self.snapshots.is_empty()
            && self.role.is_none()
            && self.loss.is_none()
    }
}
