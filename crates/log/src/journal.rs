//! Reads a file in the format that RocksDB's write-ahead log and its manifest share, and finds where it
//! is damaged.
//!
//! The format is that of RocksDB's `db/log_format.h`: blocks of 32 KiB; in them fragments of a
//! masked CRC-32C, a length (u16) and a kind (u8), all little-endian, then the bytes; a rest of a
//! block shorter than a header is filled with zeroes. A block begins with a fragment, so after
//! damage in one block the walk can continue at the next.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub(crate) const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// RocksDB masks checksums, since checksums of data that holds checksums are weak.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Which part of its logical record a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    First,
    Middle,
    Last,
    /// RocksDB's own metadata, a whole record.
    Other,
}

/// A part of a record that verifies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: Kind,
    pub(crate) bytes: &'a [u8],
}

/// Where the first record that does not verify begins, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Offset of the logical record in bytes.
    pub(crate) at: u64,
    /// Offset at which something that is not part of it begins.
    pub(crate) follower: Option<u64>,
}

/// A walk over one file, block by block. Pure; accepts any bytes.
#[derive(Debug, Default)]
struct Scan {
    /// Offset of the next block.
    position: u64,
    /// Offset of the logical record whose last fragment was not read yet.
    open: Option<u64>,
    damage: Option<Damage>,
    /// The last fragment of the damaged record was seen.
    ended: bool,
}

impl Scan {
    /// Takes the next block; only the last one may be shorter than [`BLOCK_BYTES`].
    fn take_block(&mut self, block: &[u8]) {
        assert!(block.len() <= BLOCK_BYTES, "a block of {} bytes", block.len());
        let begins = self.position;
        walk(block, &mut |at, found| match found {
            Some(fragment) => self.take_fragment(fragment.kind, begins + at as u64),
            None => self.take_damage(begins + at as u64),
        });
        self.position += block.len() as u64;
    }

    fn take_fragment(&mut self, kind: Kind, at: u64) {
        if self.damage.is_some() {
            let continues = matches!(kind, Kind::Middle | Kind::Last);
            if !continues || self.ended {
                self.take_follower(at);
            }
            self.ended |= kind == Kind::Last;
            return;
        }
        let begins = matches!(kind, Kind::Full | Kind::First);
        match self.open {
            Some(open) if begins => {
                self.damage = Some(Damage { at: open, follower: Some(at) });
            }
            None if matches!(kind, Kind::Middle | Kind::Last) => {
                self.damage = Some(Damage { at, follower: None });
                self.ended = kind == Kind::Last;
            }
            open => {
                self.open = match kind {
                    Kind::First => Some(at),
                    Kind::Middle | Kind::Other => open,
                    Kind::Full | Kind::Last => None,
                }
            }
        }
    }

    fn take_damage(&mut self, at: u64) {
        match self.damage {
            None => self.damage = Some(Damage { at: self.open.unwrap_or(at), follower: None }),
            Some(_) if self.ended => self.take_follower(at),
            Some(_) => {}
        }
    }

    fn take_follower(&mut self, at: u64) {
        if let Some(damage) = &mut self.damage {
            damage.follower.get_or_insert(at);
        }
    }

    /// What was found; a record that the end of the file cuts short counts as damage.
    fn finish(self) -> Option<Damage> {
        self.damage.or(self.open.map(|at| Damage { at, follower: None }))
    }
}

/// The fragment that `bytes` begin with, if it verifies, and its length with the header.
fn fragment(bytes: &[u8]) -> Option<(Kind, usize)> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES)?;
    let kind = match header[6] {
        0 => return None,
        1 => Kind::Full,
        2 => Kind::First,
        3 => Kind::Middle,
        4 => Kind::Last,
        _ => Kind::Other,
    };
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let checked = &bytes[HEADER_BYTES - 1..][..1 + body.get(..length)?.len()];
    let masked = crc32c::crc32c(checked).rotate_right(15).wrapping_add(MASK_DELTA);
    (masked.to_le_bytes() == header[..4]).then_some((kind, HEADER_BYTES + length))
}

/// Passes what one block holds to `visit`, in order: the offset in the block, and a fragment, or nothing
/// where none verifies.
pub(crate) fn walk(block: &[u8], visit: &mut dyn FnMut(usize, Option<Fragment<'_>>)) {
    let mut at = 0;
    while at + HEADER_BYTES <= block.len() {
        if let Some((kind, length)) = fragment(&block[at..]) {
            visit(at, Some(Fragment { kind, bytes: &block[at + HEADER_BYTES..at + length] }));
            at += length;
        } else {
            visit(at, None);
            // The length can't be trusted, so the next fragment may be anywhere.
            let rest = at + 1..block.len();
            at = rest
                .into_iter()
                .find(|at| fragment(&block[*at..]).is_some())
                .unwrap_or(block.len());
        }
    }
    if at < block.len() && block.len() < BLOCK_BYTES {
        visit(at, None);
    }
}

/// A file that was read to its end.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    length: u64,
    pub(crate) damage: Option<Damage>,
}

impl Journal {
    /// Reads the file at `path`; changes nothing.
    pub(crate) fn inspect(path: &Path) -> io::Result<Journal> {
        let mut file = File::open(path)?;
        let mut scan = Scan::default();
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            scan.take_block(&block);
            if block.len() < BLOCK_BYTES {
                let length = scan.position;
                return Ok(Journal { path: path.to_owned(), length, damage: scan.finish() });
            }
        }
    }

    /// Cuts the file where the damaged record begins, durably. Only for what is known to be a write
    /// that was never acknowledged.
    ///
    /// # Panics
    /// If there is no damage.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let Some(Damage { at, .. }) = self.damage else { panic!("{self:?} must not be cut") };
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(at)?;
        file.sync_all()?;
        let (path, bytes) = (self.path.display(), self.length - at);
        tracing::warn!(%path, at, bytes, "cut off a write that was never acknowledged");
        Ok(())
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
pub(crate) mod tests;
