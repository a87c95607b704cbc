//! Goal: queues keep their bounds, alone and all lanes of a node together, and give back exactly what
//! they took. Method: real queues, without a connection.

use bytes::Bytes;
use quorate_raft::{EntryKind, Message, RunDraft};
use quorate_types::{Index, LogId, ReplicaId, Term};

use super::*;
use crate::frame::{ForwardKind, frame_count};

fn message(shard: u64, body: Body) -> ShardMessage {
    let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(1), body };
    ShardMessage { shard: ShardId(shard), message }
}

fn accepted(shard: u64) -> ShardMessage {
    message(shard, Body::Accepted { matched: Index(1) })
}

#[test]
fn lane_heads_survive_and_others_are_refused() {
    for lane in Lane::all() {
        assert_eq!(Lane::decode(lane.encode()), Some(lane));
    }
    assert_eq!(Lane::decode([2, limits::APPEND_LANES as u8]), None);
    assert_eq!(Lane::decode([0, 0]), None);
    assert!(Lane::Control.priority() > Lane::Append(0).priority());
    assert!(Lane::Append(0).priority() > Lane::Forward.priority());
    assert!(Lane::Forward.priority() > Lane::Snapshot.priority());
}

#[test]
fn shards_spread_over_the_append_lanes() {
    let mut counts = [0; limits::APPEND_LANES];
    (0..400).for_each(|shard| counts[append_lane(ShardId(shard))] += 1);
    assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
}

/// Goal: append messages past the bound are dropped and counted, control still gets through.
#[test]
fn a_full_append_lane_drops_and_leaves_control_alone() {
    let outbox = PeerQueues::new(&Arc::default());
    assert_eq!(outbox.push_messages(vec![accepted(1)]).unconnected, 1);
    outbox.open();
    let more = 5;
    let appends = vec![accepted(1); limits::LANE_MESSAGES_MAX + more];
    assert_eq!(outbox.push_messages(appends), Offered { full: 5, ..Offered::default() });
    let lane = Lane::Append(append_lane(ShardId(1)) as u8);
    assert_eq!(outbox.messages(lane).waiting().count, limits::LANE_MESSAGES_MAX);
    let offered = outbox.push_messages(vec![message(1, Body::TimeoutNow), accepted(1)]);
    assert_eq!(offered.full, 1);
    assert_eq!(outbox.messages(Lane::Control).waiting().count, 1);
    outbox.close();
    assert_eq!(outbox.messages(lane).waiting(), Waiting::default());
}

#[test]
fn forwards_are_queued_together_or_not_at_all() {
    let outbox = PeerQueues::new(&Arc::default());
    let forward =
        |bytes| Forward { id: 1, kind: ForwardKind::Request, payload: Bytes::from(vec![0; bytes]) };
    let (error, back) = outbox.forwards().push_all(vec![forward(1)]).unwrap_err();
    assert_eq!((error, back.len()), (SendError::Unreachable, 1));
    outbox.open();
    let third = limits::LANE_BYTES_MAX / 3;
    let (error, back) = outbox.forwards().push_all(vec![forward(third); 3]).unwrap_err();
    assert_eq!((error, back.len()), (SendError::Full, 3));
    assert_eq!(outbox.forwards().waiting(), Waiting::default());
    outbox.forwards().push_all(vec![forward(third); 2]).unwrap();
    let (error, _) = outbox.forwards().push_all(vec![forward(ITEM_BYTES_MAX)]).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }));
}

