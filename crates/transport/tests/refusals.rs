//! Peers that must not get in, and peers that misbehave once they are in: the reason is clear on
//! both sides, and no other peer is disturbed.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{CLUSTER, Event, Node, authority, heartbeat, identities};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint};
use quorate_transport::{
    ClusterAuthority, Hello, NodeTls, Rejection, encode_messages, encode_snapshot_parts,
};
use quorate_types::{ClusterId, Incarnation, NodeId, NodeInstance, StoreId, WallMillis, limits};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

/// Bounds only a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that speaks QUIC and TLS as node `tls`, and otherwise what a test wants.
struct Rogue {
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    _endpoint: Endpoint,
}

impl Rogue {
    async fn connect(tls: &NodeTls, target: &Node, name: &str) -> Rogue {
        let client = client_config(tls, tls.authority_pem());
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connecting = endpoint.connect_with(client, target.address(), name).unwrap();
        let connection = connecting.await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Rogue { connection, send, receive, _endpoint: endpoint }
    }

    /// Says `hello` and returns the reason with which the connection is closed.
    async fn say(mut self, hello: &[u8]) -> String {
        self.send.write_all(hello).await.unwrap();
        self.closed().await
    }

    /// Goes through the hello as an honest node does.
    async fn greet(&mut self, hello: &Hello) {
        self.send.write_all(&hello.encode()).await.unwrap();
        let mut answer = [0; 112];
        self.receive.read_exact(&mut answer).await.unwrap();
        Hello::decode(&answer).unwrap();
        // A welcome that answers nothing.
        self.send.write_all(&[&b"!"[..], &[0; 16]].concat()).await.unwrap();
        let mut admitted = [0];
        self.receive.read_exact(&mut admitted).await.unwrap();
        assert_eq!(admitted, *b"!");
    }

    async fn closed(&self) -> String {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed()).await;
        match closed.expect("the connection is ended") {
            ConnectionError::ApplicationClosed(close) => {
                String::from_utf8_lossy(&close.reason).into_owned()
            }
            other => other.to_string(),
        }
    }
}

/// Makes the next admission by `node` wait: the first is told that it has begun, the last ends it.
fn hold_admission(node: &Node) -> (oneshot::Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (begun, entered) = oneshot::channel();
    let (release, wait) = std::sync::mpsc::channel();
    *node.recorder.hold.lock() = Some((begun, wait));
    (entered, release)
}

fn hello(cluster: ClusterId, node: u64) -> Hello {
    let instance = NodeInstance { store: StoreId(1), incarnation: Incarnation(1), nonce: 5 };
    Hello::new(cluster, NodeId(node), instance, WallMillis(77))
}

fn name_of(node: u64) -> String {
    format!("n{node}.{CLUSTER}.quorate")
}

/// Goal: a certificate of another authority is refused during TLS, with a hint on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_is_refused() {
    let mut server = Node::start(&authority().issue(NodeId(2)).unwrap());
    let mut stranger = Node::start(&authority().issue(NodeId(1)).unwrap());
    stranger.transport.set_peer(NodeId(2), server.address());
    let (peer, reason) = stranger.expect_refused().await;
    assert_eq!(peer, Some(NodeId(2)));
    assert!(reason.contains("certificate"), "{reason}");
    let (_, reason) = server.expect_refused().await;
    assert!(reason.contains("certificate") && reason.contains("authority"), "{reason}");
    assert!(server.transport.statistics().refused > 0);
    let failure = stranger.transport.statistics().peers[&NodeId(2)].last_failure.clone();
    assert!(failure.is_some(), "the failure is kept for the status");
}

