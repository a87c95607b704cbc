//! The bytes of the journal, shared by the preload library that writes it and the model that reads
//! it: this file is compiled into both, because linking one to the other would put the interposed
//! C functions into the test program as well.
//!
//! A record is a header of [`HEADER_BYTES`] followed by its payload. All numbers are little endian.
//!
//! ```text
//! 0..4    payload length in bytes
//! 4..6    kind (Kind)
//! 6..8    flags (FLAG_*)
//! 8..16   handle: an open file, or the number of a sync; unique among all processes of one journal
//! 16..24  offset of a write, length of a truncation, byte length of the first of two paths
//! 24..32  checksum of bytes 0..24 and of the payload
//! ```
//!
//! Paths are relative to the recorded root, without a leading slash; the root is the empty path.

/// Length of the header in front of every payload.
pub(crate) const HEADER_BYTES: usize = 32;

/// The checksummed part of the header.
const HEADER_CHECKED_BYTES: usize = 24;

/// Set on [`Kind::Open`] when the call would create a missing file.
pub(crate) const FLAG_CREATE: u16 = 1;

/// Set on [`Kind::Open`] when the call cut an existing file to nothing.
pub(crate) const FLAG_TRUNCATE: u16 = 2;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// Payload: path. The handle stands for the opened file from here on.
    Open = 1,
    /// No descriptor of the handle is left.
    Close = 2,
    /// Payload: the bytes written at the offset.
    Write = 3,
    /// The file of the handle now has the length given in place of the offset.
    Truncate = 4,
    /// The file of the handle is at least as long as the value given in place of the offset.
    Extend = 5,
    /// A sync of an open file starts; its number is in place of the offset.
    SyncHandle = 6,
    /// A sync of the path in the payload starts (directories, files open for reading only).
    SyncPath = 7,
    /// The sync whose number is in place of the offset came back without an error.
    SyncDone = 8,
    /// Payload: old and new path.
    Rename = 9,
    /// Payload: existing and additional path.
    Link = 10,
    /// Payload: path of a file.
    Unlink = 11,
    /// Payload: path of a directory.
    MakeDirectory = 12,
    /// Payload: path of a directory.
    RemoveDirectory = 13,
}

impl Kind {
    /// Every kind, for the reader.
    pub(crate) const ALL: [Kind; 13] = [
        Kind::Open,
        Kind::Close,
        Kind::Write,
        Kind::Truncate,
        Kind::Extend,
        Kind::SyncHandle,
        Kind::SyncPath,
        Kind::SyncDone,
        Kind::Rename,
        Kind::Link,
        Kind::Unlink,
        Kind::MakeDirectory,
        Kind::RemoveDirectory,
    ];
}

/// The fixed fields of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// What the record says.
    pub(crate) kind: Kind,
    /// `FLAG_*`.
    pub(crate) flags: u16,
    /// The open file.
    pub(crate) handle: u64,
    /// Offset, length or number, by kind.
    pub(crate) offset: u64,
}

impl Header {
    /// The header in front of `payload`, checksum included.
    pub(crate) fn encode(&self, payload: &[u8]) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(payload.len()).expect("a payload is cut well below 4 GiB");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..6].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.handle.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        let sum = checksum(&bytes[..HEADER_CHECKED_BYTES], payload);
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Length of the payload that follows `header`.
pub(crate) fn payload_length(header: &[u8; HEADER_BYTES]) -> usize {
    u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize
}

/// The fields of a header, or `None` if the header or its payload is not as written.
pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], payload: &[u8]) -> Option<Header> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    if word(24) != checksum(&bytes[..HEADER_CHECKED_BYTES], payload) {
        return None;
    }
    let number = u16::from_le_bytes([bytes[4], bytes[5]]);
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u16 == number)?;
    let flags = u16::from_le_bytes([bytes[6], bytes[7]]);
    Some(Header { kind, flags, handle: word(8), offset: word(16) })
}

/// Detects torn and misplaced bytes of a journal on a healthy disk. It need not detect bit rot, but
/// gigabytes of recorded writes pass through it, so it takes eight bytes a step.
fn checksum(header: &[u8], payload: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = 0x5155_4f52_4154_4531_u64;
    for part in [header, payload] {
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
            state = (state ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
        }
        let mut tail = [0; 8];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        let tail = u64::from_le_bytes(tail) ^ part.len() as u64;
        state = (state ^ tail).wrapping_mul(MULTIPLIER).rotate_left(29);
    }
    state ^ (state >> 32)
}
