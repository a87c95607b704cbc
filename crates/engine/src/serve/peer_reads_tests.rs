//! Tests that reads for other nodes stay within their bounds.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::api::engine::Engine;
use crate::test_engines::{KEY, SHARD, TestEngines};

const ASKER: NodeId = NodeId(2);
const SHORT: usize = limits::PEER_SHORT_READ_BYTES_MAX;
const LONGEST: usize = limits::PEER_LONG_READS_BYTES_MAX;

/// The memory that can be reserved at once, if any.
fn room_now(read: &PeerRead, bytes: usize) -> Option<AnswerRoom> {
    match pin!(read.room(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(room) => room,
        Poll::Pending => None,
    }
}

/// Goal: nodes that release nothing don't hold up the others. Method: two nodes hold all they may;
/// a third still gets a page, and a fourth gets its short answers when nothing is left.
#[tokio::test(start_paused = true)]
async fn no_peer_has_the_room_of_all() {
    let reads = PeerReads::default();
    let asked = [1, 2, 3, 4].map(|node| reads.admit(NodeId(node), 0).expect("a place"));
    let mut held = Vec::new();
    for stuck in &asked[..2] {
        held.push(room_now(stuck, LONGEST).expect("its part"));
        assert!(room_now(stuck, SHORT + 1).is_none(), "it has all it may");
    }
    held.push(room_now(&asked[2], limits::READ_PAGE_BYTES_MAX).expect("the rest"));
    assert!(room_now(&asked[3], SHORT + 1).is_none());
    let short: Vec<AnswerRoom> =
        std::iter::from_fn(|| room_now(&asked[3], SHORT)).take(1_000).collect();
    assert_eq!(short.len(), limits::PEER_SHORT_READS_BYTES_MAX / SHORT);
    assert!(room_now(&asked[2], SHORT).is_some(), "another node's are its own");
    held.clear();
    assert!(room_now(&asked[3], LONGEST).is_some(), "all came back");
}

/// Goal: reads under way are bounded for each node, by number and by size, and those that end make
/// room.
#[tokio::test]
async fn too_many_reads_of_one_node_are_refused() {
    let reads = PeerReads::default();
    let mut places: Vec<PeerRead> =
        std::iter::from_fn(|| reads.admit(ASKER, 0)).take(100_000).collect();
    assert_eq!(places.len(), limits::PEER_REQUESTS_BYTES_MAX / TASK_BYTES);
    assert!(reads.admit(NodeId(3), 0).is_some(), "another node's are its own");
    places.pop();
    assert!(reads.admit(ASKER, 1).is_none(), "less than that is left");
    assert!(reads.admit(ASKER, 0).is_some());
    places.clear();
    let large = reads.admit(ASKER, limits::FRAME_BYTES_MAX).expect("the longest is possible");
    assert!(reads.admit(ASKER, 0).is_none());
    drop(large);
    assert!(reads.admit(ASKER, 0).is_some());
}

/// Goal: a read whose asker has given up is not done, whether it was too old before it reserved
/// memory or became so while it waited. Method: a clock that stands still unless it is moved.
#[tokio::test(start_paused = true)]
async fn reads_that_nobody_waits_for_get_no_room() {
    let reads = PeerReads::default();
    let [old, holder] = [0; 2].map(|_| reads.admit(ASKER, 0).expect("a place"));
    let held = room_now(&holder, LONGEST).expect("all there is for one");
    let waits = pin!(old.room(LONGEST));
    assert!(waits.await.is_none(), "the clock goes on to its end");
    drop(held);
    assert!(room_now(&old, 1).is_none(), "there is room, and it came too late");
    let fresh = reads.admit(ASKER, 0).expect("a place");
    assert!(room_now(&fresh, LONGEST).is_some(), "who left the queue is in nobody's way");
}

/// Reads for another node; returns the response and how much shared memory it took.
async fn read(engine: &Engine, request: ReadRequest) -> (ReadResponse, usize) {
    let running = &engine.running;
    let transport = Arc::clone(running.transport());
    let service = Arc::new(PeerService::new(Arc::clone(running.reads()), transport));
    let read = service.admit(ASKER, 0).expect("a place");
    let shards = running.dispatch().shards();
    let version = shards.get(SHARD).expect("its replica is here").version();
    let level = ReadLevel::Linearizable;
    let answer = service.read_for_peer(&read, (SHARD, version), &request, level).await;
    let (response, _room) = answer.expect("up");
    let free = read.long.available_permits();
    assert_eq!(read.account.long.available_permits(), LONGEST + free - limits::PEER_READ_BYTES_MAX);
    (response, limits::PEER_READ_BYTES_MAX - free)
}

/// Goal: an answer reserves shared memory for its real size, not for its largest possible one, and
/// a short answer reserves none. Method: values around the border, read with the largest bound.
#[tokio::test]
async fn room_is_taken_by_known_sizes() {
    let mut all = TestEngines::open(1, 1).await;
    let engine = &all.engines[0];
    let key = |name: u8| Bytes::copy_from_slice(&[KEY[0], KEY[1], name]);
    for (name, bytes) in [(b'a', SHORT), (b'b', 1), (b'c', 3 << 20)] {
        engine.put(key(name), vec![name; bytes]).await.expect("up");
    }
    let get = |names: &[u8], bytes_max| ReadRequest::Get {
        keys: names.iter().map(|name| key(*name)).collect(),
        bytes_max,
    };
    let lengths = |response: &ReadResponse| -> Vec<usize> {
        let ReadResponse::Values(values) = response else { panic!("values: {response:?}") };
        values.iter().map(|value| value.as_ref().map_or(0, Bytes::len)).collect()
    };
    let page = limits::READ_PAGE_BYTES_MAX;
    for (names, found, taken) in [
        (&b"a"[..], vec![SHORT], 0),
        (b"abx", vec![SHORT, 1, 0], SHORT + 1),
        (b"c", vec![3 << 20], 3 << 20),
        (b"bc", vec![1, 3 << 20], (3 << 20) + 1),
    ] {
        let (response, took) = read(engine, get(names, page)).await;
        assert_eq!((lengths(&response), took), (found, taken), "{names:?}");
    }
    // More than the request allows: only the lengths come, and nothing is reserved for them.
    let (response, took) = read(engine, get(b"cb", 3 << 20)).await;
    assert_eq!((response, took), (ReadResponse::Lengths(vec![Some(3 << 20), Some(1)]), 0));
    all.stop().await;
}
