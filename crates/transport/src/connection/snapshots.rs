//! The snapshot lane. However slow the peer's application is, the lane holds no more of the
//! connection than `limits::SNAPSHOT_LANE_BYTES_MAX`.
//!
//! All streams of a connection share its window, and whatever a stream's application has not read
//! takes room there, whatever its priority. The receiver of a snapshot writes to a disk, so here that
//! may last. The QUIC library has one window for all streams, so this lane limits itself: its stream
//! goes both ways, and the receiver acknowledges what its application has taken.
//!
//! ```text
//! sender                              receiver
//!   frame, frame, ...           ─▶    handle_snapshot_parts, which may block
//!                               ◀─    one byte for each frame that it has taken
//! ```
//!
//! A part keeps its place in the sender's queue from when it is queued until then. So the bound of
//! the queue is also that of the bytes under way and of those that the receiver has not read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use parking_lot::Mutex;
use quinn::{Connection, RecvStream, SendStream, WriteError};

use crate::connection::closing::{describe, read_failed, write_failed};
use crate::connection::reader::FrameReader;
use crate::frame::{Frame, decode_frame, encode_snapshot_parts, frame_count};
use crate::guard::ask_blocking;
use crate::peer::Peer;
use crate::peer::lane::{Lane, Waiting};
use crate::peer::statistics::add;
use crate::receiver::Receiver;

/// What the receiver writes for each frame that its application has taken.
const TAKEN: u8 = b'+';

/// Held while parts are handed over. A thread that does so can't be stopped, so the end of a session
/// waits for it.
pub(crate) type Delivering = Arc<tokio::sync::Mutex<()>>;

/// What each frame that was sent and not yet taken holds in the queue, oldest first.
type Untaken = Mutex<VecDeque<Waiting>>;

/// Sends what is queued and releases what the peer has taken. Returns the reason of its end.
pub(crate) async fn write_snapshots(peer: Arc<Peer>, connection: Connection) -> String {
    let (mut frames, taken) = match connection.open_bi().await {
        Ok(streams) => streams,
        Err(error) => return describe(error),
    };
    let untaken = Untaken::default();
    tokio::select! {
        ended = write_frames(&peer, &mut frames, &untaken) => match ended {
            Ok(never) => match never {},
            Err(error) => write_failed(&connection, error),
        },
        reason = read_taken(&peer, taken, &untaken) => reason,
    }
}

async fn write_frames(
    peer: &Peer,
    stream: &mut SendStream,
    untaken: &Untaken,
) -> Result<Infallible, WriteError> {
    // The head comes first, so that the peer need not wait for it.
    stream.set_priority(Lane::Control.priority())?;
    stream.write_all(&Lane::Snapshot.encode()).await?;
    stream.set_priority(Lane::Snapshot.priority())?;
    let (queue, counters) = (peer.outbox.snapshots(), &peer.counters);
    let mut taken = Vec::new();
    loop {
        queue.take(&mut taken).await;
        let mut rest = &taken[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(frame_count(rest));
            let mut frame = encode_snapshot_parts(now);
            untaken.lock().push_back(Waiting::of(now));
            // Counted first: the peer may receive it before this task runs again.
            add(&counters.frames_sent, 1);
            add(&counters.bytes_sent, frame.len_bytes as u64);
            add(&counters.snapshot_parts_sent, now.len() as u64);
            add(&counters.snapshot_bytes_sent, now.iter().map(|part| part.len() as u64).sum());
            stream.write_all_chunks(&mut frame.chunks).await?;
            rest = later;
        }
        taken.clear();
    }
}

async fn read_taken(peer: &Peer, mut stream: RecvStream, untaken: &Untaken) -> String {
    let lane = Lane::Snapshot;
    loop {
        let mut bytes = [0; 16];
        let count = match stream.read(&mut bytes).await {
            Ok(Some(count)) => count,
            Ok(None) => return format!("{lane:?}: the lane was closed"),
            Err(error) => return read_failed(error),
        };
        for byte in &bytes[..count] {
            if *byte != TAKEN {
                return format!("{lane:?}: a frame is acknowledged by {byte:#04x}");
            }
            let Some(frame) = untaken.lock().pop_front() else {
                return format!("{lane:?}: more frames are acknowledged than were sent");
            };
            peer.outbox.snapshots().release(frame);
        }
    }
}

/// Delivers frames until one is invalid, and acknowledges each once it is taken. Returns the reason
/// and does not close the connection, like the reader of every lane.
pub(crate) async fn read_snapshots(
    receiver: Arc<dyn Receiver>,
    peer: Arc<Peer>,
    mut acknowledgements: SendStream,
    mut reader: FrameReader,
    delivering: Delivering,
) -> String {
    let (lane, node, counters) = (Lane::Snapshot, peer.node, &peer.counters);
    // One byte a frame, for which the peer's memory waits.
    if let Err(error) = acknowledgements.set_priority(Lane::Control.priority()) {
        return format!("{lane:?}: {error}");
    }
    loop {
        let (bytes, place) = match reader.next_frame().await {
            Ok(frame) => frame,
            Err(reason) => return format!("{lane:?}: {reason}"),
        };
        let length = bytes.len() as u64;
        let parts = match decode_frame(bytes) {
            Ok(Frame::SnapshotParts(parts)) => parts,
            Ok(_) => return format!("{lane:?} carries frames of another lane"),
            Err(error) => return format!("{lane:?}: {error}"),
        };
        add(&counters.frames_received, 1);
        add(&counters.bytes_received, length);
        add(&counters.snapshot_parts_received, parts.len() as u64);
        add(&counters.snapshot_bytes_received, parts.iter().map(|part| part.len() as u64).sum());
        let held = (Arc::clone(&delivering).lock_owned().await, place);
        let deliver = move |receiver: &dyn Receiver| {
            let _held = held;
            receiver.handle_snapshot_parts(node, parts);
        };
        if let Err(error) = ask_blocking(&receiver, "snapshot lane", deliver).await {
            return format!("{lane:?}: its parts were not taken: {error}");
        }
        if let Err(error) = acknowledgements.write_all(&[TAKEN]).await {
            return match error {
                WriteError::ConnectionLost(error) => describe(error),
                error => format!("{lane:?}: {error}"),
            };
        }
    }
}
