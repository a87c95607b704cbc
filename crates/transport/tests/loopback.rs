//! Transports that talk over real QUIC on loopback.

mod common;

use std::net::UdpSocket;

use bytes::Bytes;
use common::{Event, Node, append, cluster, heartbeat, identities};
use quorate_raft::Body;
use quorate_transport::{BindError, Forward, ForwardKind, SendError, Transport, TransportConfig};
use quorate_types::{ClusterId, NodeId, NodeInstance, WallMillis, limits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_exchange_messages_in_order() {
    let mut nodes = cluster(2).await;
    let sent: Vec<_> = (0..500).map(|at| append(7, at * 3, 3, 100)).collect();
    for batch in sent.chunks(20) {
        nodes[0].transport.send_messages(NodeId(2), batch.to_vec());
    }
    nodes[1].transport.send_messages(NodeId(1), vec![heartbeat(1), heartbeat(2)]);
    assert_eq!(nodes[1].expect_messages(NodeId(1), sent.len()).await, sent);
    assert_eq!(nodes[0].expect_messages(NodeId(2), 2).await, [heartbeat(1), heartbeat(2)]);

    let statistics = nodes[0].transport.statistics().peers[&NodeId(2)].clone();
    assert!(statistics.connected && statistics.round_trip.is_some());
    assert_eq!((statistics.messages_sent, statistics.messages_received), (500, 2));
    assert!(statistics.udp_bytes_sent > statistics.bytes_sent);
    // The lane gives its room back a moment after the peer has the frame.
    let waits = || nodes[0].transport.statistics().peers[&NodeId(2)].clone();
    for _ in 0..1_000 {
        if (waits().waiting, waits().waiting_bytes) == (0, 0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!((waits().waiting, waits().waiting_bytes), (0, 0), "what was written has left");
    let received = nodes[1].transport.statistics().peers[&NodeId(1)].clone();
    assert_eq!(received.bytes_received, statistics.bytes_sent);
    assert_eq!(received.frames_received, statistics.frames_sent);
}

/// Goal: a run of the largest entry passes in one frame, among small ones of another shard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_entry_fits() {
    let mut nodes = cluster(2).await;
    let large = append(1, 4, 1, limits::ENTRY_BYTES_MAX);
    nodes[1].transport.send_messages(NodeId(1), vec![large.clone(), append(1, 5, 1, 10)]);
    let received = nodes[0].expect_messages(NodeId(2), 2).await;
    assert!(received[0] == large, "the large append arrived changed");
    assert_eq!(received[1], append(1, 5, 1, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_talk_in_every_direction() {
    let mut nodes = cluster(3).await;
    for from in 1..=3u64 {
        for to in (1..=3u64).filter(|&to| to != from) {
            let transport = &nodes[from as usize - 1].transport;
            transport.send_messages(NodeId(to), vec![heartbeat(from * 10 + to)]);
        }
    }
    for (to, node) in (1..).zip(&mut nodes) {
        let mut shards = Vec::new();
        while shards.len() < 2 {
            let (from, shard) = node
                .expect(|event| match event {
                    Event::Messages(from, messages) => Some((from, messages[0].shard)),
                    _ => None,
                })
                .await;
            assert_eq!(shard.0, from.0 * 10 + to);
            shards.push(shard);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwards_are_answered() {
    let mut nodes = cluster(2).await;
    let request = Forward {
        id: 9,
        kind: ForwardKind::Request,
        payload: Bytes::from_static(b"what is one and one"),
    };
    nodes[0].transport.send_forwards(NodeId(2), vec![request.clone()]).unwrap();
    assert_eq!(nodes[1].expect_forwards().await, [request]);
    let reply = Forward { id: 9, kind: ForwardKind::Reply, payload: Bytes::from_static(b"two") };
    nodes[1].transport.send_forwards(NodeId(1), vec![reply.clone()]).unwrap();
    assert_eq!(nodes[0].expect_forwards().await, [reply]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_pass_and_have_a_bound() {
    let mut nodes = cluster(2).await;
    let heartbeat = Bytes::from_static(b"alive");
    nodes[0].transport.send_datagram(NodeId(2), heartbeat.clone()).unwrap();
    let received = nodes[1].expect(|event| match event {
        Event::Datagram(from, bytes) => Some((from, bytes)),
        _ => None,
    });
    assert_eq!(received.await, (NodeId(1), heartbeat));
    let large = Bytes::from(vec![0; 60_000]);
    let error = nodes[0].transport.send_datagram(NodeId(2), large).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { found: 60_000, .. }));
    let error = nodes[0].transport.send_datagram(NodeId(9), Bytes::new()).unwrap_err();
    assert_eq!(error, SendError::Unreachable);
}

/// Goal: nothing is queued for a node that is not there, and the caller is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_an_absent_peer() {
    let node = Node::start(&identities(1)[0]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    node.transport.set_peer(NodeId(2), silent.local_addr().unwrap());
    node.transport.send_messages(NodeId(2), vec![heartbeat(1); 3]);
    node.transport.send_messages(NodeId(8), vec![heartbeat(1); 2]);
    let forward = Forward { id: 1, kind: ForwardKind::Request, payload: Bytes::new() };
    let (error, back) = node.transport.send_forwards(NodeId(2), vec![forward]).unwrap_err();
    assert_eq!((error, back.len()), (SendError::Unreachable, 1));
    assert!(!node.transport.is_connected(NodeId(2)));
    let statistics = node.transport.statistics();
    assert_eq!(statistics.peers[&NodeId(2)].messages_dropped_unconnected, 3);
    assert_eq!(statistics.peers[&NodeId(2)].waiting, 0);
    assert_eq!(statistics.messages_unknown_peer, 2);
}

/// Goal: a burst beyond the lane's bound is cut off and counted, and what was taken arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_beyond_the_bound_is_dropped_and_counted() {
    let mut nodes = cluster(2).await;
    let burst: Vec<_> = (0..100).map(|at| append(5, at, 1, limits::RUN_BYTES_MAX)).collect();
    nodes[0].transport.send_messages(NodeId(2), burst);
    let dropped = nodes[0].transport.statistics().peers[&NodeId(2)].messages_dropped_full;
    let fit = limits::LANE_BYTES_MAX / limits::RUN_BYTES_MAX;
    assert!(dropped as usize >= 100 - fit, "{dropped} of 100 dropped, {fit} fit");
    let arrived = nodes[1].expect_messages(NodeId(1), 100 - dropped as usize).await;
    for (at, message) in (0..).zip(&arrived) {
        let Body::Append { previous, .. } = &message.message.body else { panic!("an append") };
        assert_eq!(previous.index.0, at);
    }
}

/// Goal: a peer that stops and starts again on its port is found again, whichever side dials, and
/// both sides hear of the end before they hear of the new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_peer_is_found_again() {
    let identities = identities(2);
    for restarted in [0, 1] {
        let mut nodes: Vec<Node> = identities.iter().map(Node::start).collect();
        let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
        nodes[0].transport.set_peer(NodeId(2), addresses[1]);
        nodes[0].expect_connected(NodeId(2)).await;
        nodes[1].expect_connected(NodeId(1)).await;

        let gone = nodes.remove(restarted);
        let left = &mut nodes[0];
        gone.transport.shutdown().await;
        drop(gone);
        let peer = NodeId(restarted as u64 + 1);
        let reason = left.expect_disconnected(peer).await;
        assert!(reason.contains("the node is stopping"), "{reason}");
        assert!(!left.transport.is_connected(peer));

        let mut again = Node::start_at(&identities[restarted], addresses[restarted], None);
        again.transport.set_peer(NodeId(2), addresses[1]);
        left.expect_connected(peer).await;
        again.expect_connected(NodeId(2 - restarted as u64)).await;
        left.transport.send_messages(peer, vec![heartbeat(4)]);
        let own = NodeId(2 - restarted as u64);
        assert_eq!(again.expect_messages(own, 1).await, [heartbeat(4)]);
        assert_eq!(left.transport.statistics().peers[&peer].connections, 2);
    }
}

/// Goal: a node that vanished without a word is reset at once by its successor, not only after
/// the idle timeout. Method: the first process is a runtime that is torn down with its socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_peer_is_noticed_when_it_is_back() {
    let identities = identities(2);
    let mut dialer = Node::start(&identities[0]);
    let doomed =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tls = identities[1].clone();
    let killed = doomed.spawn(async move { Node::start(&tls) }).await.unwrap();
    let address = killed.address();
    dialer.transport.set_peer(NodeId(2), address);
    dialer.expect_connected(NodeId(2)).await;
    let patience = std::time::Duration::from_secs(5);
    tokio::task::spawn_blocking(move || doomed.shutdown_timeout(patience)).await.unwrap();
    // No process is left to send the goodbye.
    drop(killed);
    let mut again = Node::start_when_free(&identities[1], address).await;
    let reason = dialer.expect_disconnected(NodeId(2)).await;
    assert!(reason.contains("restarted"), "{reason}");
    dialer.expect_connected(NodeId(2)).await;
    again.expect_connected(NodeId(1)).await;
}

/// Goal: bytes that are not QUIC do not harm the nodes that talk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_do_no_harm() {
    let mut nodes = cluster(2).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..1200u32 {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + length * 7) as u8).collect();
        stranger.send_to(&bytes, nodes[1].address()).unwrap();
    }
    nodes[0].transport.send_messages(NodeId(2), vec![heartbeat(1)]);
    assert_eq!(nodes[1].expect_messages(NodeId(1), 1).await, [heartbeat(1)]);
    assert_eq!(nodes[1].transport.statistics().peers[&NodeId(1)].connections, 1);
}

#[test]
fn a_configuration_against_its_certificate_is_refused() {
    let tls = identities(1).remove(0);
    let config = |node, cluster| TransportConfig {
        cluster,
        node,
        instance: NodeInstance::default(),
        wall_clock: std::sync::Arc::new(|| WallMillis(77)),
        first_map: 0,
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: Default::default(),
        tls: tls.clone(),
    };
    let refused = |config| Transport::bind(config).err().unwrap();
    assert!(matches!(refused(config(NodeId(2), common::CLUSTER)), BindError::Node { .. }));
    assert!(matches!(refused(config(NodeId(1), ClusterId(5))), BindError::Cluster { .. }));
    let first = Transport::bind(config(NodeId(1), common::CLUSTER)).unwrap();
    let taken =
        TransportConfig { listen: first.local_address(), ..config(NodeId(1), common::CLUSTER) };
    assert!(matches!(refused(taken), BindError::Socket { .. }));
}