/// Goal: a wrong entry among the peer addresses is found during TLS, and both names are shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_another_node_is_refused() {
    let identities = identities(3);
    let mut dialer = Node::start(&identities[0]);
    let mut third = Node::start(&identities[2]);
    dialer.transport.set_peer(NodeId(2), third.address());
    let (peer, reason) = dialer.expect_refused().await;
    assert_eq!(peer, Some(NodeId(2)));
    assert!(reason.contains("certificate") && reason.contains("n3."), "{reason}");
    let (_, reason) = third.expect_refused().await;
    assert!(reason.contains("TLS"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_can_refuse_in_either_role() {
    let identities = identities(2);
    for refusing in [0, 1] {
        let mut nodes: Vec<Node> = (0..2)
            .map(|at| {
                let words = "expected store 77, found 1".to_owned();
                let refusal = (at == refusing).then_some(Rejection::NotNow(words));
                Node::start_at(&identities[at], "127.0.0.1:0".parse().unwrap(), refusal)
            })
            .collect();
        let address = nodes[1].address();
        nodes[0].transport.set_peer(NodeId(2), address);
        for node in &mut nodes {
            let (_, reason) = node.expect_refused().await;
            assert!(reason.contains("expected store 77, found 1"), "{reason}");
        }
        // Once the cause is gone, the next attempt succeeds by itself.
        *nodes[refusing].recorder.refusal.lock() = None;
        nodes[0].expect_connected(NodeId(2)).await;
        nodes[1].expect_connected(NodeId(1)).await;
    }
}

/// Goal: a node whose identity is rejected hears it as such, the node that rejects it does not,
/// whichever of them dialed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_identity_is_rejected_is_told_so() {
    let identities = identities(2);
    for rejecting in [0, 1] {
        let mut nodes: Vec<Node> = (0..2)
            .map(|at| {
                let refusal = Rejection::IdentityRejected("another directory".to_owned());
                let refusal = (at == rejecting).then_some(refusal);
                Node::start_at(&identities[at], "127.0.0.1:0".parse().unwrap(), refusal)
            })
            .collect();
        let address = nodes[1].address();
        nodes[0].transport.set_peer(NodeId(2), address);
        let (_, reason) = nodes[rejecting].expect_refused().await;
        assert!(reason.contains("another directory"), "{reason}");
        let (peer, reason) = nodes[1 - rejecting].expect_identity_rejected().await;
        assert_eq!(peer, NodeId(rejecting as u64 + 1));
        assert!(reason.contains("another directory"), "{reason}");
    }
}

/// Goal: each side asks the other for the start that it has met, and gets what the other's directory
/// has of it: the nonce, or nothing. Method: both orders of dialing, each side with a memory of its
/// own; node 2 remembers a start that node 1 never had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_answers_for_the_start_that_the_other_has_met() {
    let identities = identities(2);
    for dialer in [0, 1] {
        let mut nodes: Vec<Node> = identities.iter().map(Node::start).collect();
        *nodes[0].recorder.remembered.lock() = Some(Incarnation(1));
        *nodes[1].recorder.remembered.lock() = Some(Incarnation(4));
        let address = nodes[1 - dialer].address();
        nodes[dialer].transport.set_peer(NodeId(2 - dialer as u64), address);
        let second = nodes[0].expect_connected(NodeId(2)).await;
        assert_eq!((second.asked, second.descent), (Some(Incarnation(1)), Some(5)));
        let first = nodes[1].expect_connected(NodeId(1)).await;
        assert_eq!((first.asked, first.descent), (Some(Incarnation(4)), None));
    }
}

/// Goal: when a receiver's disk holds up an admission, only that peer has to wait. Method: a
/// runtime of one thread, node 3's admission by node 1 held on a channel, messages between 1 and 2
/// meanwhile.
#[tokio::test(flavor = "current_thread")]
async fn a_slow_admission_holds_up_nobody_else() {
    let identities = identities(3);
    let mut nodes: Vec<Node> = identities.iter().map(Node::start).collect();
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    nodes[0].transport.set_peer(NodeId(2), addresses[1]);
    nodes[0].expect_connected(NodeId(2)).await;
    let (entered, release) = hold_admission(&nodes[0]);
    nodes[2].transport.set_peer(NodeId(1), addresses[0]);
    entered.await.expect("node 3 asks to be admitted");
    for round in 0..20 {
        nodes[0].transport.send_messages(NodeId(2), vec![heartbeat(round)]);
        assert_eq!(nodes[1].expect_messages(NodeId(1), 1).await, [heartbeat(round)]);
    }
    assert!(!nodes[0].transport.is_connected(NodeId(3)), "it is still held");
    release.send(()).expect("the admission waits");
    nodes[0].expect_connected(NodeId(3)).await;
}

