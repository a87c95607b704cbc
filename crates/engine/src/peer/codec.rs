//! The bytes of forwarded requests and their answers.
//!
//! Request: kind u8 (1 write, 2 read, 3 status, 4 write with progress, 5 write and 6 read to be relayed
//! once if need be, 7 transfer of leadership, 8 size of a replica's data, 9 room of the disk), shard
//! u64, descriptor version u64, then the command of a write, the read request of a read, or the node
//! u64 that is to lead. Stages precede the answer to a write with progress, each at most once and in
//! order; they may be missing. Answer: see `encode_outcome`; stage: see `encode_stage`. The size is a
//! u64. Little-endian.

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_machine::{decode_descriptor, encode_descriptor};
use quorate_types::{CutShort, Index, LogId, NodeId, ShardId, Term};

use crate::calls::call::Applied;
use crate::calls::call::Outcome;
use crate::calls::progress::Stage;
use crate::error::DiskLow;

const REQUEST_HEADER_BYTES: usize = 17;
const NO_NODE: u64 = u64::MAX;
const APPLIED: u8 = 15;
const ACCEPTED: u8 = 16;
const COMMITTED: u8 = 17;
const REPLY_TOO_LARGE: u8 = 18;
const DISK_LOW: u8 = 19;
/// Kind, node, free and needed bytes, and whether another node takes over.
const DISK_LOW_BYTES: usize = 26;
/// The answer to `DiskRoom` of a node whose disk is above its floor, and of any other.
const ROOM: &[u8] = &[1];
const NO_ROOM: &[u8] = &[0];
/// Kind, term and index.
const PLACED_BYTES: usize = 17;

/// What a request asks another node to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Replicate the command in the body.
    Write,
    /// Answer the read in the body.
    Read,
    /// Report the node's own status; shard, version and body mean nothing.
    Status,
    /// As `Write`, and report the stages before its outcome.
    WriteWithProgress,
    /// As `Write`, or relay it to the leader as a `Write`, because the requester can't reach it.
    RelayedWrite,
    /// As `Read`, or relay it to a replica as a `Read`.
    RelayedRead,
    /// Transfer leadership to the node in the body.
    TransferLeader,
    /// Report about how many bytes the data of the node's replica has; version and body mean nothing.
    DataBytes,
    /// Tell whether the node's disk has room for writes; shard, version and body mean nothing.
    DiskRoom,
    /// Know that the requester's disk is spent, if the body has its figures, or is not any longer, if the
    /// body is empty; shard and version mean nothing.
    DiskSpent,
}

/// A message that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerReply {
    /// A stage; more messages follow.
    Stage(Stage),
    /// The outcome; nothing follows.
    End(Outcome),
}

/// A forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerRequest {
    pub(crate) kind: RequestKind,
    pub(crate) shard: ShardId,
    pub(crate) descriptor_version: u64,
    pub(crate) body: Bytes,
}

