//! Certificates that expire, become valid, and are replaced while a node runs.

mod common;

use common::{Node, authority};
use quorate_transport::{NodeTls, Validity};
use quorate_types::{NodeId, WallMillis};

/// 2020-01-01 and 2020-02-01, midnight.
const JANUARY: WallMillis = WallMillis(1_577_836_800_000);
const FEBRUARY: WallMillis = WallMillis(1_580_515_200_000);
/// 2100-01-01, midnight: before the end of no authority, so it is cut to that.
const FAR: WallMillis = WallMillis(4_102_444_800_000);

/// Starts both, lets node 1 dial, and returns what each says of the refusal.
async fn refused(dialer: &NodeTls, acceptor: &NodeTls) -> [String; 2] {
    let mut nodes = [Node::start(dialer), Node::start(acceptor)];
    let address = nodes[1].address();
    nodes[0].transport.set_peer(NodeId(2), address);
    let [dialer, acceptor] = &mut nodes;
    [dialer.expect_refused().await.1, acceptor.expect_refused().await.1]
}

/// Goal: an operator who has to renew a certificate is told so, with its date, on both machines,
/// and not that it is of another authority. Method: an expired dialer, an expired acceptor, and one
/// whose certificate is not valid yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_out_of_its_time_is_told_by_its_date() {
    let authority = authority();
    let good = |node| authority.issue(NodeId(node)).unwrap();
    let between = |node, not_before, not_after| {
        let validity = Validity { not_before, not_after };
        authority.issue_between(NodeId(node), validity).unwrap()
    };
    let told = refused(&between(1, JANUARY, FEBRUARY), &good(2)).await;
    let (own, peers) = (&told[0], &told[1]);
    assert!(own.contains("this node's certificate expired on 2020-02-01 00:00:00 UTC"), "{own}");
    assert!(peers.contains("the peer's certificate expired on 2020-02-01 00:00:00 UTC"), "{peers}");

    let told = refused(&good(1), &between(2, JANUARY, FEBRUARY)).await;
    let (peers, own) = (&told[0], &told[1]);
    assert!(own.contains("this node's certificate expired on 2020-02-01 00:00:00 UTC"), "{own}");
    assert!(peers.contains("the peer's certificate expired on 2020-02-01 00:00:00 UTC"), "{peers}");

    let end = authority.validity().not_after;
    let early = between(1, WallMillis(end.0 - 1_000), FAR);
    assert_eq!(early.validity().not_after, end, "nothing outlives its authority");
    let told = refused(&early, &good(2)).await;
    assert!(told[0].contains("this node's certificate counts from 20"), "{}", told[0]);
    assert!(told[1].contains("the peer's certificate counts from 20"), "{}", told[1]);
    for text in told {
        assert!(text.contains("clock") && !text.contains("same cluster authority"), "{text}");
    }
}

/// Goal: a running node takes new certificates: an existing connection is left alone, a new one
/// uses them, in either role; and those of another node change nothing. Method: nodes whose expired
/// certificate is replaced, and one connection that stays meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_use_new_certificates() {
    let authority = authority();
    let validity = Validity { not_before: JANUARY, not_after: FEBRUARY };
    for replaced in [1, 2] {
        let tls = |node: u64| match node == replaced {
            true => authority.issue_between(NodeId(node), validity).unwrap(),
            false => authority.issue(NodeId(node)).unwrap(),
        };
        let mut nodes = [Node::start(&tls(1)), Node::start(&tls(2))];
        let address = nodes[1].address();
        nodes[0].transport.set_peer(NodeId(2), address);
        nodes[0].expect_refused().await;

        let [dialer, acceptor] = &mut nodes;
        let node = if replaced == 1 { &*dialer } else { &*acceptor };
        assert_eq!(node.transport.validity().not_after, FEBRUARY);
        let stranger = authority.issue(NodeId(3)).unwrap();
        let refusal = node.transport.set_tls(&stranger).unwrap_err().to_string();
        assert!(refusal.contains("names"), "{refusal}");
        let renewed = authority.issue(NodeId(replaced)).unwrap();
        node.transport.set_tls(&renewed).unwrap();
        assert_eq!(node.transport.validity(), renewed.validity());
        dialer.expect_connected(NodeId(2)).await;
        acceptor.expect_connected(NodeId(1)).await;

        // Existing connections are not asked again.
        let outdated = authority.issue_between(NodeId(1), validity).unwrap();
        dialer.transport.set_tls(&outdated).unwrap();
        dialer.transport.send_messages(NodeId(2), vec![common::heartbeat(7)]);
        acceptor.expect_messages(NodeId(1), 1).await;
    }
}

/// Goal: what an authority made at an earlier time, or renewed, stays good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_authority_knows_its_nodes() {
    let authority = authority();
    let old = authority.issue(NodeId(1)).unwrap();
    let renewed = authority.renew(std::time::Duration::from_secs(3_600)).unwrap();
    let new = renewed.issue(NodeId(2)).unwrap();
    assert!(new.validity().not_after < old.validity().not_after);
    let again =
        NodeTls::from_pem(renewed.certificate_pem(), old.certificate_pem(), old.key_pem()).unwrap();
    assert_eq!(
        again.validity().not_after,
        renewed.validity().not_after,
        "the authority ends first"
    );
    let mut nodes = [Node::start(&old), Node::start(&new)];
    let address = nodes[1].address();
    nodes[0].transport.set_peer(NodeId(2), address);
    nodes[0].expect_connected(NodeId(2)).await;
    nodes[1].expect_connected(NodeId(1)).await;
}
