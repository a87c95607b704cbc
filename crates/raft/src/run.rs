//! Runs: consecutive entries of one term, encoded once.
//!
//! The same bytes lie in the leader's memory, on the wire, in every follower's memory and on every
//! disk. The kernel's cost is per run, not per entry. A run has one term, so a log's terms are
//! known from its runs' headers alone.
//!
//! Layout, little-endian:
//!
//! ```text
//! 0   magic "QRN1"      4 bytes   names the format; a change of layout changes it
//! 4   checksum          u32       crc32c of bytes [8, end)
//! 8   term              u64
//! 16  first index       u64
//! 24  count             u32       entries, at least 1
//! 28  flags             u32       bit 0: holds a membership entry
//! 32  entries           per entry: kind u8, payload
//! end - 4 * count       table     u32 per entry: its end, counted from byte 32
//! ```

use std::fmt;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_types::{Index, LogId, Term};

const MAGIC: [u8; 4] = *b"QRN1";
const HEADER_BYTES: usize = 32;
const CHECKED_FROM: usize = 8;
const FLAG_MEMBERSHIP: u32 = 1;

/// What an entry is for. The kernel reads memberships only; commands are opaque to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// The empty entry that opens a leader's term (thesis 6.4).
    Blank = 0,
    /// A command for the state machine.
    Command = 1,
    /// An encoded [`Membership`](crate::Membership), in force from append (thesis 4.1).
    Membership = 2,
}

impl EntryKind {
    fn from_byte(byte: u8) -> Option<EntryKind> {
        match byte {
            0 => Some(EntryKind::Blank),
            1 => Some(EntryKind::Command),
            2 => Some(EntryKind::Membership),
            _ => None,
        }
    }
}

/// One entry of a run, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Term and index.
    pub id: LogId,
    /// What the payload is for.
    pub kind: EntryKind,
    /// The proposer's bytes.
    pub payload: &'a [u8],
}

/// The bytes are no run: damaged, cut short, or of another format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Fewer bytes than the header or the table needs.
    #[error("run of {found} bytes is shorter than the {expected} that its header asks for")]
    Short {
        /// Bytes needed.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// The first four bytes are not this format's.
    #[error("run begins with {found:02x?}, expected {MAGIC:02x?}: another format version")]
    Format {
        /// The bytes found.
        found: [u8; 4],
    },
    /// The checksum does not match.
    #[error("run checksum is {found:08x}, expected {expected:08x}: damaged")]
    Checksum {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// Sound checksum, senseless contents: a bug or a forgery.
    #[error("run is malformed: {what}")]
    Malformed {
        /// What does not fit.
        what: &'static str,
    },
}

/// Entries on their way to become a [`Run`]: the payloads are copied here, once.
#[derive(Debug)]
pub struct RunDraft {
    bytes: BytesMut,
    ends: Vec<u32>,
    flags: u32,
}

impl Default for RunDraft {
    fn default() -> Self {
        RunDraft::new()
    }
}

impl RunDraft {
    /// An empty draft.
    #[must_use]
    pub fn new() -> RunDraft {
        let mut bytes = BytesMut::with_capacity(512);
        bytes.put_bytes(0, HEADER_BYTES);
        RunDraft { bytes, ends: Vec::new(), flags: 0 }
    }

    /// Adds an entry whose payload is the concatenation of `parts`.
    ///
    /// # Panics
    /// If the run would pass 4 GiB; limits keep callers far below.
    pub fn push(&mut self, kind: EntryKind, parts: &[&[u8]]) {
        self.bytes.put_u8(kind as u8);
        for part in parts {
            self.bytes.put_slice(part);
        }
        if kind == EntryKind::Membership {
            self.flags |= FLAG_MEMBERSHIP;
        }
        let end = u32::try_from(self.bytes.len() - HEADER_BYTES).expect("a run is below 4 GiB");
        self.ends.push(end);
    }

    /// Entries so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes so far, header included and table left out.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True if no entry was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// True if an entry changes the membership.
    pub(crate) fn has_membership(&self) -> bool {
        self.flags & FLAG_MEMBERSHIP != 0
    }

    /// Gives the entries their place in a log.
    ///
    /// # Panics
    /// If the draft is empty, or `first` is index 0.
    #[must_use]
    pub fn seal(mut self, term: Term, first: Index) -> Run {
        assert!(!self.ends.is_empty(), "a run holds at least one entry");
        assert!(first > Index(0), "index 0 names no entry");
        for end in &self.ends {
            self.bytes.put_u32_le(*end);
        }
        let count = u32::try_from(self.ends.len()).expect("a run is below 4 GiB");
        let header = &mut self.bytes[..HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&term.0.to_le_bytes());
        header[16..24].copy_from_slice(&first.0.to_le_bytes());
        header[24..28].copy_from_slice(&count.to_le_bytes());
        header[28..32].copy_from_slice(&self.flags.to_le_bytes());
        let checksum = crc32c::crc32c(&self.bytes[CHECKED_FROM..]);
        self.bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        Run { term, first, count, flags: self.flags, bytes: self.bytes.freeze() }
    }
}

/// Consecutive entries of one term, encoded. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    term: Term,
    first: Index,
    count: u32,
    flags: u32,
    bytes: Bytes,
}

