//! The types of a frame's meta part, as rkyv archives them.
//!
//! These types mirror the kernel's messages so that the kernel knows nothing of rkyv, and so that a
//! change there can't change bytes here unnoticed: the conversions below stop compiling, or the
//! golden bytes of `frame.rs` differ. Lengths of runs lie in one flat list beside the messages
//! instead of a list in each: one validation pass over plain values, no pointers to chase.

use quorate_raft::{Body, Message, Run, TransferOf};
use quorate_types::{Index, LogId, ReplicaId, ShardId, Term};
use rkyv::{Archive, Serialize};

use crate::frame::{Forward, ForwardKind, FrameError, ShardMessage};

/// The root of every frame's meta part. The order of the variants is the format, as below.
#[derive(Archive, Serialize)]
pub(crate) enum WireMeta {
    Messages { messages: Vec<WireMessage>, run_lengths: Vec<u32> },
    Forwards { forwards: Vec<WireForward> },
    SnapshotParts { part_lengths: Vec<u32> },
}

#[derive(Archive, Serialize)]
pub(crate) struct WireForward {
    id: u64,
    reply: bool,
    payload_bytes: u32,
}

#[derive(Archive, Serialize)]
pub(crate) struct WireMessage {
    shard: u64,
    from: u64,
    to: u64,
    term: u64,
    body: WireBody,
}

#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct WireLogId {
    term: u64,
    index: u64,
}

#[derive(Archive, Serialize)]
pub(crate) struct WireTransfer {
    leader: u64,
    term: u64,
}

/// The order of the variants is the format: new ones go to the end, under a new version.
#[derive(Archive, Serialize)]
pub(crate) enum WireBody {
    VoteRequest { pre: bool, last: WireLogId, transfer: Option<WireTransfer> },
    VoteReply { pre: bool, granted: bool, leader_alive: bool },
    Append { previous: WireLogId, run_count: u32, commit: u64 },
    Accepted { matched: u64 },
    Rejected { previous: WireLogId, hint: WireLogId },
    Heartbeat { commit: u64, round: u64 },
    HeartbeatReply { round: u64 },
    ReadIndex { context: u64 },
    ReadIndexReply { context: u64, index: Option<u64> },
    TimeoutNow,
}

impl WireMessage {
    /// The mirror of `message`; its runs' lengths go to the end of `run_lengths`.
    pub(crate) fn new(message: &ShardMessage, run_lengths: &mut Vec<u32>) -> WireMessage {
        let ShardMessage { shard, message: Message { from, to, term, body } } = message;
        let body = WireBody::new(body, run_lengths);
        WireMessage { shard: shard.0, from: from.0, to: to.0, term: term.0, body }
    }
}

impl ArchivedWireMessage {
    /// The message; its runs are taken from `runs`, which yields them in the frame's order.
    pub(crate) fn restore(
        &self,
        runs: &mut impl Iterator<Item = Result<Run, FrameError>>,
    ) -> Result<ShardMessage, FrameError> {
        let message = Message {
            from: ReplicaId(self.from.to_native()),
            to: ReplicaId(self.to.to_native()),
            term: Term(self.term.to_native()),
            body: self.body.restore(runs)?,
        };
        Ok(ShardMessage { shard: ShardId(self.shard.to_native()), message })
    }
}

impl WireForward {
    pub(crate) fn new(forward: &Forward) -> WireForward {
        WireForward {
            id: forward.id,
            reply: forward.kind == ForwardKind::Reply,
            payload_bytes: length_of(forward.payload.len()),
        }
    }
}

impl ArchivedWireForward {
    pub(crate) fn id(&self) -> u64 {
        self.id.to_native()
    }

    pub(crate) fn kind(&self) -> ForwardKind {
        if self.reply { ForwardKind::Reply } else { ForwardKind::Request }
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload_bytes.to_native() as usize
    }
}