/// Goal: a node that is shown to be a fork hears it as such, whichever of the two dialed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_told_so() {
    let identities = identities(2);
    let forked = || Some(Rejection::Forked("a restored copy".to_owned()));
    for accuser in [0, 1] {
        let mut nodes: Vec<Node> = (0..2)
            .map(|at| {
                let refusal = forked().filter(|_| at == accuser);
                Node::start_at(&identities[at], "127.0.0.1:0".parse().unwrap(), refusal)
            })
            .collect();
        let address = nodes[1].address();
        nodes[0].transport.set_peer(NodeId(2), address);
        let (peer, reason) = nodes[1 - accuser].expect_forked().await;
        assert_eq!(peer, NodeId(accuser as u64 + 1));
        assert!(reason.contains("a restored copy"), "{reason}");
    }
}

/// Goal: when two nodes take each other for forks, neither is believed. Method: both orders of
/// dialing; each must hear of a refusal and never of its own end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_no_witness() {
    let identities = identities(2);
    let mut nodes: Vec<Node> = identities
        .iter()
        .map(|tls| {
            let refusal = Some(Rejection::Forked("a restored copy".to_owned()));
            Node::start_at(tls, "127.0.0.1:0".parse().unwrap(), refusal)
        })
        .collect();
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    for dialer in [0, 1] {
        nodes[dialer].transport.set_peer(NodeId(2 - dialer as u64), addresses[1 - dialer]);
    }
    for node in &mut nodes {
        for _attempt in 0..6 {
            let (_, is_end) = node
                .expect(|event| match event {
                    Event::Refused(_, reason) => Some((reason, false)),
                    Event::Forked(_, reason) => Some((reason, true)),
                    _ => None,
                })
                .await;
            assert!(!is_end, "a fork's word ended a node");
        }
    }
}

/// Goal: a process that runs from a copy does not take the place of a live one, but does once that
/// one is gone. Method: two processes of node 1, the second as its next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_lives_keeps_its_place() {
    let identities = identities(2);
    let mut server = Node::start(&identities[1]);
    let mut original = Node::start(&identities[0]);
    original.transport.set_peer(NodeId(2), server.address());
    original.expect_connected(NodeId(2)).await;
    server.expect_connected(NodeId(1)).await;
    let instance = NodeInstance { store: StoreId(1), incarnation: Incarnation(2), nonce: 6 };
    let mut copy = Node::start_as(&identities[0], instance);
    copy.transport.set_peer(NodeId(2), server.address());
    let (_, reason) = copy.expect_refused().await;
    assert!(reason.contains("another process lives"), "{reason}");
    assert_eq!(server.transport.statistics().peers[&NodeId(1)].connections, 1);
    original.transport.shutdown().await;
    let hello = server.expect_connected(NodeId(1)).await;
    assert_eq!(hello.instance, instance);
}

/// Goal: every lie in a hello is found, and the liar and the acceptor read the same reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_hellos_are_refused() {
    let identities = identities(3);
    let mut server = Node::start(&identities[2]);
    let new = Hello { version_min: 7, version_max: 9, ..hello(CLUSTER, 1) };
    // A build without a snapshot lane.
    let old = Hello { version_min: 1, version_max: 1, ..hello(CLUSTER, 1) };
    let narrow = Hello { frame_bytes_max: 1000, ..hello(CLUSTER, 1) };
    let cases: [(Vec<u8>, &str); 8] = [
        (hello(ClusterId(0xC2), 1).encode(), "is of cluster"),
        (hello(CLUSTER, 2).encode(), "it names n1."),
        (hello(CLUSTER, 3).encode(), "it names n1."),
        (new.encode(), "speaks protocol versions 7 to 9, n3 speaks 2 to 2"),
        (old.encode(), "speaks protocol versions 1 to 1, n3 speaks 2 to 2: upgrade the older one"),
        (narrow.encode(), "frame bytes max 1000"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin with QRH1"),
        (b"QRH1\xff\xff".to_vec(), "length is out of bounds"),
    ];
    for (bytes, expected) in cases {
        let rogue = Rogue::connect(&identities[0], &server, &name_of(3)).await;
        let told = rogue.say(&bytes).await;
        assert!(told.contains(expected), "{told}, expected {expected}");
        let (_, logged) = server.expect_refused().await;
        assert_eq!(logged, told);
    }
}

/// Goal: a node with this node's own id is refused by that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialer_with_the_own_id_is_refused() {
    let identities = identities(2);
    let server = Node::start(&identities[1]);
    let rogue = Rogue::connect(&identities[1], &server, &name_of(2)).await;
    let told = rogue.say(&hello(CLUSTER, 2).encode()).await;
    assert!(told.contains("two nodes share an id"), "{told}");
}

