//! Why the kernel refused something. Whatever is refused here did not happen.

use quorate_types::{NodeId, ReplicaId};

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
pub enum ReadError {
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
