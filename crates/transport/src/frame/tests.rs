//! Goal: what is encoded comes back, the bytes stay what they are, and nothing else gets through.

use super::*;
use proptest::prelude::*;
use quorate_raft::{EntryKind, RunDraft, TransferOf};
use quorate_types::{LogId, ReplicaId, Term};

fn run(term: u64, first: u64, payloads: &[Vec<u8>]) -> Run {
    let mut draft = RunDraft::new();
    for payload in payloads {
        draft.push(EntryKind::Command, &[payload]);
    }
    draft.seal(Term(term), Index(first))
}

fn shard_message(shard: u64, body: Body) -> ShardMessage {
    let message = Message { from: ReplicaId(0x11), to: ReplicaId(0x22), term: Term(0x33), body };
    ShardMessage { shard: ShardId(shard), message }
}

fn join(frame: &EncodedFrame) -> Bytes {
    let bytes = Bytes::from(frame.chunks.concat());
    assert_eq!(bytes.len(), frame.len_bytes);
    bytes
}

fn every_body() -> Vec<Body> {
    let id = |term, index| LogId::new(Term(term), Index(index));
    let transfer = TransferOf { leader: ReplicaId(9), term: Term(8) };
    vec![
        Body::VoteRequest { pre: true, last: id(5, 6), transfer: Some(transfer) },
        Body::VoteRequest { pre: false, last: id(5, 6), transfer: None },
        Body::VoteReply { pre: false, granted: true, leader_alive: true },
        Body::Append {
            previous: id(2, 9),
            runs: vec![run(3, 10, &[b"ab".to_vec()])],
            commit: Index(7),
        },
        Body::Accepted { matched: Index(12) },
        Body::Rejected { previous: id(2, 9), hint: id(1, 4) },
        Body::Heartbeat { commit: Index(7), round: 3 },
        Body::HeartbeatReply { round: 3 },
        Body::ReadIndex { context: 77 },
        Body::ReadIndexReply { context: 77, index: Some(Index(13)) },
        Body::ReadIndexReply { context: 77, index: None },
        Body::TimeoutNow,
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Goal: a change of the format must show. Method: one frame per kind of message, in full, against
/// the listing in `golden.txt`; a wanted change comes with a new protocol version and a new file.
#[test]
fn golden_bytes() {
    let mut listing = String::new();
    for body in every_body() {
        let frame = join(&encode_messages(&[shard_message(0xAB, body.clone())]));
        listing += &format!("{body:?}\n{}\n", hex(&frame));
    }
    for kind in [ForwardKind::Request, ForwardKind::Reply] {
        let forward = Forward { id: 0x1234, kind, payload: Bytes::from_static(b"payload") };
        listing += &format!("{kind:?}\n{}\n", hex(&join(&encode_forwards(&[forward]))));
    }
    let parts = [Bytes::from_static(b"chunk"), Bytes::new(), Bytes::from_static(b"ok")];
    listing += &format!("Snapshot parts\n{}\n", hex(&join(&encode_snapshot_parts(&parts))));
    assert_eq!(listing, include_str!("golden.txt"), "found:\n{listing}");
}

#[test]
fn every_kind_of_message_survives_in_one_frame() {
    let bodies = every_body().into_iter().enumerate();
    let messages: Vec<_> = bodies.map(|(at, body)| shard_message(at as u64, body)).collect();
    assert_eq!(decode_frame(join(&encode_messages(&messages))), Ok(Frame::Messages(messages)));
}

/// Goal: a large run is neither copied on its way out nor on its way in.
#[test]
fn large_runs_share_memory() {
    let large = run(1, 1, &[vec![7; COPIED_BYTES_MAX]]);
    let body =
        Body::Append { previous: LogId::default(), runs: vec![large.clone()], commit: Index(0) };
    let frame = encode_messages(&[shard_message(1, body)]);
    assert_eq!(frame.chunks[1].as_ptr(), large.bytes().as_ptr());
    let received = join(&frame);
    let Ok(Frame::Messages(messages)) = decode_frame(received.clone()) else {
        panic!("a frame of messages")
    };
    let Body::Append { runs, .. } = &messages[0].message.body else { panic!("an append") };
    let offset = received.len() - large.len_bytes();
    assert_eq!(runs[0].bytes().as_ptr(), received[offset..].as_ptr());
}

#[test]
fn headers_out_of_bounds_are_refused() {
    let header = |length: u32, meta: u32| {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&meta.to_le_bytes());
        decode_header(&bytes, limits::FRAME_BYTES_MAX)
    };
    let most = u32::try_from(limits::FRAME_BYTES_MAX).unwrap();
    assert_eq!(header(most, most - 8), Ok((most as usize, most as usize - 8)));
    assert!(matches!(header(most + 1, 0), Err(FrameError::Length { .. })));
    assert!(matches!(header(7, 0), Err(FrameError::Length { .. })));
    assert!(matches!(header(100, 93), Err(FrameError::MetaLength { .. })));
    assert!(matches!(decode_frame(Bytes::from_static(b"abc")), Err(FrameError::Cut { .. })));
}

#[test]
fn runs_that_leave_a_gap_are_refused() {
    let runs = vec![run(1, 5, &[vec![1]]), run(1, 7, &[vec![2]])];
    let body = Body::Append { previous: LogId::new(Term(1), Index(4)), runs, commit: Index(0) };
    let error = decode_frame(join(&encode_messages(&[shard_message(1, body)]))).unwrap_err();
    assert_eq!(error, FrameError::RunsApart { last: Index(5), next: Index(7) });
}

/// Goal: every byte behind the meta part belongs to somebody. Method: frames with a byte too many,
/// with a run that no message names, also one of no length, and with a forward that names too many.
#[test]
fn bytes_of_nobody_are_refused() {
    let longer = |frame: &Bytes, more: u32| {
        let mut bytes = frame.to_vec();
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) + more;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes.resize(length as usize, 0);
        decode_frame(bytes.into())
    };
    let forward = Forward { id: 1, kind: ForwardKind::Reply, payload: Bytes::from_static(b"abc") };
    let forwards = join(&encode_forwards(&[forward]));
    let messages = join(&encode_messages(&[shard_message(1, Body::TimeoutNow)]));
    for (frame, expected) in [(forwards, 3), (messages, 0)] {
        assert!(longer(&frame, 0).is_ok());
        let found = expected + 1;
        assert_eq!(longer(&frame, 1), Err(FrameError::Tail { expected, found }));
    }
    let parts = join(&encode_snapshot_parts(&[Bytes::from_static(b"abc"), Bytes::new()]));
    assert!(longer(&parts, 0).is_ok());
    assert_eq!(longer(&parts, 1), Err(FrameError::Tail { expected: 3, found: 4 }));
    for run_lengths in [vec![0], vec![3, 0]] {
        let found = run_lengths.len();
        let tail = Bytes::from(vec![7; run_lengths.iter().sum::<u32>() as usize]);
        let meta = WireMeta::Messages { messages: Vec::new(), run_lengths };
        let frame = join(&encode(&meta, 64, [&tail].into_iter()));
        assert_eq!(decode_frame(frame), Err(FrameError::RunsLeft { found }));
    }
}

