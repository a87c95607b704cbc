//! Cuts a lane's stream into frames.

use bytes::{Bytes, BytesMut};
use quinn::RecvStream;

use crate::connection::closing::read_failed;
use crate::frame::{HEADER_BYTES, decode_header};
use crate::peer::room::{FramePlace, FrameRoom};

/// Pieces fetched from the stream under one lock of the connection.
const CHUNKS: usize = 64;

/// A stream and the pieces of it that are not yet part of a frame.
pub(crate) struct FrameReader {
    stream: RecvStream,
    room: FrameRoom,
    frame_bytes_max: usize,
    chunks: Vec<Bytes>,
    /// `chunks[next..filled]` is still to be read.
    next: usize,
    filled: usize,
}

impl FrameReader {
    /// Large frames reserve space in `room` before their memory is allocated; larger ones than
    /// `frame_bytes_max` are refused.
    pub(crate) fn new(stream: RecvStream, room: FrameRoom, frame_bytes_max: usize) -> FrameReader {
        let chunks = vec![Bytes::new(); CHUNKS];
        FrameReader { stream, room, frame_bytes_max, chunks, next: 0, filled: 0 }
    }

    /// The next frame, whole and in a separate buffer, with its reservation among the frames being
    /// received.
    ///
    /// # Errors
    /// The stream's end, its error, or a header out of bounds, as text: the connection ends with
    /// it.
    pub(crate) async fn next_frame(&mut self) -> Result<(Bytes, FramePlace), String> {
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            let piece = self.piece(HEADER_BYTES - filled).await?;
            header[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        let decoded = decode_header(&header, self.frame_bytes_max);
        let (length, _) = decoded.map_err(|error| error.to_string())?;
        let place = self.room.place(length).await;
        let mut frame = BytesMut::with_capacity(length);
        frame.extend_from_slice(&header);
        while frame.len() < length {
            let piece = self.piece(length - frame.len()).await?;
            frame.extend_from_slice(&piece);
        }
        Ok((frame.freeze(), place))
    }

    /// Some bytes of the stream, at most `bytes_max`.
    async fn piece(&mut self, bytes_max: usize) -> Result<Bytes, String> {
        if self.next == self.filled {
            let read = self.stream.read_chunks(&mut self.chunks).await;
            self.filled = read.map_err(read_failed)?.ok_or("the lane was closed")?;
            self.next = 0;
        }
        let chunk = &mut self.chunks[self.next];
        if chunk.len() > bytes_max {
            return Ok(chunk.split_to(bytes_max));
        }
        self.next += 1;
        Ok(std::mem::take(chunk))
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
