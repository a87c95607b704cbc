//! What workers and apply threads tell the threads that send and receive snapshots, and hear from
//! them.

use bytes::Bytes;
use quorate_host::ShardSnapshot;
use quorate_machine::AppliedRecord;
use quorate_types::{NodeId, ReplicaId, ShardId, SpaceId, Term};

/// A snapshot that has arrived whole: its data is durable, in a space that no replica has yet.
#[derive(Clone, Debug)]
pub(crate) struct ArrivedSnapshot {
    pub(crate) shard: ShardId,
    /// The replica that it was sent to.
    pub(crate) to: ReplicaId,
    /// The leader that sent it, and that leader's term.
    pub(crate) from: ReplicaId,
    pub(crate) term: Term,
    pub(crate) record: AppliedRecord,
    pub(crate) space: SpaceId,
}

/// For the thread that sends snapshots.
#[derive(Debug)]
pub(crate) enum SendTask {
    /// A follower needs a snapshot.
    Begin { worker: usize, wanted: ShardSnapshot },
    /// This replica leads no more: its snapshots are of no use.
    StepDown(ShardId),
    /// A receiver's answer.
    Answer { from: NodeId, part: Bytes },
    /// There is a new connection to this node.
    Connected(NodeId),
}

/// For the thread that receives snapshots.
#[derive(Debug)]
pub(crate) enum ReceiveTask {
    /// A part of a snapshot.
    Part { from: NodeId, part: Bytes },
    /// A snapshot is in force; the space before it is free.
    Installed { shard: ShardId, to: ReplicaId, former: SpaceId },
    /// A snapshot is not wanted; its space is free.
    Refused { shard: ShardId, to: ReplicaId, why: String },
    /// The replica was given up.
    Ended { shard: ShardId, to: ReplicaId },
}
