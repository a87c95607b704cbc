//! The events that a host takes in, and the turn that it gives out.

use std::ops::Range;

use bytes::Bytes;
use quorate_liveness::{Control, LivenessNote, StandingChange, SupportHeld};
use quorate_machine::SessionStamp;
use quorate_raft::{
    ChangeError, Committed, InstallError, Loss, Membership, Message, Reader, RoleState, Run,
    SnapshotOutcome, Write,
};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

/// Names a waiting caller. The driver chooses it, and the host does not interpret it. It is
/// answered exactly once: by an [`Answer`], or by the reply to the applied entry that [`Apply`]
/// lists it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An input of a host: a message, a request, or the completion of some work.
#[derive(Debug)]
pub enum Event {
    /// A peer's message for a replica here.
    Message {
        /// The node it came from, proven by its connection.
        from: NodeId,
        /// The shard.
        shard: ShardId,
        /// The message; already validated.
        message: Message,
    },
    /// A caller wants a command replicated.
    Write {
        /// The shard it was routed to.
        shard: ShardId,
        /// The waiting caller.
        ticket: Ticket,
        /// Version of the descriptor it was routed by.
        descriptor_version: u64,
        /// Set for exactly-once commands.
        session: Option<SessionStamp>,
        /// The command, for the state machine.
        command: Bytes,
        /// Whether [`Turn::accepted`] is to name its place in the log.
        progress: bool,
    },
    /// A caller wants to read.
    Read {
        /// The shard it was routed to.
        shard: ShardId,
        /// The waiting caller.
        ticket: Ticket,
        /// Version of the descriptor it was routed by.
        descriptor_version: u64,
    },
    /// Every turn's write up to and with this number is durable.
    Persisted {
        /// The number in [`Turn::write`].
        turn: u64,
    },
    /// A replica's state machine has applied everything up to and with `index`. Nothing happens if
    /// the replica is no longer here.
    Applied {
        /// The shard.
        shard: ShardId,
        /// The replica, as in [`Apply`].
        replica: ReplicaId,
        /// The index.
        index: Index,
    },
    /// The answer to a [`ShardFetch`]. Nothing happens if the replica is no longer here.
    Fetched {
        /// The shard.
        shard: ShardId,
        /// The replica, as asked.
        replica: ReplicaId,
        /// As asked.
        reader: Reader,
        /// A non-empty, contiguous head of the range asked for.
        runs: Vec<Run>,
    },
    /// An operator wants another leader.
    TransferLeader {
        /// The shard.
        shard: ShardId,
        /// The waiting caller; answered when the transfer began or was refused.
        ticket: Ticket,
        /// The node of the next leader.
        to: NodeId,
    },
    /// An operator wants other members.
    ChangeMembership {
        /// The shard.
        shard: ShardId,
        /// The waiting caller; answered in [`Turn::changes`].
        ticket: Ticket,
        /// The membership that the operator believes to be in force.
        expected: Membership,
        /// The membership wanted.
        target: Membership,
    },
    /// The outcome of a snapshot that a [`ShardSnapshot`] asked for.
    SnapshotEnded {
        /// The shard.
        shard: ShardId,
        /// The replica that it was for.
        to: ReplicaId,
        /// The outcome.
        outcome: SnapshotOutcome,
    },
    /// A snapshot has arrived: its data is durable, beside the data in force, and nothing older is
    /// being applied (RULE 13). Its outcome comes in [`Turn::installs`]. If it was taken, the
    /// driver makes the turn's write durable, puts the new data in force, and reports
    /// [`Event::Applied`] for its base: readers wait for that. A range handed to the driver between
    /// the drain and this event lies below the base of a snapshot that was taken: it is not
    /// applied, and the driver tells the callers in [`Apply::tickets`] that their outcome is
    /// unknown. If the snapshot was not taken, the range is applied as usual.
    Install {
        /// The shard.
        shard: ShardId,
        /// The replica that it was sent to.
        to: ReplicaId,
        /// The leader that sent it.
        from: ReplicaId,
        /// That leader's term then.
        term: Term,
        /// The last entry that it holds.
        base: LogId,
        /// The membership in force there.
        membership: Membership,
        /// The version of the descriptor in force there.
        descriptor_version: u64,
    },
    /// The log may be purged through `to`: the applied state is durable that far (RULE 10), and
    /// nobody here wants older entries. Nothing happens if the replica is no longer here.
    Purge {
        /// The shard.
        shard: ShardId,
        /// The replica whose state that is.
        replica: ReplicaId,
        /// The index.
        to: Index,
        /// Entries below this are kept for no follower, however much it needs them: the log would
        /// grow beyond its bound.
        kept_from: Index,
    },
    /// A peer's message about a binding.
    Control {
        /// The node it came from, proven by its connection.
        from: NodeId,
        /// The shard.
        shard: ShardId,
        /// The message.
        control: Control,
    },
    /// The support that this node gives a peer has changed; in the order of the changes.
    Standing(StandingChange),
    /// The support that this node holds has changed.
    Support {
        /// The peer that gives it.
        node: NodeId,
        /// `None` if it ran out or was refused.
        held: Option<SupportHeld>,
    },
    /// The audit found that two nodes do not agree on whether this shard is bound between them.
    Differs {
        /// The shard.
        shard: ShardId,
        /// The other node.
        peer: NodeId,
    },
}

