//! The bytes of forwarded requests and their answers.
//!
//! Request: kind u8 (1 write, 2 read, 3 status), shard u64, descriptor version u64, then the command
//! of a write or the question of a read. Answer: see `encode_outcome`. Little-endian.

use bytes::Bytes;
use quorate_host::{Refusal as HostRefusal, decode_descriptor, encode_descriptor};
use quorate_types::{Index, NodeId, ShardId};

use crate::call::Outcome;

const REQUEST_HEADER_BYTES: usize = 17;
const NO_NODE: u64 = u64::MAX;

/// What another node is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Replicate the command in the body.
    Write,
    /// Answer the read in the body.
    Read,
    /// Tell about the node itself; shard, version and body mean nothing.
    Status,
}

/// A forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: RequestKind,
    pub(crate) shard: ShardId,
    pub(crate) descriptor_version: u64,
    pub(crate) body: Bytes,
}

/// The bytes hold no request or answer of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("forwarded bytes are malformed: {0}")]
pub(crate) struct ForwardError(pub(crate) &'static str);

pub(crate) fn encode_request(request: &Request) -> Bytes {
    let mut bytes = Vec::with_capacity(REQUEST_HEADER_BYTES + request.body.len());
    bytes.push(match request.kind {
        RequestKind::Write => 1,
        RequestKind::Read => 2,
        RequestKind::Status => 3,
    });
    bytes.extend_from_slice(&request.shard.0.to_le_bytes());
    bytes.extend_from_slice(&request.descriptor_version.to_le_bytes());
    bytes.extend_from_slice(&request.body);
    Bytes::from(bytes)
}

pub(crate) fn decode_request(bytes: &Bytes) -> Result<Request, ForwardError> {
    if bytes.len() < REQUEST_HEADER_BYTES {
        return Err(ForwardError("request is cut short"));
    }
    let kind = match bytes[0] {
        1 => RequestKind::Write,
        2 => RequestKind::Read,
        3 => RequestKind::Status,
        _ => return Err(ForwardError("unknown kind of request")),
    };
    Ok(Request {
        kind,
        shard: ShardId(u64_at(bytes, 1)),
        descriptor_version: u64_at(bytes, 9),
        body: bytes.slice(REQUEST_HEADER_BYTES..),
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// One byte of kind, then for some kinds a u64, a descriptor, or a reply's own bytes.
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
        Outcome::Malformed => Bytes::from_static(&[10]),
        Outcome::Stopping => Bytes::from_static(&[11]),
        Outcome::UnknownLeaderChanged => Bytes::from_static(&[12]),
        Outcome::UnknownStopped => Bytes::from_static(&[13]),
        Outcome::UnknownConnectionLost { node } => with_number(14, node.0),
    }
}

pub(crate) fn decode_outcome(bytes: &Bytes) -> Result<Outcome, ForwardError> {
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
        _ => return Err(ForwardError("unknown kind of answer")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_router::{Replica, ShardDescriptor};
    use quorate_types::{Epoch, ReplicaId};

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
            Outcome::UnknownConnectionLost { node: NodeId(2) },
        ];
        for outcome in outcomes {
            assert_eq!(decode_outcome(&encode_outcome(&outcome)), Ok(outcome));
        }
    }

    #[test]
    fn golden_bytes_of_a_request() {
        let request = Request {
            kind: RequestKind::Write,
            shard: ShardId(5),
            descriptor_version: 1,
            body: Bytes::from_static(b"x"),
        };
        let bytes = encode_request(&request);
        assert_eq!(bytes[..], [1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'x']);
        assert_eq!(decode_request(&bytes), Ok(request));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_request(&bytes);
            let _ = decode_outcome(&bytes);
        }
    }
}
