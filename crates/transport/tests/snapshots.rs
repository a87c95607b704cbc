//! The snapshot lane between nodes that talk over real QUIC on loopback.

mod common;

use bytes::Bytes;
use common::{Event, Node, append, cluster, heartbeat};
use quorate_raft::Body;
use quorate_transport::{PeerStatistics, SendError};
use quorate_types::{NodeId, limits};

/// A chunk with its envelope, as large as they usually are.
const PART_BYTES: usize = limits::SNAPSHOT_CHUNK_BYTES_MAX + (1 << 10);

fn part(number: u8) -> Bytes {
    Bytes::from(vec![number; PART_BYTES])
}

fn statistics(node: &Node, peer: u64) -> PeerStatistics {
    node.transport.statistics().peers[&NodeId(peer)].clone()
}

/// Waits until `is_so`.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it did not come to pass that {what}");
}

/// Waits until nothing waits on any lane of `node` to `peer`.
async fn until_drained(node: &Node, peer: u64) {
    until("what was taken has left", || statistics(node, peer).waiting == 0).await;
    assert_eq!(statistics(node, peer).waiting_bytes, 0);
}

/// Offers parts 0, 1, ... until one is refused; returns how many were taken.
fn fill(node: &Node, peer: u64) -> u8 {
    for number in 0..u8::MAX {
        match node.transport.send_snapshot_part(NodeId(peer), part(number)) {
            Ok(()) => {}
            Err(SendError::Full) => return number,
            Err(error) => panic!("part {number}: {error}"),
        }
    }
    panic!("the lane has no bound");
}

/// Goal: parts of every size arrive unchanged, in order, and are counted at both ends; what can't be
/// sent is refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_arrive_in_order_and_are_counted() {
    let mut nodes = cluster(2).await;
    let largest = limits::SNAPSHOT_PART_BYTES_MAX;
    let sizes = [5, 0, PART_BYTES, 7, largest, 1];
    let sent: Vec<_> =
        (0..).zip(sizes).map(|(number, size)| Bytes::from(vec![number as u8; size])).collect();
    let mut arrived = Vec::new();
    // The largest needs the lane for itself.
    for group in [&sent[..4], &sent[4..5], &sent[5..]] {
        for part in group {
            nodes[0].transport.send_snapshot_part(NodeId(2), part.clone()).unwrap();
        }
        arrived.extend(nodes[1].expect_snapshot_parts(NodeId(1), group.len()).await);
        until_drained(&nodes[0], 2).await;
    }
    assert!(arrived == sent, "parts arrived changed");
    let answer = Bytes::from_static(b"taken");
    nodes[1].transport.send_snapshot_part(NodeId(1), answer.clone()).unwrap();
    assert_eq!(nodes[0].expect_snapshot_parts(NodeId(2), 1).await, [answer]);

    let bytes = sizes.iter().sum::<usize>() as u64;
    let (sender, receiver) = (statistics(&nodes[0], 2), statistics(&nodes[1], 1));
    assert_eq!((sender.snapshot_parts_sent, sender.snapshot_bytes_sent), (6, bytes));
    assert_eq!((receiver.snapshot_parts_received, receiver.snapshot_bytes_received), (6, bytes));
    assert_eq!((sender.snapshot_parts_received, sender.snapshot_bytes_received), (1, 5));
    assert_eq!(sender.bytes_sent, receiver.bytes_received);
    assert_eq!(sender.frames_sent, receiver.frames_received);

    let send = |to, bytes: usize| {
        nodes[0].transport.send_snapshot_part(NodeId(to), Bytes::from(vec![0; bytes]))
    };
    assert_eq!(send(9, 1), Err(SendError::Unreachable));
    assert!(matches!(send(2, largest + 1), Err(SendError::TooLarge { .. })));
}