impl WireBody {
    fn new(body: &Body, run_lengths: &mut Vec<u32>) -> WireBody {
        match body {
            Body::VoteRequest { pre, last, transfer } => WireBody::VoteRequest {
                pre: *pre,
                last: WireLogId::new(*last),
                transfer: transfer.map(|t| WireTransfer { leader: t.leader.0, term: t.term.0 }),
            },
            Body::VoteReply { pre, granted, leader_alive } => {
                WireBody::VoteReply { pre: *pre, granted: *granted, leader_alive: *leader_alive }
            }
            Body::Append { previous, runs, commit } => {
                run_lengths.extend(runs.iter().map(|run| length_of(run.len_bytes())));
                WireBody::Append {
                    previous: WireLogId::new(*previous),
                    run_count: length_of(runs.len()),
                    commit: commit.0,
                }
            }
            Body::Accepted { matched } => WireBody::Accepted { matched: matched.0 },
            Body::Rejected { previous, hint } => WireBody::Rejected {
                previous: WireLogId::new(*previous),
                hint: WireLogId::new(*hint),
            },
            Body::Heartbeat { commit, round } => {
                WireBody::Heartbeat { commit: commit.0, round: *round }
            }
            Body::HeartbeatReply { round } => WireBody::HeartbeatReply { round: *round },
            Body::ReadIndex { context } => WireBody::ReadIndex { context: *context },
            Body::ReadIndexReply { context, index } => {
                WireBody::ReadIndexReply { context: *context, index: index.map(|index| index.0) }
            }
            Body::TimeoutNow => WireBody::TimeoutNow,
        }
    }
}

impl ArchivedWireBody {
    fn restore(
        &self,
        runs: &mut impl Iterator<Item = Result<Run, FrameError>>,
    ) -> Result<Body, FrameError> {
        Ok(match self {
            ArchivedWireBody::VoteRequest { pre, last, transfer } => Body::VoteRequest {
                pre: *pre,
                last: last.restore(),
                transfer: transfer.as_ref().map(|transfer| TransferOf {
                    leader: ReplicaId(transfer.leader.to_native()),
                    term: Term(transfer.term.to_native()),
                }),
            },
            ArchivedWireBody::VoteReply { pre, granted, leader_alive } => {
                Body::VoteReply { pre: *pre, granted: *granted, leader_alive: *leader_alive }
            }
            ArchivedWireBody::Append { previous, run_count, commit } => {
                let previous = previous.restore();
                let runs = restore_runs(previous, run_count.to_native(), runs)?;
                Body::Append { previous, runs, commit: Index(commit.to_native()) }
            }
            ArchivedWireBody::Accepted { matched } => {
                Body::Accepted { matched: Index(matched.to_native()) }
            }
            ArchivedWireBody::Rejected { previous, hint } => {
                Body::Rejected { previous: previous.restore(), hint: hint.restore() }
            }
            ArchivedWireBody::Heartbeat { commit, round } => {
                Body::Heartbeat { commit: Index(commit.to_native()), round: round.to_native() }
            }
            ArchivedWireBody::HeartbeatReply { round } => {
                Body::HeartbeatReply { round: round.to_native() }
            }
            ArchivedWireBody::ReadIndex { context } => {
                Body::ReadIndex { context: context.to_native() }
            }
            ArchivedWireBody::ReadIndexReply { context, index } => Body::ReadIndexReply {
                context: context.to_native(),
                index: index.as_ref().map(|index| Index(index.to_native())),
            },
            ArchivedWireBody::TimeoutNow => Body::TimeoutNow,
        })
    }
}

/// The next `count` runs, which must follow `previous` without a gap: a kernel relies on it.
fn restore_runs(
    previous: LogId,
    count: u32,
    runs: &mut impl Iterator<Item = Result<Run, FrameError>>,
) -> Result<Vec<Run>, FrameError> {
    // No capacity is reserved from `count`, which is only the sender's claim; the runs are facts.
    let mut restored: Vec<Run> = Vec::new();
    let mut last = previous.index;
    for _ in 0..count {
        let run = runs.next().ok_or(FrameError::RunsMissing)??;
        if last.0.checked_add(1) != Some(run.first().0) {
            return Err(FrameError::RunsApart { last, next: run.first() });
        }
        last = run.last();
        restored.push(run);
    }
    Ok(restored)
}

impl WireLogId {
    fn new(id: LogId) -> WireLogId {
        WireLogId { term: id.term.0, index: id.index.0 }
    }
}

impl ArchivedWireLogId {
    fn restore(&self) -> LogId {
        LogId::new(Term(self.term.to_native()), Index(self.index.to_native()))
    }
}

pub(crate) fn length_of(length: usize) -> u32 {
    u32::try_from(length).expect("the lane refuses what is larger than a frame")
}
