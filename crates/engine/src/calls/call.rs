//! Calls on their way to a shard, and the ends they can come to.

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_router::ShardDescriptor;
use quorate_types::{Index, LogId, NodeId, ShardId};
use tokio::sync::oneshot;

use crate::calls::progress::ProgressSink;

/// What a call wants of its shard.
#[derive(Debug)]
pub(crate) enum CallKind {
    /// Replicate this command.
    Write(Bytes),
    /// Say from which index on a read here is linearizable.
    Read,
    /// Hand leadership to the replica on this node.
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
    /// Memory that the call holds while it waits.
    pub(crate) fn len_bytes(&self) -> usize {
        match &self.kind {
            CallKind::Write(command) => command.len(),
            CallKind::Read | CallKind::TransferLeader(_) => 0,
        }
    }
}

/// Where a call's end goes.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A caller in this process. One that stopped waiting is not an error.
    Local(oneshot::Sender<Outcome>),
    /// As `Local`, and the stages before the end go to `progress`.
    Submitted { end: oneshot::Sender<Outcome>, progress: ProgressSink },
    /// A caller on another node, by the number of its forwarded request.
    Remote {
        peer: NodeId,
        id: u64,
        /// Whether it wants to hear of the stages before the end.
        progress: bool,
    },
}

impl Completion {
    /// Whether the stages before the end are to be told.
    pub(crate) fn wants_progress(&self) -> bool {
        match self {
            Completion::Local(_) => false,
            Completion::Submitted { .. } => true,
            Completion::Remote { progress, .. } => *progress,
        }
    }
}

/// The end of a write that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The place of its entry in its shard's log.
    pub id: LogId,
    /// The state machine's reply.
    pub reply: Bytes,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A write was applied: where, and the state machine's reply.
    Applied(Applied),
    /// The response of a read, or a node's word about itself.
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
    /// It did not happen: this node has no connection to `node`, nor to another that would send it on.
    Unreachable {
        /// Whom it was for.
        node: NodeId,
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
    /// Nobody knows: leadership changed while it was under way.
    UnknownLeaderChanged,
    /// Nobody knows: the engine that worked on it stopped.
    UnknownStopped,
    /// Nobody knows: the connection to the node that worked on it broke.
    UnknownConnectionLost {
        /// The node.
        node: NodeId,
    },
}