impl Run {
    /// Checks `bytes` whole (format, checksum, table, kinds) and wraps them without a copy.
    ///
    /// # Errors
    /// [`RunError`] for anything that [`RunDraft::seal`] did not write. Never panics.
    pub fn decode(bytes: Bytes) -> Result<Run, RunError> {
        let short = |expected| RunError::Short { expected, found: bytes.len() };
        if bytes.len() < HEADER_BYTES {
            return Err(short(HEADER_BYTES));
        }
        let magic: [u8; 4] = bytes[0..4].try_into().expect("four bytes");
        if magic != MAGIC {
            return Err(RunError::Format { found: magic });
        }
        let expected = u32_at(&bytes, 4);
        let found = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        if expected != found {
            return Err(RunError::Checksum { expected, found });
        }
        let run = Run {
            term: Term(u64_at(&bytes, 8)),
            first: Index(u64_at(&bytes, 16)),
            count: u32_at(&bytes, 24),
            flags: u32_at(&bytes, 28),
            bytes: bytes.clone(),
        };
        let table_bytes = run.count as usize * 4;
        if bytes.len() - HEADER_BYTES < table_bytes {
            return Err(short(HEADER_BYTES + table_bytes));
        }
        run.check_contents()?;
        Ok(run)
    }

    fn check_contents(&self) -> Result<(), RunError> {
        let malformed = |what| Err(RunError::Malformed { what });
        if self.count == 0 || self.first == Index(0) {
            return malformed("no entries, or index 0");
        }
        if self.first.0.checked_add(u64::from(self.count)).is_none() {
            return malformed("indexes overflow");
        }
        let body_bytes = self.table_at() - HEADER_BYTES;
        let mut start = 0;
        let mut flags = 0;
        for position in 0..self.count as usize {
            let end = self.end_of(position);
            if end <= start || end > body_bytes {
                return malformed("entry ends do not ascend within the body");
            }
            match EntryKind::from_byte(self.bytes[HEADER_BYTES + start]) {
                None => return malformed("unknown kind of entry"),
                Some(EntryKind::Membership) => flags |= FLAG_MEMBERSHIP,
                Some(_) => {}
            }
            start = end;
        }
        if start != body_bytes {
            return malformed("bytes between entries and table");
        }
        if flags != self.flags {
            return malformed("flags do not match the entries");
        }
        Ok(())
    }

    /// The encoded bytes: what goes to disk and onto the wire.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of the encoded bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The term of every entry.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Number of entries, at least 1.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// Index of the first entry.
    #[must_use]
    pub fn first(&self) -> Index {
        self.first
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        self.first.plus(self.count() - 1)
    }

    /// Identity of the last entry.
    #[must_use]
    pub fn last_id(&self) -> LogId {
        LogId::new(self.term, self.last())
    }

    /// Indexes held, `[first, last + 1)`.
    #[must_use]
    pub fn range(&self) -> Range<Index> {
        self.first..self.last().next()
    }

    /// True if an entry changes the membership; then the whole run has to be looked through.
    #[must_use]
    pub fn has_membership(&self) -> bool {
        self.flags & FLAG_MEMBERSHIP != 0
    }