/// The bytes are no request or answer of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("forwarded bytes are malformed: {0}")]
pub(crate) struct ForwardError(pub(crate) &'static str);

impl From<CutShort> for ForwardError {
    fn from(_: CutShort) -> Self {
        ForwardError("cut short")
    }
}

pub(crate) fn encode_request(request: &PeerRequest) -> Bytes {
    let mut bytes = Vec::with_capacity(REQUEST_HEADER_BYTES + request.body.len());
    bytes.push(match request.kind {
        RequestKind::Write => 1,
        RequestKind::Read => 2,
        RequestKind::Status => 3,
        RequestKind::WriteWithProgress => 4,
        RequestKind::RelayedWrite => 5,
        RequestKind::RelayedRead => 6,
        RequestKind::TransferLeader => 7,
        RequestKind::DataBytes => 8,
        RequestKind::DiskRoom => 9,
        RequestKind::DiskSpent => 10,
    });
    bytes.extend_from_slice(&request.shard.0.to_le_bytes());
    bytes.extend_from_slice(&request.descriptor_version.to_le_bytes());
    bytes.extend_from_slice(&request.body);
    Bytes::from(bytes)
}

pub(crate) fn decode_request(bytes: &Bytes) -> Result<PeerRequest, ForwardError> {
    if bytes.len() < REQUEST_HEADER_BYTES {
        return Err(ForwardError("request is cut short"));
    }
    let kind = match bytes[0] {
        1 => RequestKind::Write,
        2 => RequestKind::Read,
        3 => RequestKind::Status,
        4 => RequestKind::WriteWithProgress,
        5 => RequestKind::RelayedWrite,
        6 => RequestKind::RelayedRead,
        7 => RequestKind::TransferLeader,
        8 => RequestKind::DataBytes,
        9 => RequestKind::DiskRoom,
        10 => RequestKind::DiskSpent,
        _ => return Err(ForwardError("unknown kind of request")),
    };
    Ok(PeerRequest {
        kind,
        shard: ShardId(u64_at(bytes, 1)),
        descriptor_version: u64_at(bytes, 9),
        body: bytes.slice(REQUEST_HEADER_BYTES..),
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn placed(kind: u8, id: LogId, rest: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(PLACED_BYTES + rest.len());
    bytes.push(kind);
    bytes.extend_from_slice(&id.term.0.to_le_bytes());
    bytes.extend_from_slice(&id.index.0.to_le_bytes());
    bytes.extend_from_slice(rest);
    Bytes::from(bytes)
}

/// The place in the log that follows the kind.
fn place_of(bytes: &[u8]) -> Result<LogId, ForwardError> {
    if bytes.len() < PLACED_BYTES {
        return Err(ForwardError("a place in a log is cut short"));
    }
    Ok(LogId::new(Term(u64_at(bytes, 1)), Index(u64_at(bytes, 9))))
}

/// One byte of kind (16 accepted, 17 committed), then term and index, u64 each.
pub(crate) fn encode_stage(stage: Stage) -> Bytes {
    match stage {
        Stage::Accepted(id) => placed(ACCEPTED, id, &[]),
        Stage::Committed(id) => placed(COMMITTED, id, &[]),
    }
}

pub(crate) fn decode_reply(bytes: &Bytes) -> Result<PeerReply, ForwardError> {
    let stage = match bytes.first() {
        Some(&ACCEPTED) => Stage::Accepted(place_of(bytes)?),
        Some(&COMMITTED) => Stage::Committed(place_of(bytes)?),
        _ => return decode_outcome(bytes).map(PeerReply::End),
    };
    if bytes.len() != PLACED_BYTES {
        return Err(ForwardError("a stage has a wrong length"));
    }
    Ok(PeerReply::Stage(stage))
}

/// Whether a node's disk has room for writes.
pub(crate) fn room_outcome(has_room: bool) -> Outcome {
    Outcome::Reply(Bytes::from_static(if has_room { ROOM } else { NO_ROOM }))
}

/// The body of `DiskSpent`: free and needed bytes, u64 each, or nothing.
pub(crate) fn encode_spent(low: Option<DiskLow>) -> Bytes {
    let figures = |low: DiskLow| {
        [low.free_bytes.to_le_bytes(), low.needed_bytes.to_le_bytes()].concat().into()
    };
    low.map_or_else(Bytes::new, figures)
}

/// Reads what [`encode_spent`] wrote.
pub(crate) fn decode_spent(body: &[u8]) -> Result<Option<DiskLow>, ForwardError> {
    match body.len() {
        0 => Ok(None),
        16 => Ok(Some(DiskLow { free_bytes: u64_at(body, 0), needed_bytes: u64_at(body, 8) })),
        _ => Err(ForwardError("figures of a disk that are no two numbers")),
    }
}

/// True if `outcome` is the answer of a node whose disk has room for writes.
pub(crate) fn says_room(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reply(told) if told.as_ref() == ROOM)
}

/// One byte of kind, then for some kinds a u64, a descriptor, a place (term and index, u64 each), or
/// a reply's own bytes. Of a disk below its floor: its node, free and needed bytes, u64 each, and u8
/// 1 if another node takes over.
pub(crate) fn encode_outcome(outcome: &Outcome) -> Bytes {
    let with_number = |kind: u8, number: u64| {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&number.to_le_bytes());
        Bytes::from(bytes)
    };
    let node = |node: &Option<NodeId>| node.map_or(NO_NODE, |node| node.0);
    match outcome {
        Outcome::Reply(reply) => {
            let mut bytes = Vec::with_capacity(1 + reply.len());
            bytes.push(1);
            bytes.extend_from_slice(reply);
            Bytes::from(bytes)
        }
        Outcome::ReadAt(index) => with_number(2, index.0),
        Outcome::TransferBegun => Bytes::from_static(&[3]),
        Outcome::Refused(HostRefusal::NoReplica) => Bytes::from_static(&[4]),
        Outcome::Refused(HostRefusal::NotLeader { leader }) => with_number(5, node(leader)),
        Outcome::Refused(HostRefusal::StaleVersion { .. }) => {
            unreachable!("the engine says which descriptor is in force")
        }
        Outcome::Stale(descriptor) => {
            let mut bytes = vec![6];
            bytes.extend_from_slice(&encode_descriptor(descriptor));
            Bytes::from(bytes)
        }
        Outcome::Refused(HostRefusal::Busy) => Bytes::from_static(&[7]),
        Outcome::Refused(HostRefusal::NotAVoter) => Bytes::from_static(&[8]),
        Outcome::LeaderChanged { leader } => with_number(9, node(leader)),
        // The requester can't use which nodes this one reaches: for it no leader is known here.
        Outcome::Unreachable { .. } => with_number(5, NO_NODE),
        Outcome::Malformed => Bytes::from_static(&[10]),
        Outcome::Stopping => Bytes::from_static(&[11]),
        Outcome::UnknownLeaderChanged => Bytes::from_static(&[12]),
        Outcome::UnknownStopped => Bytes::from_static(&[13]),
        Outcome::UnknownConnectionLost { node } => with_number(14, node.0),
        Outcome::Applied(Applied { id, reply }) => placed(APPLIED, *id, reply),
        Outcome::ReplyTooLarge { bytes } => with_number(REPLY_TOO_LARGE, *bytes),
        Outcome::DiskLow { node, low, is_relieved } => {
            let mut bytes = Vec::with_capacity(DISK_LOW_BYTES);
            bytes.push(DISK_LOW);
            bytes.extend_from_slice(&node.0.to_le_bytes());
            bytes.extend_from_slice(&low.free_bytes.to_le_bytes());
            bytes.extend_from_slice(&low.needed_bytes.to_le_bytes());
            bytes.push(u8::from(*is_relieved));
            Bytes::from(bytes)
        }
    }
}

fn decode_outcome(bytes: &Bytes) -> Result<Outcome, ForwardError> {
    let kind = *bytes.first().ok_or(ForwardError("answer is empty"))?;
    let number = || match bytes.len() {
        9 => Ok(u64_at(bytes, 1)),
        _ => Err(ForwardError("answer has a wrong length")),
    };
    let node = || Ok::<_, ForwardError>(Some(number()?).filter(|n| *n != NO_NODE).map(NodeId));
    Ok(match kind {
        1 => Outcome::Reply(bytes.slice(1..)),
        2 => Outcome::ReadAt(Index(number()?)),
        3 => Outcome::TransferBegun,
        4 => Outcome::Refused(HostRefusal::NoReplica),
        5 => Outcome::Refused(HostRefusal::NotLeader { leader: node()? }),
        6 => {
            let descriptor = decode_descriptor(&bytes[1..]);
            let descriptor = descriptor.map_err(|_| ForwardError("a descriptor is malformed"))?;
            Outcome::Stale(Box::new(descriptor))
        }
        7 => Outcome::Refused(HostRefusal::Busy),
        8 => Outcome::Refused(HostRefusal::NotAVoter),
        9 => Outcome::LeaderChanged { leader: node()? },
        10 => Outcome::Malformed,
        11 => Outcome::Stopping,
        12 => Outcome::UnknownLeaderChanged,
        13 => Outcome::UnknownStopped,
        14 => Outcome::UnknownConnectionLost { node: NodeId(number()?) },
        APPLIED => {
            let id = place_of(bytes)?;
            Outcome::Applied(Applied { id, reply: bytes.slice(PLACED_BYTES..) })
        }
        REPLY_TOO_LARGE => Outcome::ReplyTooLarge { bytes: number()? },
        DISK_LOW if bytes.len() != DISK_LOW_BYTES || bytes[DISK_LOW_BYTES - 1] > 1 => {
            return Err(ForwardError("a disk's figures are malformed"));
        }
        DISK_LOW => Outcome::DiskLow {
            node: NodeId(u64_at(bytes, 1)),
            low: DiskLow { free_bytes: u64_at(bytes, 9), needed_bytes: u64_at(bytes, 17) },
            is_relieved: bytes[DISK_LOW_BYTES - 1] == 1,
        },
        _ => return Err(ForwardError("unknown kind of answer")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_router::{Replica, ShardDescriptor};
    use quorate_types::{Epoch, ReplicaId};

    const PLACE: LogId = LogId::new(Term(3), Index(260));

    fn disk_low(is_relieved: bool) -> Outcome {
        let low = DiskLow { free_bytes: 260, needed_bytes: 1 << 40 };
        Outcome::DiskLow { node: NodeId(7), low, is_relieved }
    }

    #[test]
    fn every_outcome_survives_its_bytes() {
        let leader = Some(NodeId(7));
        let outcomes = [
            Outcome::Reply(Bytes::from_static(b"abc")),
            Outcome::Reply(Bytes::new()),
            Outcome::ReadAt(Index(9)),
            Outcome::TransferBegun,
            Outcome::Refused(HostRefusal::NoReplica),
            Outcome::Refused(HostRefusal::NotLeader { leader }),
            Outcome::Refused(HostRefusal::NotLeader { leader: None }),
            Outcome::Stale(Box::new(ShardDescriptor {
                shard: ShardId(5),
                start: Bytes::from_static(b"a"),
                end: None,
                epoch: Epoch { membership: 2, version: 3 },
                members: vec![Replica { replica: ReplicaId(1), node: NodeId(4) }],
            })),
            Outcome::Refused(HostRefusal::Busy),
            Outcome::Refused(HostRefusal::NotAVoter),
            Outcome::LeaderChanged { leader },
            Outcome::Malformed,
            Outcome::Stopping,
            Outcome::UnknownLeaderChanged,
            Outcome::UnknownStopped,
            Outcome::ReplyTooLarge { bytes: 1 << 33 },
            Outcome::UnknownConnectionLost { node: NodeId(2) },
            Outcome::Applied(Applied { id: PLACE, reply: Bytes::from_static(b"abc") }),
            Outcome::Applied(Applied { id: PLACE, reply: Bytes::new() }),
            disk_low(true),
            disk_low(false),
            room_outcome(true),
        ];
        for outcome in outcomes {
            let bytes = encode_outcome(&outcome);
            assert_eq!(decode_reply(&bytes), Ok(PeerReply::End(outcome)));
        }
        for stage in [Stage::Accepted(PLACE), Stage::Committed(PLACE)] {
            assert_eq!(decode_reply(&encode_stage(stage)), Ok(PeerReply::Stage(stage)));
        }
    }

    #[test]
    fn golden_bytes_of_places() {
        let place = [3, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0];
        let bytes = |kind: u8, rest: &[u8]| [&[kind], &place[..], rest].concat();
        assert_eq!(encode_stage(Stage::Accepted(PLACE)), bytes(16, b""));
        assert_eq!(encode_stage(Stage::Committed(PLACE)), bytes(17, b""));
        let applied = Outcome::Applied(Applied { id: PLACE, reply: Bytes::from_static(b"xy") });
        assert_eq!(encode_outcome(&applied), bytes(15, b"xy"));
        for kind in [15, 16, 17] {
            for cut in 1..PLACED_BYTES {
                let cut = Bytes::from(bytes(kind, b"")).slice(..cut);
                assert!(decode_reply(&cut).is_err(), "{cut:?}");
            }
        }
        assert!(decode_reply(&bytes(16, b"x").into()).is_err(), "a stage has no more bytes");
    }

    #[test]
    fn golden_bytes_of_a_low_disk() {
        let figures = [7, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        let bytes = [&[19], &figures[..], &[1]].concat();
        assert_eq!(encode_outcome(&disk_low(true)), bytes);
        for cut in 1..bytes.len() {
            assert!(decode_reply(&Bytes::from(bytes.clone()).slice(..cut)).is_err(), "{cut}");
        }
        assert!(decode_reply(&[&[19], &figures[..], &[2]].concat().into()).is_err());
        let low = DiskLow { free_bytes: 260, needed_bytes: 1 << 40 };
        for low in [None, Some(low)] {
            assert_eq!(decode_spent(&encode_spent(low)), Ok(low));
        }
        assert!(decode_spent(&[1; 15]).is_err());
        assert!(says_room(&room_outcome(true)) && !says_room(&room_outcome(false)));
        assert!(!says_room(&Outcome::Malformed), "an older version's answer");
    }

    #[test]
    fn golden_bytes_of_a_request() {
        let request = PeerRequest {
            kind: RequestKind::Write,
            shard: ShardId(5),
            descriptor_version: 1,
            body: Bytes::from_static(b"x"),
        };
        let bytes = encode_request(&request);
        assert_eq!(bytes[..], [1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'x']);
        assert_eq!(decode_request(&bytes), Ok(request.clone()));
        let asks = PeerRequest { kind: RequestKind::WriteWithProgress, ..request };
        let with_progress = encode_request(&asks);
        assert_eq!((with_progress[0], &with_progress[1..]), (4, &bytes[1..]));
        assert_eq!(decode_request(&with_progress), Ok(asks.clone()));
        for (kind, byte) in [
            (RequestKind::Read, 2),
            (RequestKind::Status, 3),
            (RequestKind::RelayedWrite, 5),
            (RequestKind::RelayedRead, 6),
            (RequestKind::TransferLeader, 7),
            (RequestKind::DataBytes, 8),
            (RequestKind::DiskRoom, 9),
            (RequestKind::DiskSpent, 10),
        ] {
            let other = PeerRequest { kind, ..asks.clone() };
            assert_eq!(encode_request(&other)[0], byte);
            assert_eq!(decode_request(&encode_request(&other)), Ok(other));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_request(&bytes);
            let _ = decode_reply(&bytes);
        }
    }
}
