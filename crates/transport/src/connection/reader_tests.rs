//! Goal: frames of one stream are cut as they were written, and the memory for large ones of all
//! streams is bounded. Method: real QUIC streams on loopback.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint, SendStream, TokioRuntime};
use quorate_types::{ClusterId, NodeId, limits};

use super::*;
use crate::frame::{FRAME_BYTES_TARGET, SNAPSHOT_FRAME_BYTES_MAX};
use crate::tls::certificates::{ClusterAuthority, node_name};
use crate::tls::config::quic_config;

/// Longest wait for what is sure to come.
const HANG: Duration = Duration::from_secs(20);

/// Both ends of a connection; the endpoints end with it.
struct Pair {
    ends: [Connection; 2],
    _endpoints: [Endpoint; 2],
}

async fn connect() -> Pair {
    let cluster = ClusterId(1);
    let authority = ClusterAuthority::generate(cluster).expect("certificates can be made");
    let quic = |node| {
        let tls = authority.issue(NodeId(node)).expect("a certificate");
        quic_config(&tls).expect("sound")
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = || UdpSocket::bind(any).expect("a free port");
    let (dialer, acceptor) = (quic(1), quic(2));
    let runtime = || Arc::new(TokioRuntime);
    let accepting = Endpoint::new(acceptor.endpoint, Some(acceptor.server), socket(), runtime());
    let dialing = Endpoint::new(dialer.endpoint, None, socket(), runtime());
    let (accepting, dialing) = (accepting.expect("a socket"), dialing.expect("a socket"));
    let address = accepting.local_addr().expect("bound");
    let name = node_name(NodeId(2), cluster);
    let dialed = dialing.connect_with(dialer.client, address, &name).expect("sound");
    let accepted = async { accepting.accept().await.expect("open").await.expect("TLS stands") };
    let (dialed, accepted) = tokio::join!(dialed, accepted);
    Pair { ends: [dialed.expect("TLS stands"), accepted], _endpoints: [dialing, accepting] }
}

/// The header of a frame of `length` bytes.
fn header(length: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
    header
}

impl Pair {
    /// A stream that begins with `bytes`, at both ends.
    async fn stream(&self, bytes: &[u8], room: &FrameRoom) -> (SendStream, FrameReader) {
        let mut sender = self.ends[0].open_uni().await.expect("connected");
        sender.write_all(bytes).await.expect("connected");
        let stream = self.ends[1].accept_uni().await.expect("connected");
        (sender, FrameReader::new(stream, room.clone(), limits::FRAME_BYTES_MAX))
    }
}

/// Waits until `room` has this much left.
async fn until_left(room: &FrameRoom, bytes: usize) {
    let left = async {
        while room.left() != bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(HANG, left).await;
    waited.unwrap_or_else(|_| panic!("{} bytes are left, not {bytes}", room.left()));
}

/// Goal: peers that announce large frames and send nothing get no memory beyond the bound, hold up
/// no frame of a usual size, and make room when they go.
#[tokio::test]
async fn large_frames_have_a_bounded_sum() {
    let pair = connect().await;
    let room = FrameRoom::new(limits::RECEIVING_BYTES_MAX);
    let mut silent = Vec::new();
    for _ in 0..limits::RECEIVING_BYTES_MAX / limits::FRAME_BYTES_MAX {
        let (sender, mut reader) = pair.stream(&header(limits::FRAME_BYTES_MAX), &room).await;
        let task = tokio::spawn(async move { reader.next_frame().await.map(|_| ()) });
        silent.push((sender, task));
    }
    until_left(&room, 0).await;

    let large = FRAME_BYTES_TARGET + 1;
    let frame = [&header(large)[..], &vec![7; large - HEADER_BYTES]].concat();
    let (_sender, mut late) = pair.stream(&frame, &room).await;
    let late = tokio::spawn(async move { late.next_frame().await });
    let small = [&header(40)[..], &[9; 40 - HEADER_BYTES], &header(9), &[1]].concat();
    let (_other, mut usual) = pair.stream(&small, &room).await;
    for frame in [&small[..40], &small[40..]] {
        let found = tokio::time::timeout(HANG, usual.next_frame()).await.expect("not held up");
        assert_eq!(found.expect("whole").0, frame);
    }
    assert!(!late.is_finished(), "no room for another");

    let (_sender, task) = silent.pop().expect("several");
    task.abort();
    let late = tokio::time::timeout(HANG, late).await.expect("room was made");
    let (found, place) = late.expect("no panic").expect("whole");
    assert_eq!(found, frame);
    until_left(&room, limits::FRAME_BYTES_MAX - large).await;
    drop(place);
    until_left(&room, limits::FRAME_BYTES_MAX).await;
    silent.iter().for_each(|(_, task)| task.abort());
    until_left(&room, limits::RECEIVING_BYTES_MAX).await;
}

/// Goal: a lane with smaller frames than others takes no larger one, and nothing is reserved for it.
#[tokio::test]
async fn each_lane_has_a_bound_of_its_own() {
    let pair = connect().await;
    let room = FrameRoom::new(limits::SNAPSHOTS_RECEIVING_BYTES_MAX);
    let mut sender = pair.ends[0].open_uni().await.expect("connected");
    sender.write_all(&header(SNAPSHOT_FRAME_BYTES_MAX + 1)).await.expect("connected");
    let stream = pair.ends[1].accept_uni().await.expect("connected");
    let mut reader = FrameReader::new(stream, room.clone(), SNAPSHOT_FRAME_BYTES_MAX);
    let refused = tokio::time::timeout(HANG, reader.next_frame()).await.expect("at its header");
    let reason = refused.expect_err("too large");
    assert!(reason.contains(&SNAPSHOT_FRAME_BYTES_MAX.to_string()), "{reason}");
    assert_eq!(room.left(), limits::SNAPSHOTS_RECEIVING_BYTES_MAX);
}
