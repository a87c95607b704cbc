//! Tells damage from a change that a power cut interrupted, in the manifest of a RocksDB: the list of its
//! files, which CURRENT names.
//!
//! RocksDB writes each change of its set of files as a group of one or more records, and syncs the
//! manifest after each group. Only then does it delete what the group has made obsolete. A new manifest
//! is synced before CURRENT names it. So at most the last group was not synced. After a power cut any
//! part of that may be on disk; RocksDB accepts an early end, refuses a record with a hole in it, and
//! takes a hole where a record begins for the end of a block. This store knows what RocksDB does not:
//!
//! - If no record begins behind the damaged one, it belongs to the last group.
//! - Records of one group carry the same number for the next new file. If records that follow carry
//!   several, they are of several groups, so the damaged one was synced.
//! - What a power cut leaves out of a file that only grows reads as zeroes, from the beginning of a write
//!   or a sector to the end of one. If the rest of a group follows such a hole, no sync has passed
//!   since; a bit that flipped leaves no hole.
//!
//! In the first and the third case the file may be cut where the damaged record begins: the files of
//! before the group are all still there, and hold the same. Otherwise the directory is damaged.
//!
//! The first case may also be a synced record that has rotted. What was deleted after it is missing then,
//! and RocksDB refuses to open: tables it misses by name, files of the write-ahead log because it keeps
//! count of those (`track_and_verify_wals_in_manifest`).
//!
//! The records are those of RocksDB's `db/version_edit.cc`: tags and numbers as variable-length integers
//! of seven bits a byte, the lowest first.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rocksdb::{DB, ErrorKind, Options};

use crate::error::Holder;
use crate::journal::{BLOCK_BYTES, Damage, Fragment, Journal, Kind, walk};
use crate::settings::lock_holder;

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;
/// Fewest zeroes that are taken for a hole. A record has a checksum and a few numbers at least.
const HOLE_BYTES_MIN: usize = 16;
const TAG_COMPARATOR: u64 = 1;
const TAG_LOG_NUMBER: u64 = 2;
const TAG_NEXT_FILE: u64 = 3;
const TAG_PREVIOUS_LOG_NUMBER: u64 = 9;
const TAG_DATABASE_ID: u64 = (1 << 13) + 1;

/// A manifest that is not mended.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A process has the database open.
    #[error("the database is open elsewhere: {0:?}")]
    InUse(Holder),
    /// What is damaged was synced.
    #[error("{what}")]
    Damaged {
        /// The file, the place, and how that is known.
        what: String,
    },
    /// From the operating system.
    #[error("reading or mending the manifest: {0}")]
    Io(#[from] io::Error),
}

/// Cuts off the manifest of the database in `dir` what a power cut has left of the last change to the
/// database's set of files, durably. To be called before the database is opened; does nothing for a
/// sound or a missing one. Blocks for the disk.
///
/// # Errors
/// [`ManifestError::Damaged`] if more is damaged than a power cut explains: then nothing is changed.
pub fn mend_manifest(dir: &Path) -> Result<(), ManifestError> {
    let Some(path) = manifest_in(dir)? else { return Ok(()) };
    let manifest = match Journal::inspect(&path) {
        // RocksDB says what is missing, or another process has changed to a new one just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let Some(damage) = manifest.damage else { return Ok(()) };
    // What another process is just writing looks the same.
    if let Some(holder) = holder_of(dir) {
        return Err(ManifestError::InUse(holder));
    }
    check_unsynced(&path, damage)?;
    Ok(manifest.cut()?)
}

/// The file that CURRENT names.
fn manifest_in(dir: &Path) -> io::Result<Option<PathBuf>> {
    let name = match fs::read_to_string(dir.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        name => name?,
    };
    let name = name.trim_end();
    Ok(name.starts_with("MANIFEST-").then(|| dir.join(name)))
}

/// The process that has the database open. RocksDB takes its lock before it looks whether there is a
/// database, which is what this open refuses.
fn holder_of(dir: &Path) -> Option<Holder> {
    let mut options = Options::default();
    options.set_error_if_exists(true);
    match DB::open(&options, dir) {
        Err(error) if error.kind() == ErrorKind::InvalidArgument => None,
        Err(error) => lock_holder(&error, dir),
        Ok(_) => None,
    }
}

fn check_unsynced(path: &Path, damage: Damage) -> Result<(), ManifestError> {
    let Some(follower) = damage.follower else { return Ok(()) };
    let begin = damage.at / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let tail = Tail { bytes: &bytes, begin };
    let why = match (tail.has_hole(damage.at, follower), tail.has_one_group(follower)) {
        (true, true) => return Ok(()),
        (true, false) => "later changes show that it was synced",
        (false, _) => "another follows, and no power cut leaves that",
    };
    let (path, at) = (path.display(), damage.at);
    let what =
        format!("{path}: the record at {at} is unreadable, and another at {follower}: {why}");
    Err(ManifestError::Damaged { what })
}

/// The end of a manifest, from the beginning of a block on.
struct Tail<'a> {
    bytes: &'a [u8],
    begin: u64,
}

impl Tail<'_> {
    /// Whether what one sector holds of the part `[from, to)` of the file is zeroes only, and enough of
    /// them: a record's last bytes may be some.
    fn has_hole(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        while at < to {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(to);
            let sector = (at - self.begin) as usize..(end - self.begin) as usize;
            let sector = &self.bytes[sector];
            if sector.len() >= HOLE_BYTES_MIN && sector.iter().all(|byte| *byte == 0) {
                return true;
            }
            at = end;
        }
        false
    }

    /// Whether all records that begin at `from` or later may be of one group.
    fn has_one_group(&self, from: u64) -> bool {
        let mut group = None;
        let mut is_one = true;
        for (number, block) in self.bytes.chunks(BLOCK_BYTES).enumerate() {
            let begins = self.begin + (number * BLOCK_BYTES) as u64;
            walk(block, &mut |at, found| {
                let is_later = begins + at as u64 >= from;
                let Some(Fragment { kind: Kind::Full | Kind::First, bytes }) = found else {
                    return;
                };
                if is_later {
                    let next = next_file(bytes);
                    is_one &= next.is_some() && *group.get_or_insert(next) == next;
                }
            });
        }
        is_one
    }
}

/// The number that the next new file gets, as a record says it.
fn next_file(mut record: &[u8]) -> Option<u64> {
    loop {
        match integer(&mut record)? {
            TAG_NEXT_FILE => return integer(&mut record),
            TAG_LOG_NUMBER | TAG_PREVIOUS_LOG_NUMBER => drop(integer(&mut record)?),
            TAG_COMPARATOR | TAG_DATABASE_ID => {
                let length = usize::try_from(integer(&mut record)?).ok()?;
                record = record.get(length..)?;
            }
            _ => return None,
        }
    }
}

/// Takes one variable-length integer.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "manifest_repair_tests.rs"]
mod tests;
