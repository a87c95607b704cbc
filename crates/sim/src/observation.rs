//! What the world shows to its watchers: properties, timeline, marks, report.
//!
//! Watchers see every node at once and the true time, which no node does. They learn of the world
//! only from observations, in the order in which things happened, so a few observations can test a
//! property without a world.

use std::fmt;

use quorate_liveness::{Control, StandingChange, SupportEpoch};
use quorate_raft::{Committed, EntryKind, Loss, Membership, Message, Restored, RoleState, Write};
use quorate_types::{Incarnation, Index, LogId, NodeId, ReplicaId, ShardId, SplitMix64, Term};

/// Simulated true time in nanoseconds since the world began. No node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The time `millis` milliseconds after the beginning.
    #[must_use]
    pub const fn from_millis(millis: u64) -> SimTime {
        SimTime(millis * 1_000_000)
    }

    /// Nanoseconds since `earlier`; 0 if `earlier` is later.
    #[must_use]
    pub fn nanos_since(self, earlier: SimTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1_000_000_000, self.0 / 1_000_000 % 1_000);
        f.pad(&format!("{seconds}.{millis:03} s"))
    }
}

/// Reasons given in [`Observation::NodeStopped`] and [`Observation::ReplicaRemoved`] that watchers
/// tell apart. Others are free text for people.
pub mod why {
    /// The process crashed: what was not durable is gone.
    pub const CRASHED: &str = "crashed";
    /// A write or sync failed and the node stopped serving (RULE 8).
    pub const LATCHED: &str = "latched";
    /// The replica may have lost what it promised and never speaks again (RULE 5).
    pub const DAMAGED: &str = "damaged";
    /// The replica is proven to be removed from its group.
    pub const LEFT: &str = "left the group";
}

/// Kinds of faults that the world injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A clock runs fast or slow.
    ClockDrift,
    /// A clock jumps by less than the drift margin.
    ClockJump,
    /// A clock jumps by more than the drift margin: leases may be wrong, the log may not.
    ClockJumpBeyond,
    /// A host is suspended and resumes later; its clock has counted the time.
    Suspend,
    /// A process is paused: nothing of it runs.
    Pause,
    /// A process is killed.
    Crash,
    /// All processes are killed at one instant.
    CrashAll,
    /// A share of messages is lost for a while.
    Loss,
    /// Messages arrive twice.
    Duplication,
    /// Messages overtake each other.
    Reorder,
    /// Messages take much longer.
    Delay,
    /// One direction between two nodes is cut.
    OneWayCut,
    /// A pair of nodes is cut off from each other.
    Cut,
    /// Some nodes are cut off from some others, but the cluster is not split in two.
    PartialPartition,
    /// The cluster is split in two.
    Partition,
    /// One peer answers slowly.
    SlowPeer,
    /// Streams hang while datagrams pass.
    StreamsHang,
    /// Datagrams are lost while streams pass.
    DatagramsLost,
    /// Syncs of a log disk take long.
    DiskSlow,
    /// A log disk finishes nothing for a while.
    DiskStall,
    /// A sync fails: the node latches.
    SyncFailed,
    /// A crash leaves half of a write behind.
    TornWrite,
    /// A bit on a log disk flips.
    BitFlip,
    /// The write-ahead log of a log disk is damaged: no replica of the node can be trusted.
    WalDamaged,
    /// A worker hangs while its node's heartbeats go on.
    WorkerHung,
    /// A release is lost.
    ReleaseLost,
    /// A snapshot on its way is cut off.
    SnapshotCut,
    /// The data store falls back to its last flush.
    DataLost,
}

