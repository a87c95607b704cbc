//! Goal: the checks of untrusted bytes hold on a stable toolchain, in every test run. Method: the
//! functions of the fuzz targets run on every file of `fuzz/corpus`, and on thousands of seeded
//! mutations of each.
//!
//! The corpus begins with real encodings and damaged ones, made here. They are compared with the
//! files, so that a format can't change and leave its old bytes behind: `UPDATE_CORPUS=1 cargo test
//! -p quorate-tests --test fuzz_replay corpus` writes them anew. Further files, such as findings of
//! a fuzzer, may lie beside them.

#[expect(unreachable_pub, reason = "the same file is a library elsewhere")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use quorate_machine::{AppliedRecord, Envelope, KvCommand, KvReply, SessionId, SessionStamp};
use quorate_raft::{Body, EntryKind, Member, Membership, Message, Run, RunDraft, TransferOf};
use quorate_transport::{
    EncodedFrame, Forward, ForwardKind, Hello, ShardMessage, encode_forwards, encode_messages,
    encode_snapshot_parts,
};
use quorate_types::{
    ClusterId, Epoch, Incarnation, Index, LogId, NodeId, NodeInstance, ReplicaId, ShardId,
    SplitMix64, StoreId, Term, WallMillis,
};

/// Mutations of each file.
const MUTATIONS: u64 = 4_000;
/// Changes that one mutation makes, at most.
const CHANGES_MAX: u64 = 4;
/// Short, because people read the corpus too.
const FILE_BYTES_MAX: usize = 1_024;
/// Files that are made here, per target.
const FILES_MAX: usize = 20;
/// At least one of so many mutations of a target must pass its gate: if all are refused there,
/// nothing behind it was tried.
const ACCEPTED_OF: u64 = 20;

/// Name and bytes of each file that is made here.
type Corpus = BTreeMap<String, Vec<u8>>;

/// True if something was accepted.
type Check = fn(&[u8]) -> bool;

/// One fuzz target.
struct Target {
    name: &'static str,
    check: Check,
    make: fn() -> Corpus,
}

const TARGETS: [Target; 4] = [
    Target { name: "frame", check: targets::frame, make: frames },
    Target { name: "run", check: targets::run, make: runs },
    Target { name: "records", check: targets::records, make: records },
    Target { name: "redis", check: targets::redis, make: requests },
];

#[test]
fn the_corpus_is_what_the_encoders_give() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for Target { name: target, make, .. } in TARGETS {
        let files = make();
        assert!(files.len() <= FILES_MAX, "{target}: {} files", files.len());
        let folder = folder(target);
        if update {
            fs::create_dir_all(&folder).expect("the folder can be made");
        }
        for (name, bytes) in files {
            assert!(bytes.len() < FILE_BYTES_MAX, "{target}/{name}: {} bytes", bytes.len());
            let path = folder.join(&name);
            if update {
                fs::write(&path, &bytes).expect("the file can be written");
            }
            let found = fs::read(&path).unwrap_or_default();
            assert!(
                found == bytes,
                "{target}/{name} is not what the encoders give now; if the format was meant to \
                 change, UPDATE_CORPUS=1 writes it anew"
            );
        }
    }
}

#[test]
fn every_file_and_its_mutations_pass() {
    for Target { name: target, check, .. } in TARGETS {
        let corpus = read(target);
        assert!(!corpus.is_empty(), "{target}: no corpus");
        let others: Vec<&Vec<u8>> = corpus.values().collect();
        let mut accepted = 0;
        for (place, (name, bytes)) in corpus.iter().enumerate() {
            checked(check, &format!("{target}/{name}"), bytes);
            let mut random = SplitMix64::new(place as u64);
            for number in 0..MUTATIONS {
                let other = others[random.below(others.len() as u64) as usize];
                let mutated = mutate(bytes, other, &mut random);
                let title = format!("{target}/{name}, mutation {number}");
                accepted += u64::from(checked(check, &title, &mutated));
            }
        }
        let mutations = corpus.len() as u64 * MUTATIONS;
        println!("{target}: {accepted} of {mutations} mutations were accepted");
        assert!(accepted > mutations / ACCEPTED_OF, "{target}: only {accepted} of {mutations}");
    }
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn read(target: &str) -> Corpus {
    let entries = fs::read_dir(folder(target)).expect("the corpus is there");
    let files = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read(path).expect("readable"))
    });
    files.collect()
}