/// A snapshot that has arrived, as [`Event::Install`] has it.
pub(crate) struct Arrived {
    pub(crate) to: ReplicaId,
    pub(crate) from: ReplicaId,
    pub(crate) term: Term,
    pub(crate) base: LogId,
    pub(crate) membership: Membership,
    pub(crate) descriptor_version: u64,
}

/// Why a request was refused. It did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRefusal {
    /// No replica of the shard lives here.
    NoReplica,
    /// The replica here does not lead.
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Routed by another version of the descriptor.
    StaleVersion {
        /// Version in force.
        current: u64,
    },
    /// Too much is under way in this shard, or leadership is being transferred: wait.
    Busy,
    /// The target of a transfer is not another voter.
    NotAVoter,
}

/// The outcome of a request that no applied entry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was done and nothing will be.
    Refused(HostRefusal),
    /// The write's place in the log was committed with another entry: it did not happen.
    Overwritten,
    /// The write left this log, and this node can't tell whether another log still holds it.
    OutcomeUnknown,
    /// The read is linearizable now: `index` is applied here.
    ReadAt(Index),
    /// The read could not be confirmed, because leadership changed; ask again.
    NotConfirmed {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// The transfer of leadership has begun.
    TransferBegun,
}

/// Committed entries of one shard for its state machine, with the callers that wait for them.
#[derive(Debug)]
pub struct Apply {
    /// The shard.
    pub shard: ShardId,
    /// The replica, to be given back in [`Event::Applied`].
    pub replica: ReplicaId,
    /// The entries.
    pub committed: Committed,
    /// The index that each caller waits for, ascending. These tickets get no [`Answer`].
    pub tickets: Vec<(Index, Ticket)>,
}

/// Runs to be read back from the log.
#[derive(Debug, PartialEq, Eq)]
pub struct ShardFetch {
    /// The shard.
    pub shard: ShardId,
    /// The replica, to be given back with the answer.
    pub replica: ReplicaId,
    /// The reader, to be given back with the answer.
    pub reader: Reader,
    /// Indexes `[start, end)`.
    pub range: Range<Index>,
    /// Stop after the run that passes this many bytes.
    pub bytes_max: usize,
}

/// A follower of a shard led here needs a snapshot, to be answered by [`Event::SnapshotEnded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// The leader here.
    pub from: ReplicaId,
    /// Its term.
    pub term: Term,
    /// The follower.
    pub to: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// The snapshot must hold this entry at least.
    pub at_least: Index,
}

/// One replica's part of a turn's write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardWrite {
    /// The shard.
    pub shard: ShardId,
    /// The replica. Its part is dropped if it has ended before the write is made.
    pub replica: ReplicaId,
    /// What its kernel wants written.
    pub write: Write,
}