impl FaultKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [FaultKind; 28] = [
        FaultKind::ClockDrift,
        FaultKind::ClockJump,
        FaultKind::ClockJumpBeyond,
        FaultKind::Suspend,
        FaultKind::Pause,
        FaultKind::Crash,
        FaultKind::CrashAll,
        FaultKind::Loss,
        FaultKind::Duplication,
        FaultKind::Reorder,
        FaultKind::Delay,
        FaultKind::OneWayCut,
        FaultKind::Cut,
        FaultKind::PartialPartition,
        FaultKind::Partition,
        FaultKind::SlowPeer,
        FaultKind::StreamsHang,
        FaultKind::DatagramsLost,
        FaultKind::DiskSlow,
        FaultKind::DiskStall,
        FaultKind::SyncFailed,
        FaultKind::TornWrite,
        FaultKind::BitFlip,
        FaultKind::WalDamaged,
        FaultKind::WorkerHung,
        FaultKind::ReleaseLost,
        FaultKind::SnapshotCut,
        FaultKind::DataLost,
    ];

    /// A short description for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::ClockDrift => "clock drift",
            FaultKind::ClockJump => "clock jump within the margin",
            FaultKind::ClockJumpBeyond => "clock jump beyond the margin",
            FaultKind::Suspend => "host suspended",
            FaultKind::Pause => "process paused",
            FaultKind::Crash => "process crash",
            FaultKind::CrashAll => "crash of all",
            FaultKind::Loss => "message loss",
            FaultKind::Duplication => "duplication",
            FaultKind::Reorder => "reorder",
            FaultKind::Delay => "delay",
            FaultKind::OneWayCut => "one-way cut",
            FaultKind::Cut => "cut of a pair",
            FaultKind::PartialPartition => "partial partition",
            FaultKind::Partition => "partition",
            FaultKind::SlowPeer => "slow peer",
            FaultKind::StreamsHang => "streams hang",
            FaultKind::DatagramsLost => "datagrams lost",
            FaultKind::DiskSlow => "slow disk",
            FaultKind::DiskStall => "disk stall",
            FaultKind::SyncFailed => "failed sync",
            FaultKind::TornWrite => "torn write",
            FaultKind::BitFlip => "flipped bit",
            FaultKind::WalDamaged => "damaged write-ahead log",
            FaultKind::WorkerHung => "hung worker",
            FaultKind::ReleaseLost => "lost release",
            FaultKind::SnapshotCut => "snapshot cut off",
            FaultKind::DataLost => "data store falls back",
        }
    }
}

/// The outcome of a client's operation that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationEnd {
    /// It did not happen: refused, overwritten, or a read not confirmed.
    Failed,
    /// The outcome is unknown.
    Unknown,
}

/// What a probe does after the heal, through one node's leader hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// A write that has to be acknowledged.
    Write,
    /// A linearizable read.
    Read,
}

