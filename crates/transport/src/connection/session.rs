//! Serves one connection after the greeting, with a task per lane until it ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, ReadExactError, RecvStream, SendStream};
use quorate_types::{NodeId, limits};
use tokio::task::JoinSet;

use crate::connection::closing::{
    CODE_REPLACED, CODE_STOPPED, REPLACED, describe, malformed, write_failed,
};
use crate::connection::news::{tell_connected, tell_disconnected};
use crate::connection::reader::FrameReader;
use crate::connection::snapshots::{Delivering, read_snapshots, write_snapshots};
use crate::frame::{Frame, Item, SNAPSHOT_FRAME_BYTES_MAX, decode_frame, frame_count};
use crate::guard::{ask_blocking, guarded};
use crate::hello::PeerHello;
use crate::peer::Peer;
use crate::peer::lane::{LANE_HEAD_BYTES, Lane, Queue, Waiting};
use crate::peer::statistics::add;
use crate::receiver::Receiver;
use crate::shared::Shared;

/// Time for the hello after TLS is established.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Why the snapshot lane on a unidirectional stream is refused.
const ONE_WAY: &str = "Snapshot was opened as a stream that goes one way";
/// Room for items that a lane keeps between two batches.
const TAKEN_KEPT: usize = 4_096;

/// Serves the peer until the connection ends, and returns why. First ends a former session of the
/// same peer and waits for it, so that the receiver sees one after the other.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: Connection,
    hello: &PeerHello,
) -> String {
    let arrival = peer.arrive();
    if let Some(former) = peer.connection() {
        former.close(CODE_REPLACED, REPLACED);
    }
    let _session = peer.session.lock().await;
    peer.attach(connection.clone(), hello.instance);
    // A connection that came while this one waited saw only the former connection, or none.
    if peer.is_outdated(arrival) {
        connection.close(CODE_REPLACED, REPLACED);
    }
    tell_connected(shared.hello.node, peer, hello);
    let connected = hello.clone();
    let tell = move |receiver: &dyn Receiver| receiver.handle_connected(&connected);
    if let Err(error) = ask_blocking(&shared.receiver, "connected", tell).await {
        connection.close(CODE_STOPPED, b"this node has failed");
        tracing::error!(own = %shared.hello.node, peer = %peer.node, %error, "peer not taken");
    }
    let mut tasks = JoinSet::new();
    let delivering = Delivering::default();
    let reason = run_lanes(shared, peer, &connection, &mut tasks, &delivering).await;
    // No lane may deliver to the receiver after the receiver was told of the end.
    tasks.shutdown().await;
    peer.detach(&reason);
    drop(delivering.lock().await);
    let is_ours = shared.is_stopped() || peer.is_outdated(arrival);
    tell_disconnected(shared.hello.node, peer, &connection, &reason, is_ours);
    shared.receiver.handle_disconnected(peer.node, &reason);
    reason
}

async fn run_lanes(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: &Connection,
    tasks: &mut JoinSet<String>,
    delivering: &Delivering,
) -> String {
    for lane in Lane::all() {
        let (peer, connection) = (peer.clone(), connection.clone());
        match lane {
            Lane::Snapshot => tasks.spawn(guarded_lane(shared, write_snapshots(peer, connection))),
            _ => tasks.spawn(guarded_lane(shared, write_lane(peer, connection, lane))),
        };
    }
    let datagrams = read_datagrams(shared.receiver.clone(), peer.node, connection.clone());
    tasks.spawn(guarded_lane(shared, datagrams));
    let mut accepted = BTreeSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Err(error) => return describe(error),
                Ok(mut stream) => {
                    // A lane's head is sent with its opening, so reading it does not delay others.
                    match read_lane_head(&mut stream).await {
                        Ok(Lane::Snapshot) => return malformed(connection, ONE_WAY),
                        Ok(lane) if accepted.insert(lane) => {
                            let (receiver, room) = (shared.receiver.clone(), &shared.frame_room);
                            let reader =
                                FrameReader::new(stream, room.clone(), limits::FRAME_BYTES_MAX);
                            let reading = read_lane(receiver, peer.clone(), lane, reader);
                            tasks.spawn(guarded_lane(shared, reading));
                        }
                        Ok(lane) => {
                            return malformed(connection, &format!("{lane:?} was opened twice"));
                        }
                        Err(reason) => return malformed(connection, &reason),
                    }
                }
            },
            streams = connection.accept_bi() => match streams {
                Err(error) => return describe(error),
                Ok(streams) if accepted.insert(Lane::Snapshot) => {
                    let reading = accept_snapshots(
                        shared.clone(), peer.clone(), streams, delivering.clone(),
                    );
                    tasks.spawn(guarded_lane(shared, reading));
                }
                Ok(_) => return malformed(connection, "Snapshot was opened twice"),
            },
            Some(ended) = tasks.join_next() => {
                let reason = ended.unwrap_or_else(|error| format!("a lane's task failed: {error}"));
                // Usually the connection has ended, and its reason says more than a stream's.
                return match connection.close_reason() {
                    Some(ConnectionError::LocallyClosed) => reason,
                    Some(error) => describe(error),
                    None => malformed(connection, &reason),
                };
            }
        }
    }
}