/// Goal: parts of snapshots have bounds of their own, by bytes and by count, and only what the peer has
/// taken makes room. Method: parts of each size; the queue is emptied as the lane does it, and released
/// afterwards.
#[tokio::test]
async fn parts_of_snapshots_wait_within_bounds_of_their_own() {
    let room = Arc::default();
    let outbox = PeerQueues::new(&room);
    let queue = outbox.snapshots();
    let push = |bytes| {
        let pushed = queue.push_all(vec![Bytes::from(vec![7; bytes])]);
        pushed.map_err(|(error, _)| error)
    };
    assert_eq!(push(1), Err(SendError::Unreachable));
    outbox.open();
    let largest = limits::SNAPSHOT_PART_BYTES_MAX;
    assert!(matches!(push(largest + 1), Err(SendError::TooLarge { .. })));
    assert_eq!(push(largest), Ok(()));
    let chunk = limits::SNAPSHOT_CHUNK_BYTES_MAX;
    assert_eq!(push(chunk), Err(SendError::Full));
    let mut taken = Vec::new();
    queue.take(&mut taken).await;
    assert_eq!(push(chunk), Err(SendError::Full), "it was sent and not taken");
    assert_eq!(room.taken(), taken[0].frame_bytes() - limits::LANE_BYTES_OWN);
    queue.release(Waiting::of(&taken));
    assert_eq!((queue.waiting(), room.taken()), (Waiting::default(), 0));

    let usual = chunk + limits::SNAPSHOT_PART_EXTRA_BYTES;
    let fit = (0..).take_while(|_| push(usual) == Ok(())).count();
    assert_eq!(fit, limits::SNAPSHOTS_IN_FLIGHT_MAX, "a chunk of each transfer fits");
    assert_eq!(push(4 << 10), Ok(()), "and answers beside them");
    outbox.close();
    assert_eq!(room.taken(), 0);
    outbox.open();
    let fit = (0..).take_while(|_| push(1) == Ok(())).count();
    assert_eq!(fit, limits::SNAPSHOT_LANE_PARTS_MAX);
    assert_eq!(outbox.waiting().count, fit, "the sum over all lanes has them");
    let offered = outbox.push_messages(vec![accepted(1), message(1, Body::TimeoutNow)]);
    assert_eq!(offered, Offered::default(), "no other lane is full");
}

/// An append of one entry of `bytes`.
fn append(shard: u64, bytes: usize) -> ShardMessage {
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Blank, &[&vec![0; bytes]]);
    let runs = vec![draft.seal(Term(1), Index(5))];
    let previous = LogId::new(Term(1), Index(4));
    message(shard, Body::Append { previous, runs, commit: Index(1) })
}

fn lane_of_shard(shard: u64) -> Lane {
    Lane::Append(append_lane(ShardId(shard)) as u8)
}

/// Writes what waits for `queue` as a lane does, without a stream.
async fn write_all<T: Item>(queue: &Queue<T>) {
    let mut taken = Vec::new();
    queue.take(&mut taken).await;
    let mut rest = &taken[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(frame_count(rest));
        assert!(T::encode(now).len_bytes > 0);
        queue.release(Waiting::of(now));
        rest = later;
    }
}

/// Goal: what was written leaves nothing behind, or a lane would be full of nothing after some
/// gigabytes, and drop votes. Method: items of every kind through each kind of lane, more than a
/// lane's bound in all.
#[tokio::test]
async fn what_was_written_is_given_back_whole() {
    let room = Arc::default();
    let outbox = PeerQueues::new(&room);
    outbox.open();
    let (mut bytes, large) = (0, 3 << 20);
    while bytes < 2 * limits::LANE_BYTES_MAX {
        let items = [append(1, large), append(1, 10), accepted(1), message(1, Body::TimeoutNow)];
        bytes += items.iter().map(Item::frame_bytes).sum::<usize>();
        assert_eq!(outbox.push_messages(items.to_vec()), Offered::default());
        let payload = Bytes::from(vec![0; large]);
        let forward = Forward { id: 1, kind: ForwardKind::Request, payload };
        outbox.forwards().push_all(vec![forward]).expect("room");
        assert!(room.taken() > 0, "two lanes hold more than their own");
        for lane in [Lane::Control, lane_of_shard(1)] {
            write_all(outbox.messages(lane)).await;
        }
        write_all(outbox.forwards()).await;
        assert_eq!((outbox.waiting(), room.taken()), (Waiting::default(), 0));
    }
}

