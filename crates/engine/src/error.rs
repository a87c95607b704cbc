//! The errors that a caller gets. "Did not happen" and "outcome unknown" are different types: the
//! first is always safe to retry, the second only if the caller knows that repeating the operation
//! is safe.

use std::path::PathBuf;
use std::time::Duration;

use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId};
use serde::{Deserialize, Serialize};

/// Why a write did not happen, or may not have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The write did not happen and never will; trying again is safe.
    #[error("not written: {0}")]
    DidNotHappen(Refusal),
    /// The write may or may not take effect, now or later. The engine never retries it.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(Indeterminate),
}

/// Why an increment failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IncrementError {
    /// The errors of any write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The stored value is not a 64-bit decimal integer. Nothing was changed.
    #[error("the value is not a 64-bit integer")]
    NotAnInteger,
    /// Adding would overflow. Nothing was changed.
    #[error("the sum would overflow a 64-bit integer")]
    WouldOverflow,
}

/// Why a read gave no answer. Reads change nothing, so trying again is always safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not read: {0}")]
pub struct ReadError(
    /// The reason and the retry advice.
    #[from]
    pub Refusal,
);

/// A definite refusal, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request itself is wrong; retrying it unchanged can't help.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No leader is known for the shard and none appeared in time. Retry after `wait`.
    #[error("shard {shard} has no leader that can be reached (last known: {leader:?})")]
    NoLeader {
        /// The shard.
        shard: ShardId,
        /// The last leader heard of.
        leader: Option<NodeId>,
        /// How long to wait before the next try.
        wait: Duration,
    },
    /// The node that was tried last can't be reached, neither directly nor through another node.
    /// Retry after `wait`, or ask another node.
    #[error("node {node}, the one to ask for shard {shard}, can't be reached; ask another node")]
    Unreachable {
        /// The shard.
        shard: ShardId,
        /// The leader, as far as this node knows, or a member if it knows no leader.
        node: NodeId,
        /// How long to wait before the next try.
        wait: Duration,
    },
    /// The shard's range changed during the request; the router has learnt the new range. Retry
    /// now.
    #[error(
        "shard {} is at descriptor version {}, the request was routed by {routed}",
        current.shard, current.epoch.version
    )]
    StaleRoute {
        /// Version the request was routed by.
        routed: u64,
        /// The shard as it is now.
        current: Box<ShardDescriptor>,
    },
    /// No replica of the shard lives on this node; ask one of `nodes`. Only for requests that need
    /// a local replica: watches, committed entries and transfers of leadership.
    #[error("shard {shard} has no replica on this node; ask one of {nodes:?}")]
    NotHere {
        /// The shard.
        shard: ShardId,
        /// Where its replicas are, as far as this node knows.
        nodes: Vec<NodeId>,
    },
    /// No shard owns the key.
    #[error("no shard owns this key")]
    NoShard,
    /// Leadership can't be given to a node that has no voter of the shard, or to the leader itself.
    #[error("node {node} has no other voter of shard {shard}, so it can't lead it")]
    NotAVoter {
        /// The shard.
        shard: ShardId,
        /// The node that was to lead.
        node: NodeId,
    },
    /// Some replica's version of the state machine does not know the command, and every replica has
    /// refused it. Upgrade all nodes, then try again.
    #[error("the command is not known to every node's version; upgrade all nodes, then try again")]
    UnknownCommand,
    /// The disk of the leader's node is below its floor, and no replica on a node with more room could
    /// take over; or so many other nodes are below half of theirs that no majority would store the write.
    /// Reads are served. Writes are taken again as soon as some space is free.
    #[error(
        "node {node}, which holds shard {shard}, takes no writes: its disk has {low}; free some there, \
         then try again"
    )]
    DiskLow {
        /// The shard.
        shard: ShardId,
        /// The leader's node, or one of the others.
        node: NodeId,
        /// How much room it has.
        low: DiskLow,
    },
    /// A queue is full. Retry after `wait`.
    #[error("{what} is full; wait {wait:?}")]
    Busy {
        /// Which queue.
        what: &'static str,
        /// How long to wait before the next try.
        wait: Duration,
    },
    /// The answer of a replica on another node can't be sent or read. Retrying does not help;
    /// asking a node that has a replica does.
    #[error("the answer of shard {shard} can't be carried from its node; ask a node that has it")]
    Unreadable {
        /// The shard.
        shard: ShardId,
    },
    /// The engine is shutting down, or has met a fatal error.
    #[error("the engine is stopped: {0}")]
    Stopped(String),
}

