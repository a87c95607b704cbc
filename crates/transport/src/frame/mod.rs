//! Encodes and decodes frames, which carry many messages in few, large pieces.
//!
//! Layout, little-endian:
//!
//! ```text
//! 0        length       u32    the whole frame, this field included
//! 4        meta length  u32
//! 8        meta         rkyv: little-endian, unaligned, 32-bit offsets; wire.rs has the types
//! 8 + meta tail         the runs' (or forwards', or parts') bytes, in the order of the meta part
//! ```
//!
//! The tail is raw, so a run travels as the bytes it has in memory and on disk: the sender hands
//! out references, the receiver slices one buffer. The meta part is validated whole before any of
//! it is read, a run by its own checksum.

mod wire;

use bytes::Bytes;
use quorate_raft::{Body, Message, Run, RunError};
use quorate_types::{Index, ShardId, limits};
use rkyv::{Archived, rancor};

use crate::frame::wire::{ArchivedWireMeta, WireForward, WireMessage, WireMeta, length_of};

/// Bytes before the meta part.
pub(crate) const HEADER_BYTES: usize = 8;
/// Bytes after which a lane closes a frame. A frame's buffer lives as long as the last run sliced
/// from it, and a receiver starts on a frame when it is whole, so smaller is better for both;
/// 256 KiB, 1 MiB and 4 MiB measured the same CPU time per byte.
pub(crate) const FRAME_BYTES_TARGET: usize = 256 << 10;
/// Runs and payloads shorter than this are copied into the frame's head. The QUIC library walks
/// its list of chunks for every packet: runs of 4 KiB cost 1.28 CPU s/GB as chunks of their own
/// and 1.04 copied; from 16 KiB on it is equal, and sharing saves the memory.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Upper bound of one message in the meta part, runs' lengths left out.
const MESSAGE_META_BYTES_MAX: usize = 80;
/// Upper bound of what the meta part holds besides messages.
const META_BYTES_EXTRA: usize = 64;

const _: () = {
    assert!(FRAME_BYTES_TARGET <= limits::FRAME_BYTES_MAX);
    assert!(limits::FRAME_BYTES_MAX <= u32::MAX as usize);
    assert!(FRAME_BYTES_TARGET < SNAPSHOT_FRAME_BYTES_MAX, "one part alone is the largest");
    assert!(SNAPSHOT_ITEM_BYTES_MAX <= limits::SNAPSHOT_LANE_BYTES_MAX, "each part fits the lane");
    assert!(
        4 * SNAPSHOT_FRAME_BYTES_MAX <= limits::SNAPSHOTS_RECEIVING_BYTES_MAX,
        "four of the largest parts can be received at once"
    );
};

/// One message of one shard, on its way between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMessage {
    /// The shard both replicas belong to.
    pub shard: ShardId,
    /// What one replica says to the other.
    pub message: Message,
}

/// The direction of a [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardKind {
    /// A request.
    Request,
    /// The response to the request of the same id.
    Reply,
}

/// A request or a response on the forward lane; the payload is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Chosen by the sender of the request; matches the response to it.
    pub id: u64,
    /// Request or response.
    pub kind: ForwardKind,
    /// The engine's bytes.
    pub payload: Bytes,
}

/// The contents of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// From the control lane or an append lane.
    Messages(Vec<ShardMessage>),
    /// From the forward lane.
    Forwards(Vec<Forward>),
    /// From the snapshot lane; the parts are opaque here.
    SnapshotParts(Vec<Bytes>),
}

