//! First packets of QUIC from senders that never send another one, as an attacker can forge them.

mod common;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use common::{Event, Node, identities};
use quinn::Endpoint;
use quinn::crypto::rustls::QuicClientConfig;
use quorate_types::NodeId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// More than the handshakes that a node has at once, proven and unproven together.
const PACKETS: usize = 320;
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Bounds only a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Offset of the receiver's connection id in a first packet: its length, then the id itself.
const ID_LENGTH_AT: usize = 5;

fn connection_id(packet: &[u8]) -> &[u8] {
    &packet[ID_LENGTH_AT + 1..][..usize::from(packet[ID_LENGTH_AT])]
}

/// First packets of as many connections, made by an honest library that dials a socket which only
/// listens.
async fn first_packets(authority_pem: &str) -> Vec<Vec<u8>> {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = silent.local_addr().expect("bound");
    let mut roots = rustls::RootCertStore::empty();
    let authority =
        CertificateDer::from_pem_slice(authority_pem.as_bytes()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    crypto.alpn_protocols = vec![b"quorate/1".to_vec()];
    let crypto = QuicClientConfig::try_from(crypto).expect("a suite for QUIC");
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let (mut found, mut ids) = (Vec::new(), BTreeSet::new());
    while found.len() < PACKETS {
        // Dropped at once: it sends only its first packet, and a goodbye that reaches nobody.
        let connecting =
            endpoint.connect_with(config.clone(), address, "n.quorate").expect("dialed");
        let mut packet = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let length = silent.recv(&mut packet).await.expect("received");
            // A long header of the first kind, and of a connection not seen yet.
            if packet[0] & 0xf0 == 0xc0 && ids.insert(connection_id(&packet).to_vec()) {
                packet.truncate(length);
                break;
            }
        }
        found.push(packet);
        drop(connecting);
    }
    found
}

/// Goal: first packets of senders that never answer do not keep a node out. Method: more of them
/// than there are places, each from its own socket, and each sent once the one before was answered,
/// so that all of them have been processed; then a node that dials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoofed_first_packets_do_not_keep_a_node_out() {
    let identities = identities(2);
    let mut acceptor = Node::start(&identities[1]);
    let mut sockets = Vec::new();
    for packet in first_packets(identities[1].authority_pem()).await {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.send_to(&packet, acceptor.address()).expect("sent");
        let mut answer = [0; DATAGRAM_BYTES_MAX];
        socket.recv(&mut answer).expect("every first packet is answered");
        sockets.push(socket);
    }
    let mut dialer = Node::start(&identities[0]);
    dialer.transport.set_peer(NodeId(2), acceptor.address());
    let first = dialer.expect(Some).await;
    assert!(matches!(&first, Event::Connected(hello) if hello.node == NodeId(2)), "{first:?}");
    acceptor.expect_connected(NodeId(1)).await;
}