    /// The entries in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.count as usize).map(|position| {
            let range = self.entry_range(position);
            Entry {
                id: LogId::new(self.term, self.first.plus(position as u64)),
                kind: self.kind_of(&range),
                payload: &self.bytes[range.start + 1..range.end],
            }
        })
    }

    /// The payload of the entry at `index`, sharing this run's memory.
    ///
    /// # Panics
    /// If `index` is outside [`Run::range`].
    #[must_use]
    pub fn payload(&self, index: Index) -> Bytes {
        let range = self.entry_range(self.position_of(index));
        self.bytes.slice(range.start + 1..range.end)
    }

    /// The entries in `[from, until)` as a run of their own; a copy unless that is all of them.
    ///
    /// # Panics
    /// If the range is empty or not within [`Run::range`].
    #[must_use]
    pub fn cut(&self, from: Index, until: Index) -> Run {
        let own = self.range();
        assert!(own.start <= from && from < until && until <= own.end, "cut {from:?}..{until:?}");
        if own == (from..until) {
            return self.clone();
        }
        let mut draft = RunDraft::new();
        for position in self.position_of(from)..=self.position_of(until.previous()) {
            let range = self.entry_range(position);
            draft.push(self.kind_of(&range), &[&self.bytes[range.start + 1..range.end]]);
        }
        draft.seal(self.term, from)
    }

    fn position_of(&self, index: Index) -> usize {
        assert!(self.range().contains(&index), "{index:?} is not in {:?}", self.range());
        usize::try_from(index.since(self.first)).expect("a run's count fits u32")
    }

    fn kind_of(&self, range: &Range<usize>) -> EntryKind {
        EntryKind::from_byte(self.bytes[range.start]).expect("checked when the run was made")
    }

    fn entry_range(&self, position: usize) -> Range<usize> {
        let start = if position == 0 { 0 } else { self.end_of(position - 1) };
        HEADER_BYTES + start..HEADER_BYTES + self.end_of(position)
    }

    fn table_at(&self) -> usize {
        self.bytes.len() - 4 * self.count as usize
    }

    fn end_of(&self, position: usize) -> usize {
        u32_at(&self.bytes, self.table_at() + 4 * position) as usize
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/[{}..{}]", self.term.0, self.first.0, self.last().0)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(payloads: &[Vec<u8>]) -> Run {
        let mut draft = RunDraft::new();
        for payload in payloads {
            draft.push(EntryKind::Command, &[payload]);
        }
        draft.seal(Term(7), Index(100))
    }

    /// Goal: a change of the format must show. Method: the bytes of one small run, in full.
    #[test]
    fn golden_bytes() {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Blank, &[]);
        draft.push(EntryKind::Command, &[b"ab", b"c"]);
        let run = draft.seal(Term(3), Index(9));
        let hex: String = run.bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "51524e31".to_owned()
                + &format!("{:08x}", u32_at(run.bytes(), 4).swap_bytes())
                + "0300000000000000"
                + "0900000000000000"
                + "02000000"
                + "00000000"
                + "00"
                + "01616263"
                + "01000000"
                + "05000000"
        );
        assert_eq!(u32_at(run.bytes(), 4), crc32c::crc32c(&run.bytes()[8..]));
    }

    proptest! {
        #[test]
        fn decode_gives_back_what_was_sealed(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
        ) {
            let run = sample(&payloads);
            let decoded = Run::decode(run.bytes().clone()).expect("sound bytes");
            prop_assert_eq!(&decoded, &run);
            let read: Vec<Vec<u8>> = decoded.entries().map(|e| e.payload.to_vec()).collect();
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn cut_keeps_the_entries(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 2..20),
            from in 0usize..19, len in 1usize..20,
        ) {
            let from = from.min(payloads.len() - 1);
            let until = (from + len).min(payloads.len());
            let run = sample(&payloads);
            let part = run.cut(run.first().plus(from as u64), run.first().plus(until as u64));
            let read: Vec<Vec<u8>> = part.entries().map(|e| e.payload.to_vec()).collect();
            prop_assert_eq!(&read[..], &payloads[from..until]);
            prop_assert_eq!(Run::decode(part.bytes().clone()), Ok(part));
        }

        #[test]
        fn any_flipped_byte_is_refused(at in 0usize..60, bit in 0u8..8) {
            let run = sample(&[vec![1, 2, 3], vec![], vec![4; 20]]);
            let mut bytes = run.bytes().to_vec();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            prop_assert!(Run::decode(Bytes::from(bytes)).is_err());
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut forged = bytes.clone();
            prop_assert!(Run::decode(Bytes::from(bytes)).is_err());
            // The same garbage behind a sound magic and checksum reaches the deeper checks.
            if forged.len() >= HEADER_BYTES {
                forged[0..4].copy_from_slice(&MAGIC);
                let checksum = crc32c::crc32c(&forged[CHECKED_FROM..]);
                forged[4..8].copy_from_slice(&checksum.to_le_bytes());
                if let Ok(run) = Run::decode(Bytes::from(forged)) {
                    prop_assert_eq!(run.entries().count() as u64, run.count());
                }
            }
        }
    }
}