/// Goal: however many peers are stuck, what waits for all of them is bounded, and a peer that moves
/// gets whatever it is sent. Method: peers that are filled up; then another one, whose lane is
/// emptied after each item.
#[tokio::test]
async fn stuck_peers_hold_a_bounded_sum_and_nobody_else_up() {
    let room = Arc::default();
    let stuck: Vec<PeerQueues> = (0..12).map(|_| PeerQueues::new(&room)).collect();
    let item = 4 << 20;
    // One run for all of them: what is counted is what waits, not what is allocated here.
    stuck.iter().for_each(PeerQueues::open);
    for filler in [append(1, item), append(1, 1 << 10)] {
        for outbox in &stuck {
            while outbox.push_messages(vec![filler.clone()]).full == 0 {}
        }
    }
    assert!(room.taken() > limits::LANES_BYTES_MAX - (2 << 10), "nothing is left");
    let sum: usize = stuck.iter().map(|outbox| outbox.waiting().bytes).sum();
    assert!(room.taken() <= limits::LANES_BYTES_MAX);
    let bound = limits::LANES_BYTES_MAX + stuck.len() * (limits::LANE_BYTES_OWN + 2 * item);
    assert!(sum <= bound, "{sum} bytes wait, {bound} are allowed");
    assert!(stuck.iter().all(|outbox| outbox.waiting().count > 0), "each lane takes one");

    let moving = PeerQueues::new(&room);
    moving.open();
    for bytes in [10, limits::ENTRY_BYTES_MAX, 10, item, item] {
        // Small ones come in turns of many.
        let mut turn = vec![append(2, bytes), message(2, Body::TimeoutNow)];
        if bytes < limits::LANE_BYTES_OWN {
            turn.extend((0..1_000).flat_map(|_| [accepted(2), message(2, Body::TimeoutNow)]));
        }
        assert_eq!(moving.push_messages(turn), Offered::default(), "{bytes} bytes");
        for lane in [Lane::Control, lane_of_shard(2)] {
            write_all(moving.messages(lane)).await;
        }
    }
    for outbox in &stuck {
        outbox.close();
    }
    assert_eq!((room.taken(), moving.waiting()), (0, Waiting::default()));
    assert_eq!(stuck[0].push_messages(vec![append(1, item)]).unconnected, 1);
}

/// Goal: a message that no frame could carry is dropped and counted, and takes nothing along: encoding
/// it would end the lane. Method: one run, named often enough.
#[test]
fn what_no_frame_can_carry_is_never_queued() {
    let outbox = PeerQueues::new(&Arc::default());
    outbox.open();
    let mut large = append(1, limits::ENTRY_BYTES_MAX);
    let Body::Append { runs, .. } = &mut large.message.body else { panic!("an append") };
    *runs = vec![runs[0].clone(); 1 + limits::FRAME_BYTES_MAX / limits::ENTRY_BYTES_MAX];
    let offered = outbox.push_messages(vec![accepted(1), large, accepted(1)]);
    assert_eq!(offered, Offered { oversize: 1, ..Offered::default() });
    let small = 2 * accepted(1).frame_bytes();
    assert_eq!(outbox.waiting(), Waiting { count: 2, bytes: small });
}

/// Goal: every lane that was given something is woken, not only the first. Method: lanes that wait,
/// and one call with a message for each.
#[tokio::test]
async fn every_lane_is_woken() {
    let outbox = Arc::new(PeerQueues::new(&Arc::default()));
    outbox.open();
    let shards: Vec<u64> = (0..limits::APPEND_LANES)
        .map(|lane| (0..).find(|shard| append_lane(ShardId(*shard)) == lane).expect("spread"))
        .collect();
    let lanes = shards.iter().map(|shard| lane_of_shard(*shard)).chain([Lane::Control]);
    let waiting: Vec<_> = lanes
        .map(|lane| {
            let outbox = Arc::clone(&outbox);
            tokio::spawn(async move {
                let mut taken = Vec::new();
                outbox.messages(lane).take(&mut taken).await;
                taken.len()
            })
        })
        .collect();
    // This runtime has one thread: all of them have come to their wait.
    tokio::task::yield_now().await;
    let mut messages: Vec<_> = shards.iter().map(|shard| accepted(*shard)).collect();
    messages.push(message(1, Body::TimeoutNow));
    assert_eq!(outbox.push_messages(messages), Offered::default());
    for lane in waiting {
        let taken = tokio::time::timeout(std::time::Duration::from_secs(20), lane).await;
        assert_eq!(taken.expect("woken").expect("no panic"), 1);
    }
}