/// Goal: a node that no peer dials, because the lower id knows no address or an old one of it,
/// dials by itself, so that it is let in or told why not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_higher_id_dials_when_it_is_not_met() {
    let identities = identities(2);
    let mut lower = Node::start(&identities[0]);
    let mut higher = Node::start(&identities[1]);
    higher.transport.set_peer(NodeId(1), lower.address());
    lower.expect_connected(NodeId(2)).await;
    higher.expect_connected(NodeId(1)).await;
}

/// Goal: a member that sends an invalid frame loses its own connection, with a reason, and no other
/// node does. Method: one kind of damage per connection, beside a healthy pair.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_close_their_connection_only() {
    let identities = identities(3);
    let mut server = Node::start(&identities[2]);
    let mut healthy = Node::start(&identities[1]);
    healthy.transport.set_peer(NodeId(3), server.address());
    healthy.expect_connected(NodeId(3)).await;

    let frame = encode_messages(&[heartbeat(1)]).chunks.concat();
    let mut flipped = frame.clone();
    flipped[8 + 32] = 0xFF; // The kind of the message.
    let oversize = (limits::FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
    let control = |bytes: &[u8]| [&[1, 0], bytes].concat();
    let parts = encode_snapshot_parts(&[Bytes::from_static(b"part")]).chunks.concat();
    let mut larger_part = parts.clone();
    larger_part[8..12].copy_from_slice(&[0xFF; 4]); // The length of the part.
    // Well within the frames of other lanes.
    let too_large = (limits::SNAPSHOT_PART_BYTES_MAX as u32 + (1 << 10)).to_le_bytes();
    let cases = [
        (control(&flipped), "meta part is malformed"),
        (control(&[oversize, oversize].concat()), "a frame has 8 to"),
        (control(&[0; 8]), "a frame has 8 to"),
        (control(&[20, 0, 0, 0, 13, 0, 0, 0]), "meta part of 13 bytes"),
        (control(&frame[..20]), "the lane was closed"),
        (vec![9, 9], "which no lane has"),
        (vec![2, limits::APPEND_LANES as u8], "which no lane has"),
        ([&[3, 0], &frame[..]].concat(), "frames of another lane"),
        (control(&parts), "frames of another lane"),
        ([&[4, 0], &parts[..]].concat(), "a stream that goes one way"),
    ]
    .map(|case| (false, case));
    let snapshots = |bytes: &[u8]| [&[4, 0], bytes].concat();
    let two_way = [
        (snapshots(&frame), "frames of another lane"),
        (snapshots(&parts[..parts.len() - 1]), "the lane was closed"),
        (snapshots(&[too_large, [0; 4]].concat()), "a frame has 8 to"),
        (snapshots(&larger_part), "part of 4294967295 bytes"),
        (control(&frame), "a stream that goes both ways"),
        (vec![4, 1], "which no lane has"),
    ]
    .map(|case| (true, case));
    for (is_two_way, (bytes, expected)) in cases.into_iter().chain(two_way) {
        let mut rogue = Rogue::connect(&identities[0], &server, &name_of(3)).await;
        rogue.greet(&hello(CLUSTER, 1)).await;
        let mut lane = if is_two_way {
            rogue.connection.open_bi().await.unwrap().0
        } else {
            rogue.connection.open_uni().await.unwrap()
        };
        lane.write_all(&bytes).await.unwrap();
        lane.finish().unwrap();
        let told = rogue.closed().await;
        assert!(told.contains(expected), "{told}, expected {expected}");
        let logged = server.expect_disconnected(NodeId(1)).await;
        assert!(logged.contains(expected), "{logged}, expected {expected}");
    }
    healthy.transport.send_messages(NodeId(3), vec![heartbeat(4)]);
    assert_eq!(server.expect_messages(NodeId(2), 1).await, [heartbeat(4)]);
    assert_eq!(healthy.transport.statistics().peers[&NodeId(3)].connections, 1);
}

