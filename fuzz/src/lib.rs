//! What every fuzz target does: it decodes bytes that may be anything and holds what came of them
//! against its own encoding. A panic is a finding.
//!
//! The functions are apart from the targets so that `tests/tests/fuzz_replay.rs`, which includes
//! this file, runs them on a stable toolchain too.
//!
//! Checksums would stop nearly every mutated input at the gate. So each input is tried twice: as it
//! is, and sealed: with the checksums and lengths that its bytes ask for. Each function says whether
//! something was accepted: where nothing is, nothing behind the gate was tried.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_machine::{
    AppliedRecord, AppliedRecordError, ApplyContext, Envelope, KvMachine, KvReply, OrderedMap,
    StateMachine,
};
use quorate_raft::{EntryKind, Membership, Run, RunDraft, RunError};
use quorate_transport::{
    Frame, FrameError, Hello, decode_frame, encode_forwards, encode_messages, encode_snapshot_parts,
};
use quorate_types::{Index, LogId, ShardId, Term, WallMillis};

/// Damaged runs of one frame that are sealed before it is given up.
const RUNS_SEALED_MAX: usize = 8;
/// Bytes of a run before its first entry.
const RUN_HEADER_BYTES: usize = 32;

/// A frame of another node: `decode_frame`. What is accepted survives its own encoding.
pub fn frame(bytes: &[u8]) -> bool {
    let accepted = check_frame(Bytes::copy_from_slice(bytes)).is_ok();
    let Some(mut sealed) = with_frame_lengths(bytes) else { return accepted };
    for _ in 0..RUNS_SEALED_MAX {
        match check_frame(Bytes::from(sealed.clone())) {
            Err(FrameError::Run { error: RunError::Checksum { expected, found }, .. }) => {
                if !replace_run_checksum(&mut sealed, expected, found) {
                    return accepted;
                }
            }
            ended => return accepted || ended.is_ok(),
        }
    }
    accepted
}

fn check_frame(bytes: Bytes) -> Result<(), FrameError> {
    let decoded = decode_frame(bytes)?;
    let again = match &decoded {
        Frame::Messages(messages) => encode_messages(messages),
        Frame::Forwards(forwards) => encode_forwards(forwards),
        Frame::SnapshotParts(parts) => encode_snapshot_parts(parts),
    };
    let encoded = Bytes::from(again.chunks.concat());
    assert_eq!(encoded.len(), again.len_bytes, "a frame knows its length");
    assert_eq!(decode_frame(encoded).as_ref(), Ok(&decoded), "a frame survives its encoding");
    Ok(())
}

/// `bytes` with a header whose lengths fit; `None` if there is no room for one.
fn with_frame_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    let body_bytes = u32::try_from(bytes.len()).ok()?.checked_sub(8)?;
    let wanted = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
    // What fits is kept: the real lengths of a real frame above all.
    let meta_bytes = if wanted <= body_bytes { wanted } else { wanted % (body_bytes + 1) };
    let mut sealed = bytes.to_vec();
    sealed[0..4].copy_from_slice(&(body_bytes + 8).to_le_bytes());
    sealed[4..8].copy_from_slice(&meta_bytes.to_le_bytes());
    Some(sealed)
}

/// Gives the run in `frame` that stores `stored` the checksum `computed`; false if it is not found.
fn replace_run_checksum(frame: &mut [u8], stored: u32, computed: u32) -> bool {
    let mut wanted = *b"QRN1\0\0\0\0";
    wanted[4..8].copy_from_slice(&stored.to_le_bytes());
    let Some(at) = frame.windows(wanted.len()).position(|window| window == wanted) else {
        return false;
    };
    frame[at + 4..at + 8].copy_from_slice(&computed.to_le_bytes());
    true
}

/// A run of a log or of a frame: `Run::decode`. A run has exactly one encoding, and its parts are
/// runs.
pub fn run(bytes: &[u8]) -> bool {
    let accepted = check_run(Bytes::copy_from_slice(bytes)).is_ok();
    if bytes.len() < RUN_HEADER_BYTES {
        return accepted;
    }
    let mut sealed = bytes.to_vec();
    sealed[0..4].copy_from_slice(b"QRN1");
    let mut ended = check_run(Bytes::from(sealed.clone()));
    if let Err(RunError::Checksum { found, .. }) = ended {
        sealed[4..8].copy_from_slice(&found.to_le_bytes());
        ended = check_run(Bytes::from(sealed));
        assert!(!matches!(ended, Err(RunError::Checksum { .. })), "the checksum was computed");
    }
    accepted || ended.is_ok()
}