#[test]
fn too_many_messages_are_refused() {
    let messages = vec![shard_message(1, Body::TimeoutNow); limits::FRAME_MESSAGES_MAX + 1];
    assert_eq!(frame_count(&messages), FRAME_BYTES_TARGET / MESSAGE_META_BYTES_MAX);
    let error = decode_frame(join(&encode_messages(&messages))).unwrap_err();
    assert!(matches!(error, FrameError::Messages { .. }), "{error}");
}

/// Goal: parts beyond their bounds are refused at the gate, whether their bytes are there or not; the
/// largest one passes, in the largest frame, and is not copied.
#[test]
fn parts_of_snapshots_keep_their_bounds() {
    let max = limits::SNAPSHOT_PART_BYTES_MAX;
    let largest = Bytes::from(vec![7; max]);
    let frame = encode_snapshot_parts(std::slice::from_ref(&largest));
    assert!(frame.len_bytes <= SNAPSHOT_FRAME_BYTES_MAX, "{} bytes", frame.len_bytes);
    assert_eq!(frame.chunks[1].as_ptr(), largest.as_ptr());
    let received = join(&frame);
    let Ok(Frame::SnapshotParts(parts)) = decode_frame(received.clone()) else {
        panic!("a frame of parts")
    };
    assert_eq!(parts[0].as_ptr(), received[received.len() - max..].as_ptr());
    assert!(parts == [largest], "it arrived changed");

    let found = max + 1;
    let larger = join(&encode_snapshot_parts(&[Bytes::from(vec![7; found])]));
    assert_eq!(decode_frame(larger), Err(FrameError::SnapshotPart { found, max }));
    let meta = WireMeta::SnapshotParts { part_lengths: vec![u32::MAX] };
    let claim = decode_frame(join(&encode(&meta, 8, std::iter::empty())));
    assert_eq!(claim, Err(FrameError::SnapshotPart { found: u32::MAX as usize, max }));
    let meta = WireMeta::SnapshotParts { part_lengths: vec![max as u32] };
    let claim = decode_frame(join(&encode(&meta, 8, std::iter::empty())));
    assert_eq!(claim, Err(FrameError::Tail { expected: max, found: 0 }));

    let (max, found) = (limits::SNAPSHOT_LANE_PARTS_MAX, limits::SNAPSHOT_LANE_PARTS_MAX + 1);
    let many = vec![Bytes::new(); found];
    assert!(decode_frame(join(&encode_snapshot_parts(&many[..max]))).is_ok());
    let error = decode_frame(join(&encode_snapshot_parts(&many)));
    assert_eq!(error, Err(FrameError::Messages { found, max }));
}