/// Goal: a frame that never ends holds up nobody, and a lane opened twice is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_opened_once() {
    let identities = identities(2);
    let mut server = Node::start(&identities[1]);
    let mut rogue = Rogue::connect(&identities[0], &server, &name_of(2)).await;
    rogue.greet(&hello(CLUSTER, 1)).await;
    let mut first = rogue.connection.open_uni().await.unwrap();
    first.write_all(&[1, 0, 0, 0, 0, 1]).await.unwrap();
    let mut second = rogue.connection.open_uni().await.unwrap();
    second.write_all(&[1, 0]).await.unwrap();
    assert!(rogue.closed().await.contains("opened twice"));
    server.expect_disconnected(NodeId(1)).await;

    let mut rogue = Rogue::connect(&identities[0], &server, &name_of(2)).await;
    rogue.greet(&hello(CLUSTER, 1)).await;
    let mut first = rogue.connection.open_bi().await.unwrap();
    first.0.write_all(&[4, 0]).await.unwrap();
    let mut second = rogue.connection.open_bi().await.unwrap();
    second.0.write_all(&[4, 0]).await.unwrap();
    assert!(rogue.closed().await.contains("opened twice"));
    server.expect_disconnected(NodeId(1)).await;
}

/// Goal: a peer that acknowledges snapshot parts which it was not sent, or in other words than agreed, is
/// refused: it would make room for more than the lane may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn false_acknowledgements_are_refused() {
    let identities = identities(2);
    let mut server = Node::start(&identities[1]);
    let cases = [
        (false, "+", "more frames"),
        (true, "++", "more frames"),
        (true, "x", "acknowledged by 0x78"),
    ];
    for (is_sent, words, expected) in cases {
        let mut rogue = Rogue::connect(&identities[0], &server, &name_of(2)).await;
        rogue.greet(&hello(CLUSTER, 1)).await;
        server.expect_connected(NodeId(1)).await;
        let (mut acknowledge, mut frames) = rogue.connection.accept_bi().await.unwrap();
        let mut head = [0; 2];
        frames.read_exact(&mut head).await.unwrap();
        assert_eq!(head, [4, 0]);
        if is_sent {
            server.transport.send_snapshot_part(NodeId(1), Bytes::from_static(b"part")).unwrap();
            let mut frame = encode_snapshot_parts(&[Bytes::from_static(b"part")]).chunks.concat();
            frames.read_exact(&mut frame).await.unwrap();
        }
        acknowledge.write_all(words.as_bytes()).await.unwrap();
        let told = rogue.closed().await;
        assert!(told.contains(expected), "{told}, expected {expected}");
        server.expect_disconnected(NodeId(1)).await;
    }
}

/// Goal: a newer connection of the same node takes over, and the receiver hears of the end of the
/// old one first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_connection_replaces_the_older() {
    let identities = identities(2);
    let mut server = Node::start(&identities[1]);
    let mut older = Rogue::connect(&identities[0], &server, &name_of(2)).await;
    older.greet(&hello(CLUSTER, 1)).await;
    server.expect_connected(NodeId(1)).await;
    let mut newer = Rogue::connect(&identities[0], &server, &name_of(2)).await;
    newer.greet(&hello(CLUSTER, 1)).await;
    assert!(older.closed().await.contains("replaced by a newer connection"));
    server.expect_disconnected(NodeId(1)).await;
    server.expect_connected(NodeId(1)).await;
    assert!(server.transport.is_connected(NodeId(1)));
}

/// Goal: an authority of the right name and the wrong key does not help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_authority_is_refused_by_the_acceptor() {
    let real = authority();
    let forged = ClusterAuthority::generate(CLUSTER).unwrap();
    let mut server = Node::start(&real.issue(NodeId(2)).unwrap());
    let forged = forged.issue(NodeId(1)).unwrap();
    // The forger trusts the real authority, so only the acceptor can find the fraud.
    let client = client_config(&forged, real.certificate_pem());
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(client, server.address(), &name_of(2)).unwrap();
    // In TLS 1.3 the client finishes first; it hears of the refusal afterwards.
    let told = match connecting.await {
        Ok(connection) => connection.closed().await.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("cryptographic"), "{told}");
    let (peer, logged) = server.expect_refused().await;
    assert_eq!(peer, None);
    assert!(logged.contains("certificate"), "{logged}");
}

/// Presents `tls`, trusts `authority`.
fn client_config(tls: &NodeTls, authority: &str) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(tls.certificate_pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    crypto.alpn_protocols = vec![b"quorate/1".to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).unwrap()))
}
