//! What workers and apply threads tell the threads that send and receive snapshots, and hear from
//! them.

use std::fmt;

use bytes::Bytes;
use quorate_host::ShardSnapshot;
use quorate_machine::{AppliedRecord, StateMachine, StoreFault, StoreSnapshot};
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

/// What a state machine's own store holds at `record`.
pub(crate) struct OwnSnapshot {
    pub(crate) record: AppliedRecord,
    pub(crate) snapshot: Box<dyn StoreSnapshot>,
}

impl fmt::Debug for OwnSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSnapshot").field("record", &self.record).finish_non_exhaustive()
    }
}

/// A snapshot that is the state of the log, and the machine that puts it into its own store.
pub(crate) struct OwnInstall {
    pub(crate) arrived: Box<ArrivedSnapshot>,
    pub(crate) machine: Box<dyn StateMachine>,
}

impl fmt::Debug for OwnInstall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnInstall").field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

/// For the thread that sends snapshots.
#[derive(Debug)]
pub(crate) enum SendTask {
    /// A follower needs a snapshot.
    Begin { worker: usize, wanted: ShardSnapshot },
    /// This replica leads no more: its snapshots are of no use.
    StepDown(ShardId),
    /// The state of an own store that was asked for, or why there is none now.
    Viewed { shard: ShardId, to: ReplicaId, viewed: Result<OwnSnapshot, StoreFault> },
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
    /// A snapshot is to be put into the own store of its machine, which comes back after it.
    InstallOwn(Box<OwnInstall>),
    /// A snapshot is in force; the space before it is free.
    Installed { shard: ShardId, to: ReplicaId, former: SpaceId },
    /// A snapshot is not wanted; its space is free.
    Refused { shard: ShardId, to: ReplicaId, why: String },
    /// The replica was given up.
    Ended { shard: ShardId, to: ReplicaId },
}