/// Something that happened or was seen in the world.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "fields are named after their types")]
pub enum Observation<'a> {
    /// A process began to run; its incarnation is durable.
    NodeStarted { node: NodeId, incarnation: Incarnation },
    /// A process ended; see [`why`].
    NodeStopped { node: NodeId, why: &'static str },
    /// A replica was added: at a start, at creation, or as a new learner.
    ReplicaAdded { node: NodeId, shard: ShardId, replica: ReplicaId, restored: &'a Restored },
    /// A replica was given up by its process: on proof, or because it was found to be damaged; see
    /// [`why`].
    ReplicaRemoved { node: NodeId, shard: ShardId, replica: ReplicaId, why: &'static str },
    /// The end of a replica is durable: it never starts again.
    ReplicaEnded { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// A crash lost the end of a replica that was given up.
    EndLost { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// A crash lost a replica that was about to be made.
    BirthLost { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// A start found the write-ahead log damaged: every replica of the node ends.
    WalDamageFound { node: NodeId, replicas: usize },
    /// Work for a replica was done after its process had given it up.
    LateReport { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// A replica was found to have lost what it had acknowledged, and ended.
    LossFound { node: NodeId, shard: ShardId, replica: ReplicaId, loss: &'a Loss },
    /// A node was asked to take in a replica id that has a tombstone there, and refused.
    TombstoneRefused { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// A role, term or leader changed.
    Role { node: NodeId, shard: ShardId, replica: ReplicaId, role: RoleState },
    /// A message left its node: everything that must be synced first is durable. Emitted also
    /// for messages that the network loses.
    Sent { from: NodeId, to: NodeId, shard: ShardId, message: &'a Message },
    /// A message arrived at a living node.
    Delivered { from: NodeId, to: NodeId, shard: ShardId, message: &'a Message },
    /// The network lost a message.
    Lost { from: NodeId, to: NodeId, shard: ShardId },
    /// A control message left its node.
    ControlSent { from: NodeId, to: NodeId, shard: ShardId, control: &'a Control },
    /// A control message arrived.
    ControlDelivered { from: NodeId, to: NodeId, shard: ShardId, control: &'a Control },
    /// A write of a replica was handed to the log disk.
    Written { node: NodeId, shard: ShardId, replica: ReplicaId, write: &'a Write },
    /// A write is durable on the log disk; also one that survived a crash unreported, which is
    /// shown before the replica is added again.
    Durable { node: NodeId, shard: ShardId, replica: ReplicaId, write: &'a Write },
    /// Where the log of a replica begins and ends on the disk after a change has become durable, and
    /// whether a run was stored that does not follow the one before.
    Stored {
        node: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        base: LogId,
        last: LogId,
        has_gap: bool,
    },
    /// A change of a log was skipped, as its replica had ended before.
    PartSkipped { node: NodeId, shard: ShardId, replica: ReplicaId },
    /// The commit index changed.
    Commit { node: NodeId, shard: ShardId, replica: ReplicaId, commit: Index },
    /// Entries were applied.
    Applied { node: NodeId, shard: ShardId, replica: ReplicaId, committed: &'a Committed },
    /// The state of a snapshot was installed: from now on the replica's state begins at `base`.
    /// `log_held_last` is the last entry of the log just before.
    Installed {
        node: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        base: LogId,
        keeps_log: bool,
        log_held_last: LogId,
    },
    /// A step of an install, beside the write that names its base.
    Install { node: NodeId, shard: ShardId, replica: ReplicaId, base: LogId, step: InstallStep },
    /// Ranges that were handed out before an install was decided were dropped after it.
    ParkedDropped { node: NodeId, shard: ShardId, ranges: usize },
    /// What is applied through here is durable in the data store.
    Flushed { node: NodeId, shard: ShardId, replica: ReplicaId, applied: Index },
    /// The log through `base` is given up; entries below `kept_from` were kept for no follower.
    Purged { node: NodeId, shard: ShardId, replica: ReplicaId, base: LogId, kept_from: Index },
    /// A snapshot waits until its leader's node sends fewer.
    SnapshotWaits { from: NodeId, to: NodeId, shard: ShardId },
    /// A leader's node began to send a snapshot that holds the state through `base`; the log has to
    /// go on behind `at_least`.
    SnapshotSent {
        from: NodeId,
        to: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        base: LogId,
        at_least: Index,
    },
    /// A snapshot transfer that had been interrupted goes on behind the chunks that had arrived.
    SnapshotResumed { from: NodeId, to: NodeId, shard: ShardId },
    /// A snapshot transfer ended at its sender.
    SnapshotEnded {
        from: NodeId,
        to: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        is_installed: bool,
    },
    /// A receiver gave a snapshot up of which nothing arrived any more.
    SnapshotGivenUp { node: NodeId, shard: ShardId },
    /// A receiver dropped a snapshot that was not complete for that of a later leader.
    SnapshotReplaced { node: NodeId, shard: ShardId },
    /// The standing of the support that `node` gives to a peer changed.
    Standing { node: NodeId, change: &'a StandingChange },
    /// A supporter's promise after a heartbeat that it answered with "supported", in true time.
    Supported { supporter: NodeId, requester: NodeId, epoch: SupportEpoch, until: SimTime },
    /// Until when a requester counts on support, and until when the same life of its supporter has
    /// promised it in the same epoch (`None` if withdrawn), in true time as their clocks run now.
    /// Sampled.
    Held { supporter: NodeId, requester: NodeId, until: SimTime, given_until: Option<SimTime> },
    /// The replicas that hold a lease of the shard now, each by its own clock, paused processes
    /// included. Sampled at every [`Observation::Role`] that serves, and every 50 ms. Not shown for
    /// a shard while a clock of its members is known to have jumped beyond the margin.
    Leases { shard: ShardId, holders: &'a [(NodeId, ReplicaId, Term)] },
    /// Whether a leader is quiesced, or a follower bound; sampled, and always at the end. Not shown where
    /// node liveness is off.
    Quiesced { node: NodeId, shard: ShardId, replica: ReplicaId, is_quiesced: bool },
    /// A client's write was acknowledged: this entry is promised forever. `payload_hash` is the
    /// [`entry_hash`] of the entry in the log.
    Acknowledged { shard: ShardId, id: LogId, payload_hash: u64 },
    /// A lease in force was sampled; nothing keeps the replicas in `free` from voting for another
    /// replica.
    LeaseHeld {
        node: NodeId,
        shard: ShardId,
        replica: ReplicaId,
        term: Term,
        membership: &'a Membership,
        free: &'a [ReplicaId],
    },
    /// A quiesced leader was compared with a follower whose node supports the leader's node; the
    /// follower knows that entries through `known` are committed.
    QuiescedLeader { leader: NodeId, follower: NodeId, shard: ShardId, commit: Index, known: Index },
    /// A replica's state machine answered the command of this entry.
    Replied { node: NodeId, shard: ShardId, id: LogId, reply_hash: u64 },
    /// A digest of all data of a replica was taken.
    DataSeen { node: NodeId, shard: ShardId, applied: Index, digest: u64 },
    /// A client's linearizable read was answered, at this node.
    ReadServed { node: NodeId, shard: ShardId, by_lease: bool },
    /// A client's operation failed, or its outcome is unknown.
    OperationEnded { shard: ShardId, end: OperationEnd },
    /// A fault was injected.
    Fault { kind: FaultKind, node: Option<NodeId>, detail: &'a str },
    /// A lasting fault ended.
    FaultEnded { kind: FaultKind, node: Option<NodeId> },
    /// A change of members was accepted by a leader.
    ChangeBegun { shard: ShardId, target: &'a Membership },
    /// A replica was the first to apply a membership that is not joint.
    ChangeDone { shard: ShardId, membership: &'a Membership },
    /// A transfer of leadership began.
    TransferBegun { shard: ShardId, from: NodeId, to: NodeId },
    /// What a replica holds in memory; sampled.
    Memory { node: NodeId, shard: ShardId, memory: Memory },
    /// What a node holds in memory; sampled.
    NodeMemory { node: NodeId, memory: NodeMemory },
    /// From here on no faults are injected, the present ones are ended, and every node is up.
    Healed,
    /// After the heal, when the bound of liveness has passed: the outcome of a request that was
    /// given to `node` and forwarded to the leader that it names.
    Probed { node: NodeId, shard: ShardId, kind: ProbeKind, is_ok: bool },
}

/// Steps of an install that the log disk does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallStep {
    /// Nothing older is being applied any more.
    Paused,
    /// The new data is in force: reads see it, and entries are applied to it.
    Adopted,
    /// The worker is told that the base is applied.
    Reported,
    /// The old data is deleted.
    OldDeleted,
}

/// What one replica holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of log entries in memory.
    pub cached_bytes: usize,
    /// Waiting callers, as `ShardView::waiting` counts them.
    pub waiting: usize,
    /// Bytes handed out for apply and not yet applied.
    pub apply_bytes: usize,
    /// Bytes that wait behind an install.
    pub parked_bytes: usize,
    /// The bound of bytes handed out for apply.
    pub apply_bytes_max: usize,
    /// Messages held back until a sync.
    pub held_messages: usize,
}

/// What one node holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// Bytes of log entries in memory, of all its shards.
    pub cached_bytes: usize,
    /// Its bound for that.
    pub cached_bytes_max: usize,
    /// Bytes of cached entries that may not be given up: they are not durable yet.
    pub pinned_bytes: usize,
    /// Bytes handed out for apply and not yet applied, by hosted replicas that are not paused.
    pub apply_bytes: usize,
    /// The bound of that.
    pub apply_bytes_max: usize,
    /// Replicas hosted.
    pub replicas: usize,
    /// Replicas whose apply is paused for an install.
    pub paused: usize,
    /// Snapshots being sent.
    pub sending: usize,
    /// Snapshots being received.
    pub receiving: usize,
    /// The bound of each of these.
    pub transfers_max: usize,
}

/// A hash of an entry's contents, the same on every machine.
#[must_use]
pub fn entry_hash(kind: EntryKind, payload: &[u8]) -> u64 {
    let mut hash = scramble(kind as u64 ^ (payload.len() as u64) << 8);
    let mut chunks = payload.chunks_exact(8);
    for chunk in &mut chunks {
        hash = scramble(hash ^ u64::from_le_bytes(chunk.try_into().expect("eight bytes")));
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    scramble(hash ^ u64::from_le_bytes(tail))
}

/// A permutation of 64 bits that leaves none where it was, for hashes that have to be the same on every
/// machine.
#[must_use]
pub(crate) fn scramble(value: u64) -> u64 {
    SplitMix64::new(value).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_by_their_numbers_and_named_apart() {
        for (number, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            let same = FaultKind::ALL.iter().filter(|other| other.name() == kind.name());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn hashes_tell_length_kind_and_bytes_apart() {
        let all = [
            entry_hash(EntryKind::Blank, b""),
            entry_hash(EntryKind::Command, b""),
            entry_hash(EntryKind::Command, b"\0"),
            entry_hash(EntryKind::Command, b"12345678"),
            entry_hash(EntryKind::Command, b"12345678\0"),
            entry_hash(EntryKind::Command, b"123456781"),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(SimTime(12_345_678_901).to_string(), "12.345 s");
    }
}