/// The bytes are not a valid frame. Their connection is closed, because the start of the next frame
/// is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is out of bounds.
    #[error(
        "frame of {found} bytes, a frame has {HEADER_BYTES} to {max}: no frame, or other limits"
    )]
    Length {
        /// As the header says.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Fewer or more bytes than the header says.
    #[error("frame has {found} bytes, its header says {expected}")]
    Cut {
        /// As the header says.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// The meta part does not end within the frame.
    #[error("meta part of {found} bytes in a frame of {frame} bytes")]
    MetaLength {
        /// As the header says.
        found: usize,
        /// Length of the frame.
        frame: usize,
    },
    /// The meta part failed its validation.
    #[error("meta part is malformed: {detail}")]
    Meta {
        /// What the validation said.
        detail: String,
    },
    /// More messages than a frame may have.
    #[error("frame of {found} messages, at most {max} are allowed")]
    Messages {
        /// Messages there.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A part of a snapshot transfer is too large.
    #[error("part of {found} bytes of a snapshot transfer, at most {max} are allowed")]
    SnapshotPart {
        /// Bytes named by the meta part.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A run is damaged.
    #[error("run {position} of the frame: {error}")]
    Run {
        /// Which one, counted from 0.
        position: usize,
        /// What is wrong with it.
        error: RunError,
    },
    /// A message claims more runs than the frame has.
    #[error("a message names more runs than the frame has")]
    RunsMissing,
    /// The frame has runs that no message claims.
    #[error("{found} runs of the frame belong to no message")]
    RunsLeft {
        /// How many.
        found: usize,
    },
    /// A message's runs don't follow each other.
    #[error("a run at index {next} follows index {last}: not contiguous")]
    RunsApart {
        /// Last index before the run.
        last: Index,
        /// First index of the run.
        next: Index,
    },
    /// The lengths in the meta part don't add up to the tail.
    #[error("the meta part accounts for {expected} bytes of payload, the frame has {found}")]
    Tail {
        /// Bytes named by the meta part.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
}

/// An encoded frame: the concatenation of `chunks`, some of which are the runs' own memory.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// In order.
    pub chunks: Vec<Bytes>,
    /// Sum of the chunks' lengths.
    pub len_bytes: usize,
}

/// What a lane carries: it can be measured before it is sent, and encoded in batches.
pub(crate) trait Item: Send + 'static {
    /// Upper bound of its share of a frame.
    fn frame_bytes(&self) -> usize;
    /// Encodes all `items` as one frame; the caller must have kept to the limits.
    fn encode(items: &[Self]) -> EncodedFrame
    where
        Self: Sized;
}

impl Item for ShardMessage {
    fn frame_bytes(&self) -> usize {
        let runs = runs_of(self).iter().map(|run| run.len_bytes() + 4).sum::<usize>();
        MESSAGE_META_BYTES_MAX + runs
    }

    fn encode(items: &[ShardMessage]) -> EncodedFrame {
        encode_messages(items)
    }
}

impl Item for Forward {
    fn frame_bytes(&self) -> usize {
        MESSAGE_META_BYTES_MAX + self.payload.len()
    }

    fn encode(items: &[Forward]) -> EncodedFrame {
        encode_forwards(items)
    }
}

/// A part of a snapshot transfer.
impl Item for Bytes {
    fn frame_bytes(&self) -> usize {
        MESSAGE_META_BYTES_MAX + self.len()
    }

    fn encode(items: &[Bytes]) -> EncodedFrame {
        encode_snapshot_parts(items)
    }
}

/// Largest [`Item::frame_bytes`] that fits a frame.
pub(crate) const ITEM_BYTES_MAX: usize = limits::FRAME_BYTES_MAX - HEADER_BYTES - META_BYTES_EXTRA;
/// Largest [`Item::frame_bytes`] of a part of a snapshot transfer.
pub(crate) const SNAPSHOT_ITEM_BYTES_MAX: usize =
    MESSAGE_META_BYTES_MAX + limits::SNAPSHOT_PART_BYTES_MAX;
/// Bytes of one frame on the snapshot lane.
pub(crate) const SNAPSHOT_FRAME_BYTES_MAX: usize =
    HEADER_BYTES + META_BYTES_EXTRA + SNAPSHOT_ITEM_BYTES_MAX;

/// How many of `items`, from the first, make the next frame: at least one if there is one.
pub(crate) fn frame_count<T: Item>(items: &[T]) -> usize {
    let most = items.len().min(limits::FRAME_MESSAGES_MAX);
    let mut bytes = 0;
    for (count, item) in items[..most].iter().enumerate() {
        bytes += item.frame_bytes();
        if bytes > FRAME_BYTES_TARGET {
            return count.max(1);
        }
    }
    most
}

/// Encodes one frame of messages, for a benchmark or a test; a lane does it by itself.
///
/// # Panics
/// If the frame would pass `limits::FRAME_BYTES_MAX`.
#[must_use]
pub fn encode_messages(messages: &[ShardMessage]) -> EncodedFrame {
    let mut run_lengths = Vec::new();
    let mirrored =
        messages.iter().map(|message| WireMessage::new(message, &mut run_lengths)).collect();
    let meta_guess = messages.len() * MESSAGE_META_BYTES_MAX + run_lengths.len() * 4;
    let meta = WireMeta::Messages { messages: mirrored, run_lengths };
    let tail = messages.iter().flat_map(runs_of).map(Run::bytes);
    encode(&meta, meta_guess, tail)
}

/// Encodes one frame of forwards.
///
/// # Panics
/// If the frame would pass `limits::FRAME_BYTES_MAX`.
#[must_use]
pub fn encode_forwards(forwards: &[Forward]) -> EncodedFrame {
    let mirrored = forwards.iter().map(WireForward::new).collect();
    let meta = WireMeta::Forwards { forwards: mirrored };
    let tail = forwards.iter().map(|forward| &forward.payload);
    encode(&meta, forwards.len() * MESSAGE_META_BYTES_MAX, tail)
}

/// Encodes one frame of parts of snapshot transfers.
///
/// # Panics
/// If the frame would pass `limits::FRAME_BYTES_MAX`.
#[must_use]
pub fn encode_snapshot_parts(parts: &[Bytes]) -> EncodedFrame {
    let part_lengths = parts.iter().map(|part| length_of(part.len())).collect();
    encode(&WireMeta::SnapshotParts { part_lengths }, parts.len() * 4, parts.iter())
}

/// Decodes and validates a whole frame, header included. Payloads share the memory of `bytes`.
///
/// # Errors
/// [`FrameError`] for any bytes that were not encoded here. Never panics, and allocates in
/// proportion to `bytes` only.
pub fn decode_frame(bytes: Bytes) -> Result<Frame, FrameError> {
    let header = bytes.first_chunk::<HEADER_BYTES>();
    let header = header.ok_or(FrameError::Cut { expected: HEADER_BYTES, found: bytes.len() })?;
    let (length, meta_length) = decode_header(header, limits::FRAME_BYTES_MAX)?;
    if length != bytes.len() {
        return Err(FrameError::Cut { expected: length, found: bytes.len() });
    }
    let tail = bytes.slice(HEADER_BYTES + meta_length..);
    let meta = &bytes[HEADER_BYTES..HEADER_BYTES + meta_length];
    let meta = rkyv::access::<ArchivedWireMeta, rancor::Error>(meta)
        .map_err(|error| FrameError::Meta { detail: error.to_string() })?;
    match meta {
        ArchivedWireMeta::Messages { messages, run_lengths } => {
            check_count(messages.len(), limits::FRAME_MESSAGES_MAX)?;
            let mut runs = Runs { lengths: run_lengths.iter(), tail, at: 0, position: 0 };
            let restore = messages.iter().map(|message| message.restore(&mut runs));
            let messages = restore.collect::<Result<Vec<_>, _>>()?;
            runs.finish()?;
            Ok(Frame::Messages(messages))
        }
        ArchivedWireMeta::Forwards { forwards } => {
            check_count(forwards.len(), limits::FRAME_MESSAGES_MAX)?;
            let mut at = 0;
            let restore = forwards.iter().map(|forward| {
                let payload = take(&tail, &mut at, forward.payload_bytes())?;
                Ok(Forward { id: forward.id(), kind: forward.kind(), payload })
            });
            let forwards = restore.collect::<Result<Vec<_>, FrameError>>()?;
            check_tail(at, tail.len())?;
            Ok(Frame::Forwards(forwards))
        }
        ArchivedWireMeta::SnapshotParts { part_lengths } => {
            check_count(part_lengths.len(), limits::SNAPSHOT_LANE_PARTS_MAX)?;
            let mut at = 0;
            let restore = part_lengths.iter().map(|length| {
                let (found, max) = (length.to_native() as usize, limits::SNAPSHOT_PART_BYTES_MAX);
                if found > max {
                    return Err(FrameError::SnapshotPart { found, max });
                }
                take(&tail, &mut at, found)
            });
            let parts = restore.collect::<Result<Vec<_>, _>>()?;
            check_tail(at, tail.len())?;
            Ok(Frame::SnapshotParts(parts))
        }
    }
}

/// The lengths of the frame, of at most `max` bytes, and of its meta part, both within bounds: before
/// this check nothing is allocated for a frame.
pub(crate) fn decode_header(
    header: &[u8; HEADER_BYTES],
    max: usize,
) -> Result<(usize, usize), FrameError> {
    let field = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
    };
    let (length, meta_length) = (field(0), field(4));
    if !(HEADER_BYTES..=max).contains(&length) {
        return Err(FrameError::Length { found: length, max });
    }
    if meta_length > length - HEADER_BYTES {
        return Err(FrameError::MetaLength { found: meta_length, frame: length });
    }
    Ok((length, meta_length))
}

fn runs_of(message: &ShardMessage) -> &[Run] {
    match &message.message.body {
        Body::Append { runs, .. } => runs,
        _ => &[],
    }
}

fn encode<'a>(
    meta: &WireMeta,
    meta_guess: usize,
    tail: impl Iterator<Item = &'a Bytes> + Clone,
) -> EncodedFrame {
    let copied = tail.clone().map(Bytes::len).filter(|&length| length < COPIED_BYTES_MAX);
    let room = HEADER_BYTES + meta_guess + META_BYTES_EXTRA + copied.sum::<usize>();
    let mut head = Vec::with_capacity(room);
    head.extend_from_slice(&[0; HEADER_BYTES]);
    let mut head = rkyv::api::high::to_bytes_in::<_, rancor::Error>(meta, head)
        .expect("plain values are written to memory, which does not fail");
    let meta_length = head.len() - HEADER_BYTES;
    let length = head.len() + tail.clone().map(Bytes::len).sum::<usize>();
    assert!(length <= limits::FRAME_BYTES_MAX, "a frame of {length} bytes is above its bound");
    let field = |value: usize| u32::try_from(value).expect("below the bound").to_le_bytes();
    head[0..4].copy_from_slice(&field(length));
    head[4..8].copy_from_slice(&field(meta_length));
    let mut chunks = Vec::new();
    for bytes in tail {
        if bytes.len() < COPIED_BYTES_MAX {
            head.extend_from_slice(bytes);
            continue;
        }
        if !head.is_empty() {
            chunks.push(Bytes::from(std::mem::take(&mut head)));
        }
        chunks.push(bytes.clone());
    }
    if !head.is_empty() {
        chunks.push(Bytes::from(head));
    }
    EncodedFrame { chunks, len_bytes: length }
}

