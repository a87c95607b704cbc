//! The messages between replicas of one group.

use quorate_types::{Index, LogId, ReplicaId, Term};

use crate::run::Run;

/// One message. It names the replica ids of both ends (RULE 3): a receiver drops what is meant for
/// another admission of its node, and a sender's old acknowledgement can't count for its successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: ReplicaId,
    /// The replica it is meant for.
    pub to: ReplicaId,
    /// The sender's term; of a pre-vote request, the term it would campaign in.
    pub term: Term,
    /// The content.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Asks for a vote (Raft paper 5.2) or, with `pre`, whether one would be given (thesis 9.6).
    VoteRequest {
        /// A pre-vote: nobody's term changes.
        pre: bool,
        /// The candidate's last entry.
        last: LogId,
        /// Set by a candidate that was told to campaign: voters that follow exactly this leader in
        /// exactly this term grant although it is alive (RULE 6).
        transfer: Option<TransferOf>,
    },
    /// Answers a vote request. A grant of a pre-vote carries the term asked for, every other
    /// answer the voter's own.
    VoteReply {
        /// Answers a pre-vote.
        pre: bool,
        /// The vote was given.
        granted: bool,
        /// The voter hears a live leader: the asker backs off.
        leader_alive: bool,
    },
    /// Replicates runs that follow `previous` (Raft paper 5.3). Without runs it is a probe.
    Append {
        /// The entry just before the first run.
        previous: LogId,
        /// Contiguous, in order.
        runs: Vec<Run>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The follower's log matches the leader's through `matched`, and is durable that far.
    Accepted {
        /// Highest index matched and durable.
        matched: Index,
    },
    /// The follower has no entry `previous`.
    Rejected {
        /// The `previous` of the refused append: pairs the answer with its question.
        previous: LogId,
        /// The follower's entry with the highest term at most `previous.term` and highest index at
        /// most `previous.index`: at most one round per divergent term.
        hint: LogId,
    },
    /// Keeps followers from campaigning, pushes the commit index, asks for a confirmation.
    Heartbeat {
        /// The leader's commit index, at most what this follower is known to match.
        commit: Index,
        /// The newest round of read confirmation; 0 if none was asked for.
        round: u64,
    },
    /// Answers a heartbeat in the same term.
    HeartbeatReply {
        /// The round of the heartbeat answered.
        round: u64,
    },
    /// Asks the leader for an index at which a read is linearizable (thesis 6.4).
    ReadIndex {
        /// The asker's own context, never reused, even after a restart.
        context: u64,
    },
    /// Answers [`Body::ReadIndex`].
    ReadIndexReply {
        /// The context of the question.
        context: u64,
        /// The read may run once this is applied. `None`: the replica asked does not lead, or can't
        /// confirm.
        index: Option<Index>,
    },
    /// Tells a caught-up follower to campaign at once (thesis 3.10).
    TimeoutNow,
}

/// The leader that asked for a transfer, and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOf {
    /// The leader that sent TimeoutNow.
    pub leader: ReplicaId,
    /// Its term.
    pub term: Term,
}
