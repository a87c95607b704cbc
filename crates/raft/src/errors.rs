//! The errors of the kernel. A refused request did not happen.

use quorate_types::{Index, LogId, NodeId, ReplicaId, Term};

use crate::membership::Membership;

/// Why a proposal did not enter the log. In every case it did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This replica does not lead.
    #[error("not the leader; it is {leader:?}")]
    NotLeader {
        /// The leader, if known.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being transferred to {to:?}")]
    Transferring {
        /// The next leader.
        to: ReplicaId,
    },
    /// Too many bytes are proposed and not committed.
    #[error("{pending_bytes} bytes wait to be committed, the bound is {bytes_max}")]
    Full {
        /// Bytes waiting.
        pending_bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

/// Why a read could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Too many reads wait.
    #[error("{pending} reads wait to be confirmed, which is the bound")]
    Full {
        /// Reads waiting.
        pending: usize,
    },
}

/// Why a transfer of leadership could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This replica does not lead.
    #[error("not the leader; it is {leader:?}")]
    NotLeader {
        /// The leader, if known.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// The target is no voter, or is this replica.
    #[error("{to:?} is not another voter of this group")]
    NotAVoter {
        /// The target.
        to: ReplicaId,
    },
    /// Another transfer is under way.
    #[error("leadership is already being transferred to {to:?}")]
    Transferring {
        /// Its target.
        to: ReplicaId,
    },
}

/// Why a change of the membership could not begin. In every case nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This replica does not lead.
    #[error("not the leader; it is {leader:?}")]
    NotLeader {
        /// The leader, if known.
        leader: Option<(ReplicaId, NodeId)>,
    },
    /// Leadership is being handed over: ask the next leader.
    #[error("leadership is being transferred to {to:?}")]
    Transferring {
        /// The next leader.
        to: ReplicaId,
    },
    /// The leader is new and has committed nothing of its term: ask again in a moment.
    #[error("the leader has not committed an entry of its term yet")]
    NotServing,
    /// Another change is under way: wait until it is committed, and out of joint consensus.
    #[error("the change at {at:?} is not complete")]
    InFlight {
        /// Where its newest entry is.
        at: Index,
    },
    /// The membership is not the one that the caller expected: read it, and decide again.
    #[error("the membership in force is {in_force:?}")]
    Stale {
        /// The membership in force.
        in_force: Membership,
    },
    /// The target is in force already.
    #[error("the target is in force already")]
    Unchanged,
    /// No group may have the target as its membership.
    #[error("the target is no membership: {what}")]
    Unsound {
        /// What does not fit.
        what: &'static str,
    },
    /// A new member's replica id is not above every id that the group is known to have had (RULE
    /// 3): ask for a fresh id.
    #[error("{replica:?} was or may have been given out before; {newest:?} is the newest known")]
    Reused {
        /// The id.
        replica: ReplicaId,
        /// The highest id that the log knows of.
        newest: ReplicaId,
    },
    /// A new voter has to be a learner first: it would vote without a log, and hold up commits.
    #[error("{replica:?} is no learner yet")]
    NotALearner {
        /// The replica.
        replica: ReplicaId,
    },
    /// The learner does not answer, or the end of its log is not known yet.
    #[error("{replica:?} does not answer")]
    Silent {
        /// The learner.
        replica: ReplicaId,
    },
    /// Too few voters of the target answer and have caught up: it would stop the group.
    #[error("{ready} voters of the target answer and have caught up, {needed} are needed")]
    NoQuorum {
        /// The number of those voters.
        ready: usize,
        /// A majority of the target's voters.
        needed: usize,
    },
    /// The learner lags: wait until it has caught up.
    #[error("{replica:?} lacks {entries} entries, {entries_max} may be lacking")]
    Behind {
        /// The learner.
        replica: ReplicaId,
        /// Entries of the leader's log that it has not acknowledged.
        entries: u64,
        /// The bound.
        entries_max: u64,
    },
}

/// Why a snapshot can't be installed. The kernel is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// What it holds is committed here already: forget the snapshot.
    #[error("{base} is not beyond the commit index {commit:?}")]
    Obsolete {
        /// The last entry that the snapshot holds.
        base: LogId,
        /// The commit index here.
        commit: Index,
    },
    /// The replica that it was meant for is not here any more.
    #[error("the replica it was meant for is not here any more")]
    NoReplica,
    /// Another leader was elected since it was sent: forget the snapshot.
    #[error("it was sent in {sent_in:?}, and it is {term:?} now")]
    Superseded {
        /// The sender's term.
        sent_in: Term,
        /// The term here.
        term: Term,
    },
    /// This replica leads, so its log lacks nothing.
    #[error("a leader installs no snapshot")]
    Leading,
    /// The membership that came with it is not valid.
    #[error("the snapshot's membership is none: {what}")]
    Unsound {
        /// What does not fit.
        what: &'static str,
    },
}