/// A disk that is below its floor, so that its node takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{} MiB left, and needs {} MiB", free_bytes >> 20, needed_bytes.div_ceil(1 << 20))]
pub struct DiskLow {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// As many must be free until writes are taken again.
    pub needed_bytes: u64,
}

/// A request that is invalid in any state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Key longer than `limits::KEY_BYTES_MAX`.
    #[error("key of {found} bytes; at most {max} are allowed")]
    KeyTooLong {
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Value longer than `limits::VALUE_BYTES_MAX`.
    #[error("value of {found} bytes; at most {max} are allowed")]
    ValueTooLong {
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Command, keys and values together, longer than `limits::COMMAND_BYTES_MAX`.
    #[error("command of {found} bytes in all; at most {max} are allowed")]
    CommandTooLong {
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The keys of a batch belong to different shards.
    #[error("the keys of one batch must belong to one shard; found {first} and {other}")]
    CrossShard {
        /// Shard of the first key.
        first: ShardId,
        /// Shard of another key.
        other: ShardId,
    },
    /// The answer would be longer than `limits::READ_BYTES_MAX`.
    #[error("answer of at least {found} bytes; at most {max} are allowed, read it in pages")]
    AnswerTooLong {
        /// The bytes that were counted so far.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A range whose end is not after its start.
    #[error("the range is empty: its end is not after its start")]
    EmptyRange,
}

/// Why the outcome of a write is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Indeterminate {
    /// The deadline passed after the command had entered a log or left for another node.
    #[error("no answer within {after:?}")]
    Deadline {
        /// Time spent.
        after: Duration,
    },
    /// The connection to the node that worked on the command broke.
    #[error("the connection to node {node} broke before its answer came")]
    ConnectionLost {
        /// The node.
        node: NodeId,
    },
    /// Leadership of the shard changed while the command was under way.
    #[error("shard {shard} changed its leader while the command was under way")]
    LeaderChanged {
        /// The shard.
        shard: ShardId,
    },
    /// The engine stopped while the command was under way.
    #[error("the engine stopped while the command was under way")]
    Stopped,
    /// The command was applied, but its reply is larger than nodes can send each other. A caller on
    /// the leader's node would have got it.
    #[error(
        "the command was applied, and its reply of {found} bytes is too large to be sent by another \
         node; at most {max} are"
    )]
    ReplyTooLarge {
        /// Its length.
        found: u64,
        /// The bound of a whole frame.
        max: usize,
    },
    /// The command was applied, but its reply is not the built-in state machine's.
    #[error("the command was applied, and its reply can't be read: {reply}")]
    UnreadableReply {
        /// What was found.
        reply: String,
    },
}

/// Why an engine did not open: every fault found, not only the first.
#[derive(Debug, thiserror::Error)]
#[error("can't open {}: {}", dir.display(), join(faults))]
pub struct OpenError {
    /// The directory.
    pub dir: PathBuf,
    /// At least one.
    pub faults: Vec<OpenFault>,
}