/// The runs of a frame, each validated when it is asked for.
struct Runs<'a> {
    lengths: std::slice::Iter<'a, Archived<u32>>,
    tail: Bytes,
    at: usize,
    position: usize,
}

impl Runs<'_> {
    fn finish(self) -> Result<(), FrameError> {
        if !self.lengths.as_slice().is_empty() {
            return Err(FrameError::RunsLeft { found: self.lengths.as_slice().len() });
        }
        check_tail(self.at, self.tail.len())
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.lengths.next()?.to_native() as usize;
        let position = self.position;
        self.position += 1;
        let bytes = take(&self.tail, &mut self.at, length);
        Some(bytes.and_then(|bytes| {
            Run::decode(bytes).map_err(|error| FrameError::Run { position, error })
        }))
    }
}

fn take(tail: &Bytes, at: &mut usize, length: usize) -> Result<Bytes, FrameError> {
    let end = *at + length;
    if end > tail.len() {
        return Err(FrameError::Tail { expected: end, found: tail.len() });
    }
    let bytes = tail.slice(*at..end);
    *at = end;
    Ok(bytes)
}

fn check_count(found: usize, max: usize) -> Result<(), FrameError> {
    if found > max { Err(FrameError::Messages { found, max }) } else { Ok(()) }
}

fn check_tail(expected: usize, found: usize) -> Result<(), FrameError> {
    if expected == found { Ok(()) } else { Err(FrameError::Tail { expected, found }) }
}

#[cfg(test)]
mod tests;