/// Prints the input whose check panics.
struct Shown<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{}: {hex}", self.name);
        }
    }
}

fn checked(check: Check, name: &str, bytes: &[u8]) -> bool {
    let _shown = Shown { name, bytes };
    check(bytes)
}

/// A few small changes; `other` gives parts that are valid in another place.
fn mutate(bytes: &[u8], other: &[u8], random: &mut SplitMix64) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(mutated.len() as u64 + 1) as usize;
        match random.below(7) {
            0 if at < mutated.len() => mutated[at] ^= 1 << random.below(8),
            1 if at < mutated.len() => mutated[at] = random.bits() as u8,
            2 => mutated.truncate(at),
            3 => mutated.insert(at, random.bits() as u8),
            4 => {
                let end = at + random.below((mutated.len() - at) as u64 + 1) as usize;
                mutated.drain(at..end);
            }
            // The numbers at which bounds and signs change.
            5 => {
                let numbers = [0, 1, u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 31];
                let number = numbers[random.below(numbers.len() as u64) as usize].to_le_bytes();
                let len = (1 << random.below(4)).min(mutated.len() - at);
                mutated[at..at + len].copy_from_slice(&number[..len]);
            }
            _ => {
                let from = random.below(other.len() as u64 + 1) as usize;
                let len = random.below((other.len() - from) as u64 + 1).min(64) as usize;
                mutated.splice(at..at, other[from..from + len].iter().copied());
            }
        }
    }
    mutated
}

