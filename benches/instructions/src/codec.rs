//! The codecs: frames, runs, memberships, datagrams. Decoding includes validation, as at arrival.

use std::hint::black_box;

use bytes::Bytes;
use quorate_liveness::{
    AuditSample, BucketNumber, ChangeNumber, Datagram, Heartbeat, HeartbeatSequence, SupportEpoch,
};
use quorate_raft::{Body, Membership, Message, Run};
use quorate_transport::{EncodedFrame, ShardMessage, decode_frame, encode_messages};
use quorate_types::{Incarnation, Index, LogId, ReplicaId, ShardId, Term};

use crate::counted::count as count_case;
use crate::group::members;
use crate::{draft_of, run_of};

/// Entries of a run that is sealed and read.
const ENTRIES: usize = 64;
/// How often a small operation (a few dozen instructions) runs in one count: otherwise the cost of
/// `counted_operation` would be part of its figure.
const SMALL_TIMES: usize = 64;

pub(crate) fn count() {
    for shards in [1, 64] {
        let messages = appends(shards);
        let frame = whole(&encode_messages(&messages));
        let encode = |messages: &mut Vec<ShardMessage>, ()| encode_messages(messages);
        count_case(&format!("codec/frame-{shards}-encode"), 1, messages, |_| (), encode);
        let decode = |(): &mut (), frame| decode_frame(frame).expect("sound bytes");
        count_case(&format!("codec/frame-{shards}-decode"), 1, (), |()| frame.clone(), decode);
    }
    let seal = |(): &mut (), ()| run_of(Term(3), Index(100), ENTRIES);
    count_case("codec/run-64-seal", 1, (), |()| (), seal);
    let run = draft_of(ENTRIES).seal(Term(3), Index(100));
    count_case("codec/run-64-read", 1, (), |()| run.bytes().clone(), |(), bytes| read(bytes));

    let datagram = heartbeat();
    let bytes = datagram.encode();
    count_small("codec/heartbeat-encode", || black_box(&datagram).encode());
    count_small("codec/heartbeat-decode", || Datagram::decode(black_box(&bytes)));
    let members = members();
    let bytes = members.encode();
    count_small("codec/membership-encode", || black_box(&members).encode());
    count_small("codec/membership-decode", || Membership::decode(black_box(&bytes)));
}

fn count_small<Output>(name: &str, operate: impl Fn() -> Output) {
    let repeat = |(): &mut (), ()| {
        for _ in 0..SMALL_TIMES {
            black_box(operate());
        }
    };
    count_case(name, SMALL_TIMES, (), |()| (), repeat);
}

/// One append of one entry for each of `shards` shards.
fn appends(shards: u64) -> Vec<ShardMessage> {
    let append = |shard| {
        let runs = vec![run_of(Term(3), Index(100), 1)];
        let previous = LogId::new(Term(3), Index(99));
        let body = Body::Append { previous, runs, commit: Index(90) };
        let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(3), body };
        ShardMessage { shard: ShardId(shard), message }
    };
    (0..shards).map(append).collect()
}

fn whole(frame: &EncodedFrame) -> Bytes {
    Bytes::from(frame.chunks.concat())
}

/// Validates a run and reads every entry, as a state machine does.
fn read(bytes: Bytes) -> Run {
    let run = Run::decode(bytes).expect("sound bytes");
    run.entries().for_each(|entry| {
        black_box(entry);
    });
    run
}

fn heartbeat() -> Datagram {
    let bucket = BucketNumber::new(3).expect("there are more");
    let audit = AuditSample { bucket, change: ChangeNumber(5), count: 6, digest: 7 };
    Datagram::Heartbeat(Heartbeat {
        incarnation: Incarnation(1),
        epoch: SupportEpoch(2),
        sequence: HeartbeatSequence(3),
        support_ms: 4_000,
        audit,
    })
}
