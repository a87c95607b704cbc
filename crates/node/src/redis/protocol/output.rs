//! The bytes that wait to be written to a client. Long byte strings are kept without a copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// A byte string of this length or more is not copied. Copying a shorter one costs less than
/// writing it as a separate piece.
const SHARED_BYTES_MIN: usize = 16 << 10;
/// Pieces handed to the socket at once.
const PIECES_MAX: usize = 16;
/// A buffer larger than this is freed once it is empty.
const KEPT_BYTES: usize = 256 << 10;

/// The bytes that wait to be written to one client.
#[derive(Debug, Default)]
pub struct Output {
    /// What comes before `tail`.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    written: u64,
}

impl Output {
    /// Appends a copy.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends `bytes`, without a copy if they are many.
    pub fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put_slice(&bytes);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that were ever written to the socket.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that were ever appended.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.written + self.len as u64
    }

    /// Throws away what waits.
    pub fn clear(&mut self) {
        *self = Output::default();
    }

    /// Everything that waits, in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces
            .iter()
            .map(Bytes::as_ref)
            .chain([self.tail.as_ref()])
            .collect::<Vec<_>>()
            .concat()
    }

    /// Tries once to write what waits to the socket.
    fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        if self.pieces.is_empty() {
            // The usual case: one buffer is cheaper for the kernel than a list of one.
            return socket.poll_write(context, &self.tail);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let pieces = self.pieces.iter().map(Bytes::as_ref).chain([self.tail.as_ref()]);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        socket.poll_write_vectored(context, &slices[..count])
    }

    /// Writes until the socket takes no more; true if there were bytes and all were written.
    ///
    /// # Errors
    /// The socket's.
    pub fn flush<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> io::Result<bool> {
        let mut any = false;
        while self.len > 0 {
            match self.poll_write(context, socket) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.advance(written);
                    any = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if any && self.tail.capacity() > KEPT_BYTES {
            self.tail = BytesMut::new();
        }
        Ok(any)
    }

    fn advance(&mut self, mut bytes: usize) {
        self.written += bytes as u64;
        self.len -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            if bytes < piece.len() {
                piece.advance(bytes);
                return;
            }
            bytes -= piece.len();
            self.pieces.pop_front();
        }
        self.tail.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `room` bytes a time.
    struct Sink {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Goal: short and long pieces leave in their order, whatever the socket takes at once, and long
    /// ones are not copied.
    #[test]
    fn pieces_leave_in_their_order() {
        let long = Bytes::from(vec![b'l'; SHARED_BYTES_MIN]);
        let mut expected = Vec::new();
        let mut output = Output::default();
        for round in 0..40u8 {
            output.put_slice(&[round]);
            output.put_bytes(long.clone());
            output.put_bytes(Bytes::from_static(b"short"));
            expected.extend_from_slice(&[&[round], &long[..], b"short"].concat());
        }
        let shared = output.pieces.iter().filter(|piece| piece.as_ptr() == long.as_ptr()).count();
        assert_eq!(shared, 40);
        assert_eq!(output.len(), expected.len());
        assert_eq!(output.to_vec(), expected);
        let mut sink = Sink { taken: Vec::new(), room: 7_919 };
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(output.flush(&mut context, &mut sink).expect("it takes all"));
        assert!(sink.taken == expected && output.is_empty());
        assert_eq!(
            (output.written(), output.appended()),
            (expected.len() as u64, output.written())
        );
    }
}