fn join(faults: &[OpenFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One reason why an engine did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFault {
    /// A setting is missing or invalid.
    #[error("setting `{setting}`: {what}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The log store refused to open.
    #[error(transparent)]
    Log(#[from] quorate_log::LogOpenError),
    /// The log store failed while it was opened.
    #[error(transparent)]
    LogWrite(#[from] quorate_log::LogFault),
    /// The bootstrap's replicas could not be made.
    #[error(transparent)]
    Create(#[from] quorate_log::CreateError),
    /// A replica must not speak again: its log or data is damaged or has been rolled back (RULE 5).
    #[error(
        "shard {shard}: {what}. Move this directory away and let the node join as a new one; the \
         other nodes hold what it acknowledged"
    )]
    Replica {
        /// The shard.
        shard: ShardId,
        /// What was found.
        what: String,
    },
    /// Log and data store do not belong together (RULE 17). Nothing was changed.
    #[error("the two stores of this directory do not belong together: {what}")]
    Stores {
        /// What was found where, and what to do.
        what: String,
    },
    /// This directory was shown to have forgotten what it promised: it must never speak again
    /// (RULES 5 and 17).
    #[error(
        "this directory must not be started again: {reason}. Move it away, and give the machine a \
         node id that was never used, with a certificate of its own"
    )]
    Ended {
        /// The reason, as it was noted then.
        reason: String,
    },
    /// The disk has no room for a start. Nothing was changed.
    #[error(
        "its disk has {free_mebibytes} MiB left, and a start needs {needed_mebibytes} MiB to write what \
         it replays: free some, then start it again; nothing was changed"
    )]
    DiskFull {
        /// The free space.
        free_mebibytes: u64,
        /// The free space that a start needs.
        needed_mebibytes: u64,
    },
    /// Tables of the data store are damaged, and the disk has no room for what can be read of them.
    #[error(
        "tables in {} are damaged, and writing what can be read into new ones takes \
         {needed_mebibytes} MiB, of which its disk has {free_mebibytes}: free some, then start it again",
        directory.display()
    )]
    NoRoomToRewrite {
        /// The data store's directory.
        directory: PathBuf,
        /// The free space.
        free_mebibytes: u64,
        /// The free space that it takes.
        needed_mebibytes: u64,
    },
    /// The data store refused to open, or failed.
    #[error("data store: {0}")]
    Data(String),
    /// The port or the certificates were refused.
    #[error("transport: {0}")]
    Transport(String),
    /// A thread or a directory could not be made.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// The operating system's answer.
        cause: std::io::Error,
    },
}

/// The first failure that ended an engine's service (RULE 8). It is permanent: open the engine
/// again, unless [`FatalError::forfeits_identity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FatalError {
    /// A write or sync of the log failed.
    #[error("log: {0}")]
    Log(String),
    /// A write of the data store failed.
    #[error("data store: {0}")]
    Data(String),
    /// The cluster does not accept this directory as the node whose id it has (RULE 5).
    #[error("the cluster refuses this node: {0}. Nothing of the other nodes is harmed")]
    Identity(String),
    /// A leader has shown that this directory lost what it had acknowledged: an older copy of it
    /// was put back. Every later start on it is refused (RULES 5 and 17).
    #[error(
        "an older copy of this directory was put back: of shard {shard}, {loss}. Move it away, and give \
         the machine a node id that was never used, with a certificate of its own; the other nodes hold \
         what it acknowledged"
    )]
    RolledBack {
        /// The shard that shows it.
        shard: ShardId,
        /// The proof.
        loss: quorate_raft::Loss,
    },
    /// A thread of the engine met a broken invariant.
    #[error("thread `{thread}` panicked: {message}")]
    Panic {
        /// Its name.
        thread: String,
        /// The panic's message.
        message: String,
    },
    /// A task of the engine or of its connections has died: without it the node would look alive and
    /// do half of its work.
    #[error("task `{task}` died: {reason}; report it if it is a panic, and start the node again")]
    Task {
        /// Its name.
        task: String,
        /// The panic's message, or what else ended it.
        reason: String,
    },
}

impl FatalError {
    /// True if this directory must not serve under its node's id again: another process may rightly
    /// have that id, and needs its ports.
    #[must_use]
    pub fn forfeits_identity(&self) -> bool {
        match self {
            FatalError::Identity(_) | FatalError::RolledBack { .. } => true,
            FatalError::Log(_)
            | FatalError::Data(_)
            | FatalError::Panic { .. }
            | FatalError::Task { .. } => false,
        }
    }
}
