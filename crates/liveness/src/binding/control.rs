//! The messages between nodes about bindings, and a host's notes to its node's liveness.
//!
//! These messages are apart from those of Raft: a kernel has never heard of nodes. They travel on
//! the control lane, and any of them may be lost: a leader asks again, the audit finds the rest.

use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::bound_replica::{BindRequest, Binding};
use crate::audit::ChangeNumber;

/// A message about a binding, for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A leader asks a replica to bind.
    BindRequest(BindRequest),
    /// It is bound.
    Bound {
        /// To what.
        binding: Binding,
        /// As [`crate::NodeLiveness::handle_note`] numbered it.
        change: ChangeNumber,
    },
    /// The sender does not lead `term`, or there is no such replica any more: whoever is bound to it
    /// there is free.
    Release {
        /// Who does not lead.
        from: ReplicaId,
        /// Who is free.
        to: ReplicaId,
        /// In this term.
        term: Term,
    },
    /// A bound replica asks whether its leader still leads.
    Query {
        /// Who asks.
        from: ReplicaId,
        /// The leader.
        to: ReplicaId,
        /// In this term.
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
    /// It is bound there no more.
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
        /// As it told.
        binding: Binding,
        /// As it told.
        change: ChangeNumber,
    },
    /// The replica here leads no more, or knows of no binding at `peer` any more.
    Forgotten {
        /// The peer.
        peer: NodeId,
        /// The shard.
        shard: ShardId,
    },
}