/// Goal: an application that takes no snapshot parts holds up nothing else between the same two nodes,
/// and the lane holds no more than its bound, wherever its bytes are. Method: the parts of both
/// directions are stuck in their application, on a runtime of one thread as a node has; appends of more
/// bytes than the connection's window and control messages still pass; the lane is as full after them
/// as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn parts_that_nobody_takes_hold_up_nothing_else() {
    let mut nodes = cluster(2).await;
    let gates = [nodes[0].hold_snapshot_parts(), nodes[1].hold_snapshot_parts()];
    let filled = [fill(&nodes[0], 2), fill(&nodes[1], 1)];
    let rounds = 3 * limits::LANE_BYTES_MAX / (8 * limits::RUN_BYTES_MAX);
    for round in 0..rounds as u64 {
        for (from, to) in [(0, 1), (1, 0)] {
            let (sender, receiver) = (NodeId(from as u64 + 1), NodeId(to as u64 + 1));
            let mut sent: Vec<_> =
                (0..8).map(|shard| append(shard, round, 1, limits::RUN_BYTES_MAX)).collect();
            sent.push(heartbeat(round));
            nodes[from].transport.send_messages(receiver, sent);
            let arrived = nodes[to].expect_messages(sender, 9).await;
            let controls =
                arrived.iter().filter(|it| !matches!(it.message.body, Body::Append { .. }));
            assert_eq!(controls.collect::<Vec<_>>(), [&heartbeat(round)]);
        }
    }
    for (own, peer) in [(0, 2), (1, 1)] {
        assert_eq!(usize::from(filled[own]), limits::SNAPSHOTS_IN_FLIGHT_MAX);
        let refused = nodes[own].transport.send_snapshot_part(NodeId(peer), part(0));
        assert_eq!(refused, Err(SendError::Full), "nothing was taken");
        assert!(statistics(&nodes[own], peer).snapshot_parts_sent > 0, "it was all sent");
    }
    drop(gates);
    for (own, peer) in [(0, 2), (1, 1)] {
        let arrived = nodes[own].expect_snapshot_parts(NodeId(peer), filled[own].into()).await;
        assert!(arrived.iter().zip(0..).all(|(found, number)| *found == part(number)));
        until_drained(&nodes[own], peer).await;
        nodes[own].transport.send_snapshot_part(NodeId(peer), part(9)).unwrap();
    }
    for (own, peer) in [(0, 2), (1, 1)] {
        assert!(nodes[own].expect_snapshot_parts(NodeId(peer), 1).await == [part(9)]);
    }
}

/// Goal: a slow application gets every part in order, each makes room for one more, and what waits keeps
/// its bound meanwhile. Method: parts are let through one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_part_that_is_taken_makes_room_for_the_next() {
    let mut nodes = cluster(2).await;
    let gate = nodes[1].hold_snapshot_parts();
    let filled = fill(&nodes[0], 2);
    for number in 0..20 {
        gate.send(()).unwrap();
        assert!(nodes[1].expect_snapshot_parts(NodeId(1), 1).await == [part(number)]);
        let next = filled + number;
        while let Err(error) = nodes[0].transport.send_snapshot_part(NodeId(2), part(next)) {
            assert_eq!(error, SendError::Full, "part {next}");
            tokio::task::yield_now().await;
        }
        let waiting = statistics(&nodes[0], 2).waiting_bytes as usize;
        assert!(waiting <= limits::SNAPSHOT_LANE_BYTES_MAX, "{waiting} bytes wait");
        let refused = nodes[0].transport.send_snapshot_part(NodeId(2), part(0));
        assert_eq!(refused, Err(SendError::Full), "one was taken, one has its place");
    }
}

/// Goal: what is being handed over when the connection ends is handed over before the receiver hears of
/// the end, and what waits is dropped. Method: a part is stuck in its application when the sender goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_the_part_that_is_handed_over() {
    let mut nodes = cluster(2).await;
    let gate = nodes[1].hold_snapshot_parts();
    fill(&nodes[0], 2);
    until("a part is handed over", || statistics(&nodes[1], 1).snapshot_parts_received > 0).await;
    nodes[0].transport.shutdown().await;
    until("the end is noticed", || !nodes[1].transport.is_connected(NodeId(1))).await;
    drop(gate);
    let first = nodes[1].expect(|event| match event {
        Event::SnapshotParts(..) => Some("part"),
        Event::Disconnected(..) => Some("end"),
        _ => None,
    });
    assert_eq!(first.await, "part");
    nodes[1].expect_disconnected(NodeId(1)).await;
    assert_eq!(statistics(&nodes[0], 2).waiting, 0);
}