/// Reads the one lane whose stream goes both ways, including its head.
async fn accept_snapshots(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    (acknowledgements, mut stream): (SendStream, RecvStream),
    delivering: Delivering,
) -> String {
    match read_lane_head(&mut stream).await {
        Ok(Lane::Snapshot) => {}
        Ok(lane) => return format!("{lane:?} was opened as a stream that goes both ways"),
        Err(reason) => return reason,
    }
    let room = shared.snapshot_room.clone();
    let reader = FrameReader::new(stream, room, SNAPSHOT_FRAME_BYTES_MAX);
    read_snapshots(shared.receiver.clone(), peer, acknowledgements, reader, delivering).await
}

/// Runs a lane's task; a panic is reported and becomes the reason of its end.
fn guarded_lane<F: Future<Output = String>>(
    shared: &Shared,
    body: F,
) -> impl Future<Output = String> + use<F> {
    guarded(shared.receiver.clone(), "lane", body, |panic| format!("a lane's task failed: {panic}"))
}

async fn read_lane_head(stream: &mut RecvStream) -> Result<Lane, String> {
    let mut head = [0; LANE_HEAD_BYTES];
    let read = stream.read_exact(&mut head);
    let read = tokio::time::timeout(HELLO_TIMEOUT, read).await;
    let read = read.map_err(|_| "a stream was opened without a head".to_owned())?;
    read.map_err(|error| match error {
        // The stream may see the end before the connection knows the reason.
        ReadExactError::ReadError(ReadError::ConnectionLost(error)) => describe(error),
        error => error.to_string(),
    })?;
    Lane::decode(head).ok_or_else(|| format!("a stream begins with {head:02x?}, which no lane has"))
}

async fn write_lane(peer: Arc<Peer>, connection: Connection, lane: Lane) -> String {
    let mut stream = match connection.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return describe(error),
    };
    let counters = &peer.counters;
    let ended = match stream.set_priority(lane.priority()) {
        Err(closed) => Err(closed.into()),
        Ok(()) => match stream.write_all(&lane.encode()).await {
            Err(error) => Err(error),
            Ok(()) if lane == Lane::Forward => {
                let queue = peer.outbox.forwards();
                write_items(&peer, &mut stream, queue, &counters.forwards_sent).await
            }
            Ok(()) => {
                let queue = peer.outbox.messages(lane);
                write_items(&peer, &mut stream, queue, &counters.messages_sent).await
            }
        },
    };
    match ended {
        Ok(never) => match never {},
        Err(error) => write_failed(&connection, error),
    }
}

/// Repeatedly takes everything that waits and writes it in few frames.
async fn write_items<T: Item>(
    peer: &Peer,
    stream: &mut SendStream,
    queue: &Queue<T>,
    sent: &std::sync::atomic::AtomicU64,
) -> Result<std::convert::Infallible, quinn::WriteError> {
    let mut taken = Vec::new();
    loop {
        queue.take(&mut taken).await;
        let mut rest = &taken[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(frame_count(rest));
            let mut frame = T::encode(now);
            // Counted first: the peer may receive it before this task runs again.
            add(&peer.counters.frames_sent, 1);
            add(&peer.counters.bytes_sent, frame.len_bytes as u64);
            add(sent, now.len() as u64);
            stream.write_all_chunks(&mut frame.chunks).await?;
            queue.release(Waiting::of(now));
            rest = later;
        }
        taken.clear();
        // One burst must not hold its memory forever.
        taken.shrink_to(TAKEN_KEPT);
    }
}

/// Delivers frames until one is invalid. Returns the reason and does not close the connection,
/// because the reason of the first to close it is the one reported.
async fn read_lane(
    receiver: Arc<dyn Receiver>,
    peer: Arc<Peer>,
    lane: Lane,
    mut reader: FrameReader,
) -> String {
    let counters = &peer.counters;
    loop {
        let (bytes, place) = match reader.next_frame().await {
            Ok(bytes) => bytes,
            Err(reason) => return format!("{lane:?}: {reason}"),
        };
        let length = bytes.len() as u64;
        let decoded = decode_frame(bytes);
        // Counted before delivery: a receiver that has a message finds it in the figures.
        if decoded.is_ok() {
            add(&counters.frames_received, 1);
            add(&counters.bytes_received, length);
        }
        match (decoded, lane) {
            (Ok(Frame::Messages(messages)), Lane::Control | Lane::Append(_)) => {
                add(&counters.messages_received, messages.len() as u64);
                receiver.handle_messages(peer.node, messages);
            }
            (Ok(Frame::Forwards(forwards)), Lane::Forward) => {
                add(&counters.forwards_received, forwards.len() as u64);
                receiver.handle_forwards(peer.node, forwards);
            }
            (Ok(_), lane) => return format!("{lane:?} carries frames of another lane"),
            (Err(error), lane) => return format!("{lane:?}: {error}"),
        }
        // The receiver has taken what it wants to keep.
        drop(place);
    }
}

async fn read_datagrams(
    receiver: Arc<dyn Receiver>,
    node: NodeId,
    connection: Connection,
) -> String {
    loop {
        match connection.read_datagram().await {
            Ok(bytes) => receiver.handle_datagram(node, bytes),
            Err(error) => return describe(error),
        }
    }
}
