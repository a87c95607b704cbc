//! The messages between nodes about bindings, and a host's notes to its node's liveness.
//!
//! These messages are separate from those of Raft: a kernel knows nothing of node liveness. They
//! travel on the control lane, and any of them may be lost: a leader asks again, the audit finds
//! the rest.

use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::bound_replica::{BindRequest, Binding};
use crate::audit::ChangeNumber;

/// A message about a binding, for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A leader asks a replica to bind.
    BindRequest(BindRequest),
    /// The replica is bound.
    Bound {
        /// The binding.
        binding: Binding,
        /// The number that [`crate::NodeLiveness::handle_note`] gave it.
        change: ChangeNumber,
    },
    /// The sender does not lead `term`, or no longer exists: a replica that is bound to it in that
    /// term is free.
    Release {
        /// The replica that does not lead.
        from: ReplicaId,
        /// The replica that is free.
        to: ReplicaId,
        /// The term.
        term: Term,
    },
    /// A bound replica asks whether its leader still leads.
    Query {
        /// The bound replica.
        from: ReplicaId,
        /// The leader.
        to: ReplicaId,
        /// The term.
        term: Term,
    },
}

/// What happened to a binding in a host: for [`crate::NodeLiveness::handle_note`], in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessNote {
    /// A replica here is bound to a leader at `leader`, which is to be told.
    Bound {
        /// The leader's node.
        leader: NodeId,
        /// The shard.
        shard: ShardId,
        /// The binding.
        binding: Binding,
    },
    /// A replica here is no longer bound there.
    Unbound {
        /// The former leader's node.
        leader: NodeId,
        /// The shard.
        shard: ShardId,
    },
    /// A replica at `peer` is bound to the leader here.
    Recorded {
        /// The bound side.
        peer: NodeId,
        /// The shard.
        shard: ShardId,
        /// As the peer told it.
        binding: Binding,
        /// As the peer told it.
        change: ChangeNumber,
    },
    /// The replica here no longer leads, or no longer knows of a binding at `peer`.
    Forgotten {
        /// The peer.
        peer: NodeId,
        /// The shard.
        shard: ShardId,
    },
}
