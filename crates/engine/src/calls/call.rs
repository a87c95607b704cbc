//! Calls on their way to a shard, and their possible outcomes.

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_router::ShardDescriptor;
use quorate_types::{Index, LogId, NodeId, ShardId};
use tokio::sync::oneshot;

use crate::calls::progress::ProgressSink;
use crate::error::DiskLow;

/// What a call asks of its shard.
#[derive(Debug)]
pub(crate) enum CallKind {
    /// Replicate this command.
    Write(Bytes),
    /// Return the index from which on a read here is linearizable.
    Read,
    /// Transfer leadership to the replica on this node.
    TransferLeader(NodeId),
}

/// A request for one shard that lives here.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) shard: ShardId,
    pub(crate) descriptor_version: u64,
    pub(crate) kind: CallKind,
    pub(crate) completion: Completion,
}

impl Call {
    /// The memory that the call holds while it waits.
    pub(crate) fn len_bytes(&self) -> usize {
        match &self.kind {
            CallKind::Write(command) => command.len(),
            CallKind::Read | CallKind::TransferLeader(_) => 0,
        }
    }
}

/// Where a call's outcome goes.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A caller in this process. One that stopped waiting is not an error.
    Local(oneshot::Sender<Outcome>),
    /// As `Local`; the stages before the outcome go to `progress`.
    Submitted { end: oneshot::Sender<Outcome>, progress: ProgressSink },
    /// A caller on another node, by the number of its forwarded request.
    Remote {
        peer: NodeId,
        id: u64,
        /// Whether the caller wants the stages before the outcome.
        progress: bool,
    },
}

impl Completion {
    /// Whether the stages before the outcome are to be reported.
    pub(crate) fn wants_progress(&self) -> bool {
        match self {
            Completion::Local(_) => false,
            Completion::Submitted { .. } => true,
            Completion::Remote { progress, .. } => *progress,
        }
    }
}

/// The result of a write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The place of its entry in its shard's log.
    pub id: LogId,
    /// The state machine's reply.
    pub reply: Bytes,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A write was applied: where, and with which reply of the state machine.
    Applied(Applied),
    /// The response of a read, or a node's status.
    Reply(Bytes),
    /// A read is linearizable here: this index is applied.
    ReadAt(Index),
    /// The transfer has begun.
    TransferBegun,
    /// It did not happen.
    Refused(HostRefusal),
    /// It did not happen: the request was routed by another version of the shard's descriptor than
    /// this one, which is in force.
    Stale(Box<ShardDescriptor>),
    /// It did not happen: its place in the log was committed with another entry, or a read could
    /// not be confirmed.
    LeaderChanged {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// It did not happen: there is no connection to `node`, nor to another that would relay the call.
    Unreachable {
        /// The node that the call was for.
        node: NodeId,
    },
    /// It did not happen: the disk of the node that leads the shard is below its floor.
    DiskLow {
        /// The leader's node.
        node: NodeId,
        /// How much room it has.
        low: DiskLow,
        /// Whether it hands the leadership to a node that has room, which will take the call.
        is_relieved: bool,
    },
    /// It did not happen: the state machine's version does not know the command.
    Malformed,
    /// It did not happen: the node that was asked is stopping.
    Stopping,
    /// It was done, but no frame can carry the reply.
    ReplyTooLarge {
        /// How long it is.
        bytes: u64,
    },
    /// The outcome is unknown: leadership changed while the call was under way.
    UnknownLeaderChanged,
    /// The outcome is unknown: the engine that worked on the call stopped.
    UnknownStopped,
    /// The outcome is unknown: the connection to the node that worked on the call broke.
    UnknownConnectionLost {
        /// The node.
        node: NodeId,
    },
}
