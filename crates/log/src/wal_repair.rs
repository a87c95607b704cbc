//! Tells damage from a write that a power cut interrupted, in the newest file of the write-ahead
//! log (RULE 9).
//!
//! After a power cut, any part of what was not synced may be on disk. RocksDB accepts a file that
//! ends early, and refuses a record of full length with a hole in it, because a hole in an old
//! record looks the same. It also mistakes a damaged length with records behind it for an early
//! end. This store knows what RocksDB does not:
//!
//! - Every batch is one logical record, and is synced before the next one is written. So at most
//!   one record was not synced, and that is the last one.
//! - RocksDB changes to a new file between batches, so that record is in the newest file; files are
//!   never recycled and never appended to again after a start, so nothing else lies behind it.
//!
//! So the damaged record is a write that was never acknowledged exactly if no other record begins
//! behind it; then the file may be cut where the damaged record begins. If another does begin, the
//! damaged record was synced, its promises are lost, and the directory is refused (RULE 5). The
//! second record need not be complete: its beginning is proof enough.
//!
//! Two losses look like an interrupted write: a synced record that rots while it is the last one,
//! and a record whose successor has lost its beginning, too. A start then sees the loss only if
//! another record contradicts it, such as a hard state that knows of entries beyond the end of the
//! log.
//!
//! The format is that of RocksDB's `db/log_format.h`: blocks of 32 KiB; in them fragments of a
//! masked CRC-32C, a length (u16) and a kind (u8), all little-endian, then the bytes; a rest of a
//! block shorter than a header is filled with zeroes. A block begins with a fragment, so after
//! damage in one block the walk can continue at the next.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// RocksDB masks checksums, since checksums of data that holds checksums are weak.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Which part of its logical record a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    First,
    Middle,
    Last,
    /// RocksDB's own metadata, a whole record.
    Other,
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
        let mut at = 0;
        while at + HEADER_BYTES <= block.len() {
            let position = self.position + at as u64;
            if let Some((kind, length)) = fragment(&block[at..]) {
                self.take_fragment(kind, position);
                at += length;
            } else {
                self.take_damage(position);
                // The length can't be trusted, so the next fragment may be anywhere.
                let rest = at + 1..block.len();
                at = rest
                    .into_iter()
                    .find(|at| fragment(&block[*at..]).is_some())
                    .unwrap_or(block.len());
            }
        }
        if at < block.len() && block.len() < BLOCK_BYTES {
            self.take_damage(self.position + at as u64);
        }
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

/// The newest file of a directory's write-ahead log.
#[derive(Debug)]
pub(crate) struct NewestFile {
    pub(crate) path: PathBuf,
    length: u64,
    pub(crate) damage: Option<Damage>,
}

impl NewestFile {
    /// Finds and reads the file; changes nothing. `None` if there is none.
    pub(crate) fn inspect(dir: &Path) -> io::Result<Option<NewestFile>> {
        let mut newest = None;
        for file in fs::read_dir(dir)? {
            newest = newest.max(file_number(&file?.path()));
        }
        let Some((_, path)) = newest else { return Ok(None) };
        let mut file = File::open(&path)?;
        let mut scan = Scan::default();
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            scan.take_block(&block);
            if block.len() < BLOCK_BYTES {
                let length = scan.position;
                return Ok(Some(NewestFile { path, length, damage: scan.finish() }));
            }
        }
    }

    /// Cuts the file where the damaged record begins, durably.
    ///
    /// # Panics
    /// If another record begins behind the damage, or there is none.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let Some(Damage { at, follower: None }) = self.damage else {
            panic!("{self:?} must not be cut");
        };
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(at)?;
        file.sync_all()?;
        let (path, bytes) = (self.path.display(), self.length - at);
        tracing::warn!(%path, at, bytes, "cut a write that was never acknowledged off the log");
        Ok(())
    }
}

/// The number in a name such as `000012.log`, with the path.
fn file_number(path: &Path) -> Option<(u64, PathBuf)> {
    if path.extension() != Some(OsStr::new("log")) {
        return None;
    }
    Some((path.file_stem()?.to_str()?.parse().ok()?, path.to_owned()))
}

#[cfg(test)]
#[path = "wal_repair_tests.rs"]
mod tests;