fn corpus<const N: usize>(files: [(&str, Vec<u8>); N]) -> Corpus {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

fn member(replica: u64, node: u64) -> Member {
    Member { replica: ReplicaId(replica), node: NodeId(node) }
}

fn joint() -> Membership {
    Membership {
        voters: vec![member(1, 1), member(2, 2), member(4, 4)],
        outgoing: vec![member(1, 1), member(2, 2), member(3, 3)],
        learners: vec![member(5, 5)],
    }
}

fn sealed(term: u64, first: u64, entries: &[(EntryKind, &[u8])]) -> Run {
    let mut draft = RunDraft::new();
    entries.iter().for_each(|(kind, payload)| draft.push(*kind, &[payload]));
    draft.seal(Term(term), Index(first))
}

fn command() -> Vec<u8> {
    let put = KvCommand::Put { key: Bytes::from("key"), value: Bytes::from("value") };
    let leader_time = WallMillis(1_700_000_000_000);
    let envelope = Envelope { descriptor_version: 1, leader_time, session: None };
    [envelope.encode(), put.encode()].concat()
}

fn runs() -> Corpus {
    let blank = sealed(2, 2, &[(EntryKind::Blank, b"")]);
    let one = sealed(2, 3, &[(EntryKind::Command, &command())]);
    let many = sealed(3, 1_000, &[(EntryKind::Command, &command()[..]); 8]);
    let mixed = [
        (EntryKind::Blank, &b""[..]),
        (EntryKind::Membership, &joint().encode()),
        (EntryKind::Command, b""),
    ];
    let mixed = sealed(u64::MAX / 2, u64::MAX - 4, &mixed);
    let large = sealed(1, 2, &[(EntryKind::Command, &[7; 700])]);
    let bytes = many.bytes();
    let mut no_entries = bytes.to_vec();
    no_entries[24..28].copy_from_slice(&0u32.to_le_bytes());
    let mut too_many = bytes.to_vec();
    too_many[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    corpus([
        ("blank", blank.bytes().to_vec()),
        ("command", one.bytes().to_vec()),
        ("many-commands", bytes.to_vec()),
        ("membership-at-the-last-indexes", mixed.bytes().to_vec()),
        ("large-entry", large.bytes().to_vec()),
        ("damaged-magic", flipped(bytes, 1)),
        ("damaged-checksum", flipped(bytes, 5)),
        ("damaged-first-index", flipped(bytes, 17)),
        ("damaged-flags", flipped(bytes, 28)),
        ("damaged-kind", flipped(bytes, 32)),
        ("damaged-table", flipped(bytes, bytes.len() - 3)),
        ("no-entries", no_entries),
        ("too-many-entries", too_many),
        ("cut-in-the-header", bytes[..20].to_vec()),
        ("cut-in-the-table", bytes[..bytes.len() - 6].to_vec()),
        ("empty", Vec::new()),
    ])
}

fn shard_message(shard: u64, body: Body) -> ShardMessage {
    let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(3), body };
    ShardMessage { shard: ShardId(shard), message }
}

fn joined(frame: &EncodedFrame) -> Vec<u8> {
    frame.chunks.concat()
}

fn small_bodies() -> Vec<Body> {
    let transfer = TransferOf { leader: ReplicaId(9), term: Term(8) };
    vec![
        Body::VoteRequest { pre: true, last: log_id(5, 6), transfer: Some(transfer) },
        Body::VoteReply { pre: false, granted: true, leader_alive: true },
        Body::Accepted { matched: Index(12) },
        Body::Rejected { previous: log_id(2, 9), hint: log_id(1, 4) },
        Body::Heartbeat { commit: Index(7), round: 3 },
        Body::HeartbeatReply { round: 3 },
        Body::ReadIndex { context: 77 },
        Body::ReadIndexReply { context: 77, index: Some(Index(13)) },
        Body::TimeoutNow,
    ]
}

fn append(shard: u64, previous: LogId, runs: Vec<Run>) -> Vec<u8> {
    let body = Body::Append { previous, runs, commit: Index(7) };
    joined(&encode_messages(&[shard_message(shard, body)]))
}

fn frames() -> Corpus {
    let bodies = small_bodies().into_iter().enumerate();
    let small: Vec<_> = bodies.map(|(at, body)| shard_message(at as u64, body)).collect();
    let command = command();
    let run = |first| sealed(2, first, &[(EntryKind::Command, &command[..]); 2]);
    let runs = append(1, log_id(1, 9), vec![run(10), run(12)]);
    let forward = |id, kind, payload: &'static [u8]| Forward {
        id,
        kind,
        payload: Bytes::from_static(payload),
    };
    let forwards = [
        forward(1, ForwardKind::Request, b"\x01\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0x"),
        forward(2, ForwardKind::Reply, b"\x05\xff\xff\xff\xff\xff\xff\xff\xff"),
        forward(3, ForwardKind::Reply, b""),
    ];
    let forwards = joined(&encode_forwards(&forwards));
    let parts = [&b"chunk of a snapshot"[..], b"", b"taken"].map(Bytes::from_static);
    let parts = joined(&encode_snapshot_parts(&parts));
    let small = joined(&encode_messages(&small));
    let meta_bytes = u32::from_le_bytes(runs[4..8].try_into().expect("four bytes"));
    let mut long_meta = runs.clone();
    long_meta[4..8].copy_from_slice(&(meta_bytes + 4).to_le_bytes());
    let mut too_long = small.clone();
    too_long[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
    corpus([
        ("one-of-each-small-message", small.clone()),
        ("append-of-two-runs", runs.clone()),
        ("append-of-a-membership", {
            let run = sealed(2, 5, &[(EntryKind::Membership, &joint().encode())]);
            append(2, log_id(2, 4), vec![run])
        }),
        ("probe", append(3, log_id(2, 4), Vec::new())),
        ("no-messages", joined(&encode_messages(&[]))),
        ("forwards", forwards.clone()),
        ("no-forwards", joined(&encode_forwards(&[]))),
        ("snapshot-parts", parts.clone()),
        ("damaged-snapshot-parts", flipped(&parts, 9)),
        ("runs-with-a-gap", append(1, log_id(1, 9), vec![run(10), run(13)])),
        ("damaged-run", flipped(&runs, runs.len() - 20)),
        ("damaged-message", flipped(&small, 60)),
        ("damaged-root", flipped(&small, small.len() - 2)),
        ("damaged-forwards", flipped(&forwards, forwards.len() - 60)),
        ("meta-too-long", long_meta),
        ("length-too-long", too_long),
        ("cut", runs[..runs.len() - 1].to_vec()),
        ("trailing", [&runs[..], b"x"].concat()),
        ("header-only", vec![8, 0, 0, 0, 0, 0, 0, 0]),
    ])
}

fn records() -> Corpus {
    let open = AppliedRecord {
        applied: log_id(1, 1),
        epoch: Epoch { membership: 1, version: 1 },
        start: Bytes::new(),
        end: None,
        membership: Membership::of_voters([member(1, 1)]),
        clock: WallMillis(0),
    };
    let bounded = AppliedRecord {
        start: Bytes::from_static(&[0x10, 0]),
        end: Some(Bytes::from_static(&[0x20, 0])),
        membership: joint(),
        ..open.clone()
    };
    let stamp = SessionStamp { session: SessionId(5), sequence: 6 };
    let session =
        Envelope { descriptor_version: 2, leader_time: WallMillis(3), session: Some(stamp) };
    let key = || Bytes::from_static(b"a");
    let increment = KvCommand::Increment { key: key(), by: -1 };
    let swap = KvCommand::CompareAndSet { key: key(), expected: Some(key()), value: None };
    let range = KvCommand::DeleteRange { start: key(), end: Bytes::from_static(b"b") };
    let delete = KvCommand::Delete { key: key() };
    let batch = KvCommand::Batch(vec![increment.clone(), swap.clone(), delete]);
    let nested = KvCommand::Batch(vec![KvCommand::Batch(Vec::new())]);
    let replies = vec![
        KvReply::Done,
        KvReply::Deleted(1),
        KvReply::Integer(-1),
        KvReply::NotAnInteger,
        KvReply::WouldOverflow,
        KvReply::Swapped,
        KvReply::Conflict { actual: Some(key()) },
    ];
    let instance = NodeInstance { store: StoreId(9), incarnation: Incarnation(4), nonce: 5 };
    let hello = Hello::new(ClusterId(7), NodeId(1), instance, WallMillis(6)).encode();
    let mut long_hello = [&hello[..], &[9; 20]].concat();
    let length = u16::try_from(long_hello.len()).expect("short");
    long_hello[4..6].copy_from_slice(&length.to_le_bytes());
    corpus([
        ("membership", joint().encode()),
        ("membership-cut", joint().encode()[..30].to_vec()),
        ("applied-record", open.encode()),
        ("applied-record-bounded", bounded.encode()),
        ("applied-record-damaged", flipped(&bounded.encode(), 9)),
        ("envelope", command()),
        ("envelope-session", session.encode()),
        ("put", KvCommand::Put { key: key(), value: Bytes::from_static(b"7") }.encode()),
        ("increment", increment.encode()),
        ("compare-and-set", swap.encode()),
        ("delete-range", range.encode()),
        ("batch", batch.encode()),
        ("batch-nested", nested.encode()),
        ("reply-batch", KvReply::Batch(replies).encode().to_vec()),
        ("reply-conflict", KvReply::Conflict { actual: None }.encode().to_vec()),
        ("hello", hello.clone()),
        ("hello-longer", long_hello),
        ("hello-damaged", flipped(&hello, 5)),
    ])
}

fn requests() -> Corpus {
    let text = |text: &str| text.as_bytes().to_vec();
    corpus([
        ("get", text("*2\r\n$3\r\nGET\r\n$1\r\na\r\n")),
        ("set", text("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n")),
        ("set-options", text("*5\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n$2\r\nEX\r\n$2\r\n10\r\n")),
        ("pipeline", text("*1\r\n$4\r\nPING\r\nPING\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n")),
        ("mset", text("*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$4\r\n{a}b\r\n$0\r\n\r\n")),
        ("mget-del-exists", text("mget a {b}c\r\ndel a b\r\nexists a a\r\n")),
        ("incrby", text("*3\r\n$6\r\nINCRBY\r\n$1\r\nn\r\n$20\r\n-9223372036854775808\r\n")),
        (
            "scan",
            text(
                "*6\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nMATCH\r\n$2\r\na*\r\n$5\r\nCOUNT\r\n$2\r\n10\r\n",
            ),
        ),
        (
            "hello",
            text("*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$1\r\nx\r\n"),
        ),
        (
            "client-config-info",
            text("client setname me\r\nconfig get *\r\ninfo server\r\ncommand\r\n"),
        ),
        ("inline-quotes", text("set \"a\\x41\\n\\\"\" 'it\\'s \\n'\r\n")),
        ("empty-arrays", text("\r\n\n*0\r\n*-1\r\n  get   a\t b \n")),
        ("line-ends-within", text("*1\r\n$2\r\n\r\n\r\n")),
        ("oversize-argument", text("*2\r\n$3\r\nGET\r\n$8388608\r\naaaa")),
        ("too-many-arguments", text("*1048577\r\n")),
        ("negative-length", text("*1\r\n$-1\r\n")),
        ("no-bulk", text("*1\r\n:1\r\n")),
        ("no-line-end", text("*1\r\n$1\r\nab\r\n")),
        ("open-quote", text("get \"a\r\n")),
        ("cut", text("*2\r\n$3\r\nGET\r\n$1\r\n")),
    ])
}