fn check_run(bytes: Bytes) -> Result<(), RunError> {
    let run = Run::decode(bytes.clone())?;
    let mut draft = RunDraft::new();
    let mut next = run.first();
    for entry in run.entries() {
        assert_eq!(entry.id, LogId::new(run.term(), next), "entries are numbered in order");
        assert_eq!(run.payload(next), entry.payload, "both ways to a payload agree");
        draft.push(entry.kind, &[entry.payload]);
        if entry.kind == EntryKind::Membership {
            assert!(run.has_membership(), "the flags tell of memberships");
            check_membership(entry.payload);
        }
        next = next.next();
    }
    assert_eq!(run.range().end, next, "the count is that of the entries");
    let again = draft.seal(run.term(), run.first());
    assert_eq!(again.bytes(), &bytes, "a run has one encoding");
    if run.count() > 1 {
        let middle = run.first().plus(run.count() / 2);
        let (head, tail) = (run.cut(run.first(), middle), run.cut(middle, next));
        assert!(head.entries().chain(tail.entries()).eq(run.entries()), "a cut keeps the entries");
        assert_eq!(Run::decode(tail.bytes().clone()), Ok(tail));
    }
    Ok(())
}

/// What entries, the data store and a new connection hold: membership, applied record, command
/// envelope, key-value command and reply, hello.
pub fn records(bytes: &[u8]) -> bool {
    let envelope = Envelope::decode(bytes).map(|(envelope, command)| {
        assert_eq!([&envelope.encode(), command].concat(), bytes, "an envelope has one encoding");
    });
    let reply = KvReply::decode(bytes).map(|reply| {
        assert_eq!(KvReply::decode(&reply.encode()), Ok(reply));
    });
    let hello = Hello::decode(bytes).map(|hello| {
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    });
    // Each is tried: no early end.
    [
        envelope.is_ok(),
        reply.is_ok(),
        hello.is_ok(),
        check_membership(bytes),
        check_applied_record(bytes),
        check_command(bytes),
    ]
    .contains(&true)
}

fn check_membership(bytes: &[u8]) -> bool {
    let membership = Membership::decode(bytes).map(|membership| {
        assert_eq!(membership.encode(), bytes, "a membership has one encoding");
    });
    membership.is_ok()
}

fn check_applied_record(bytes: &[u8]) -> bool {
    let check = |bytes: &[u8]| {
        AppliedRecord::decode(bytes).map(|record| {
            assert_eq!(AppliedRecord::decode(&record.encode()), Ok(record));
        })
    };
    let mut ended = check(bytes);
    if let Err(AppliedRecordError::Checksum { found, .. }) = ended {
        let mut sealed = bytes.to_vec();
        sealed[0..4].copy_from_slice(&found.to_le_bytes());
        ended = check(&sealed);
        assert!(
            !matches!(ended, Err(AppliedRecordError::Checksum { .. })),
            "the checksum was computed"
        );
    }
    ended.is_ok()
}

/// Whatever a log holds is applied and answered; what is no command changes nothing.
fn check_command(bytes: &[u8]) -> bool {
    let before = Map::from_iter([(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"x".to_vec())]);
    let mut map = PlainMap(before.clone());
    let id = LogId::new(Term(1), Index(1));
    let context = ApplyContext { shard: ShardId(1), id, time: WallMillis(0) };
    let reply = KvMachine.apply(context, bytes, &mut map);
    let is_known = KvReply::decode(&reply).expect("a reply can be read") != KvReply::Unknown;
    assert!(is_known || map.0 == before, "an unknown command changes nothing");
    is_known
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

struct PlainMap(Map);

impl OrderedMap for PlainMap {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).map(|value| Bytes::copy_from_slice(value))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.to_vec(), value.to_vec());
    }

    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        assert!(start < end, "an empty range is no deletion");
        self.0.retain(|key, _| key.as_slice() < start || key.as_slice() >= end);
    }

    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        for (key, value) in self.0.range(start.to_vec()..) {
            if end.is_some_and(|end| key.as_slice() >= end) || !visit(key, value) {
                return;
            }
        }
    }
}

/// A client of the Redis port: the parser and the check of every command. How the bytes are cut on
/// their way changes nothing.
pub fn redis(bytes: &[u8]) -> bool {
    let whole = quorate_node::redis::parse_untrusted(bytes, bytes.len());
    for step in [1, 7] {
        let found = quorate_node::redis::parse_untrusted(bytes, step);
        assert_eq!(found, whole, "requests found in pieces of {step} bytes, and in one");
    }
    whole > 0
}