#[test]
fn frames_close_at_the_target_and_hold_one_item_at_least() {
    let forward =
        |bytes| Forward { id: 1, kind: ForwardKind::Request, payload: Bytes::from(vec![0; bytes]) };
    let third = FRAME_BYTES_TARGET / 3;
    assert_eq!(frame_count(&[forward(third), forward(third), forward(third), forward(1)]), 2);
    assert_eq!(frame_count(&[forward(FRAME_BYTES_TARGET * 2), forward(1)]), 1);
    assert_eq!(frame_count::<Forward>(&[]), 0);
}

/// Goal: the room that a message is counted with is enough, or a full frame would burst.
#[test]
fn messages_stay_within_their_share() {
    let forwards =
        vec![Forward { id: 1, kind: ForwardKind::Reply, payload: Bytes::from_static(b"x") }; 1000];
    let share: usize = forwards.iter().map(Item::frame_bytes).sum();
    let room = HEADER_BYTES + META_BYTES_EXTRA;
    assert!(encode_forwards(&forwards).len_bytes <= share + room);
    let parts = vec![Bytes::from_static(b"x"); limits::SNAPSHOT_LANE_PARTS_MAX];
    let share: usize = parts.iter().map(Item::frame_bytes).sum();
    assert!(encode_snapshot_parts(&parts).len_bytes <= share + room);
    for body in every_body() {
        let messages = vec![shard_message(1, body); 100];
        let share: usize = messages.iter().map(Item::frame_bytes).sum();
        assert!(encode_messages(&messages).len_bytes <= share + room);
    }
}

fn any_message() -> impl Strategy<Value = ShardMessage> {
    let append =
        (1..1000u64, prop::collection::vec(1..40_000usize, 0..4)).prop_map(|(at, sizes)| {
            let previous = LogId::new(Term(1), Index(at));
            let runs = sizes
                .iter()
                .enumerate()
                .map(|(count, &size)| run(2, at + 1 + count as u64, &[vec![size as u8; size]]));
            Body::Append { previous, runs: runs.collect(), commit: Index(at) }
        });
    let other = (0..every_body().len()).prop_map(|at| every_body()[at].clone());
    (any::<u64>(), prop_oneof![append, other]).prop_map(|(shard, body)| shard_message(shard, body))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn messages_survive(messages in prop::collection::vec(any_message(), 0..20)) {
        let decoded = decode_frame(join(&encode_messages(&messages)));
        prop_assert_eq!(decoded, Ok(Frame::Messages(messages)));
    }

    #[test]
    fn forwards_survive(parts in prop::collection::vec((any::<u64>(), any::<bool>(), 0..40_000usize), 0..20)) {
        let forwards: Vec<_> = parts.iter().map(|&(id, reply, size)| Forward {
            id,
            kind: if reply { ForwardKind::Reply } else { ForwardKind::Request },
            payload: Bytes::from(vec![id as u8; size]),
        }).collect();
        let decoded = decode_frame(join(&encode_forwards(&forwards)));
        prop_assert_eq!(decoded, Ok(Frame::Forwards(forwards)));
    }

    #[test]
    fn parts_of_snapshots_survive(sizes in prop::collection::vec(0..40_000usize, 0..20)) {
        let parts: Vec<_> = sizes.iter().map(|&size| Bytes::from(vec![size as u8; size])).collect();
        let decoded = decode_frame(join(&encode_snapshot_parts(&parts)));
        prop_assert_eq!(decoded, Ok(Frame::SnapshotParts(parts)));
    }

    #[test]
    fn flipped_bytes_in_parts_do_not_panic(
        sizes in prop::collection::vec(0..200usize, 0..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let parts: Vec<_> = sizes.iter().map(|&size| Bytes::from(vec![size as u8; size])).collect();
        let mut bytes = join(&encode_snapshot_parts(&parts)).to_vec();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let _unless_panic = decode_frame(Bytes::from(bytes));
    }

    #[test]
    fn every_cut_is_refused(at in 0..every_body().len(), cut in any::<prop::sample::Index>()) {
        let frame = join(&encode_messages(&[shard_message(1, every_body()[at].clone())]));
        let cut = cut.index(frame.len());
        prop_assert!(decode_frame(frame.slice(..cut)).is_err());
        // The same with a header that knows of the cut, to reach the checks behind it.
        let mut forged = frame[..cut].to_vec();
        if cut >= HEADER_BYTES {
            forged[0..4].copy_from_slice(&u32::try_from(cut).unwrap().to_le_bytes());
            prop_assert!(decode_frame(Bytes::from(forged)).is_err());
        }
    }

    /// A flipped byte may give another valid message (there is TLS below), never a panic.
    #[test]
    fn flipped_bytes_do_not_panic(
        messages in prop::collection::vec(any_message(), 1..5),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let mut bytes = join(&encode_messages(&messages)).to_vec();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let _unless_panic = decode_frame(Bytes::from(bytes));
    }

    #[test]
    fn garbage_does_not_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 8..400),
        meta in any::<prop::sample::Index>(),
    ) {
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        let meta = u32::try_from(meta.index(bytes.len())).unwrap();
        bytes[4..8].copy_from_slice(&meta.to_le_bytes());
        let _unless_panic = decode_frame(Bytes::from(bytes));
    }
}