/// The outcome of an [`Event::Install`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInstall {
    /// The shard.
    pub shard: ShardId,
    /// The replica that the snapshot was sent to.
    pub replica: ReplicaId,
    /// With the base, the install is in this turn's write; with an error, the data received is to
    /// be dropped.
    pub outcome: Result<LogId, InstallError>,
}

/// From now on a shard's log begins after `base`: older runs may be deleted, with or without a
/// sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPurge {
    /// The shard.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
    /// The last entry that is not needed.
    pub base: LogId,
    /// The membership in force there.
    pub membership: Membership,
}

/// A shard's new role here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRole {
    /// The shard.
    pub shard: ShardId,
    /// Its role.
    pub role: RoleState,
}

/// A replica that was found to have lost what it had acknowledged: the directory was rolled back,
/// so every replica in it may have forgotten promises (RULE 5). The host has given this one up, and
/// nothing of it is in the turn; the driver notes it durably, so that no later start trusts the
/// directory, and ends the service of the node before anything else leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLoss {
    /// The shard.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
    /// The proof.
    pub loss: Loss,
}

/// Everything that the shards of one host want done.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be sent at once, beside the write. One element per peer; messages of one shard in order.
    pub send: Vec<(NodeId, Vec<(ShardId, Message)>)>,
    /// To be made durable together, under this number; then [`Event::Persisted`].
    pub write: Option<(u64, Vec<ShardWrite>)>,
    /// Writes that this leader's log has taken in, each with its place, where the caller asked for
    /// it. Not durable yet, and no promise: a later leader may give the place to another entry.
    /// Comes before the ticket's answer.
    pub accepted: Vec<(Ticket, LogId)>,
    /// To be applied.
    pub applies: Vec<Apply>,
    /// Outcomes of requests.
    pub answers: Vec<(Ticket, Answer)>,
    /// To be read back.
    pub fetches: Vec<ShardFetch>,
    /// Roles that changed.
    pub roles: Vec<ShardRole>,
    /// Changes of membership that began, each with its first entry, or were refused.
    pub changes: Vec<(Ticket, Result<LogId, ChangeError>)>,
    /// Followers that need a snapshot.
    pub snapshots: Vec<ShardSnapshot>,
    /// The outcome of each [`Event::Install`].
    pub installs: Vec<ShardInstall>,
    /// Logs that begin at a later entry from now on.
    pub purges: Vec<ShardPurge>,
    /// To be sent at once, on the control lane.
    pub control: Vec<(NodeId, ShardId, Control)>,
    /// For the node's liveness, in order.
    pub notes: Vec<LivenessNote>,
    /// Replicas that have lost what they had acknowledged.
    pub losses: Vec<ShardLoss>,
}

impl Turn {
    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.send.is_empty()
            && self.write.is_none()
            && self.accepted.is_empty()
            && self.applies.is_empty()
            && self.answers.is_empty()
            && self.fetches.is_empty()
            && self.roles.is_empty()
            && self.changes.is_empty()
            && self.snapshots.is_empty()
            && self.installs.is_empty()
            && self.purges.is_empty()
            && self.control.is_empty()
            && self.notes.is_empty()
            && self.losses.is_empty()
    }

    /// Removes what a replica was about to do: it has ended.
    pub(crate) fn silence(&mut self, id: ShardId) {
        self.purges.retain(|purge| purge.shard != id);
        self.installs.retain(|install| install.shard != id);
        self.snapshots.retain(|snapshot| snapshot.shard != id);
        self.fetches.retain(|fetch| fetch.shard != id);
        self.roles.retain(|role| role.shard != id);
        self.send.iter_mut().for_each(|(_, messages)| messages.retain(|(shard, _)| *shard != id));
        self.send.retain(|(_, messages)| !messages.is_empty());
        self.control.retain(|(_, shard, _)| *shard != id);
    }

    pub(crate) fn push_message(&mut self, to: NodeId, shard: ShardId, message: Message) {
        // A handful of peers: a scan beats a map.
        match self.send.iter_mut().find(|(node, _)| *node == to) {
            Some((_, messages)) => messages.push((shard, message)),
            None => self.send.push((to, vec![(shard, message)])),
        }
    }
}
