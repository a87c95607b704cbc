//! Tells damage from a change that a power cut interrupted, in the manifest of a RocksDB: the list of its
//! files, which CURRENT names.
//!
//! RocksDB writes each change of its set of files as a group of one or more records, and syncs the
//! manifest after each group. Only then does it delete what the group has made obsolete. A new manifest
//! begins with a group, too, and is synced before CURRENT names it. So at most the last group was not
//! synced, and never the first. After a power cut any part of that last group may be on disk; RocksDB
//! accepts an early end, refuses a record with a hole in it, and takes a hole where a record begins for
//! the end of a block. This store knows what RocksDB does not:
//!
//! - If no record can be read behind the damaged one, it belongs to the last group.
//! - What a power cut leaves out of a file that only grows reads as zeroes, from the beginning of a write
//!   or a sector to the end of one. If the rest of a group follows such a hole, no sync has passed
//!   since; a bit that flipped leaves no hole.
//! - Records of one group carry the same number for the next new file, but for rare cases. If records
//!   behind a hole carry several, they are of several groups: the disk has lost what was synced.
//!
//! In the first two cases the file may be cut where the damaged record begins. What is left of the group
//! is one of the states on its way, and all files of that state are still there: those that a change
//! makes obsolete are named by its last records. Otherwise the directory is damaged, and nothing is
//! changed.
//!
//! A synced record that has rotted while it is the last one looks like the first case. Tables that were
//! deleted after it are missing then, by name; so are closed files of the write-ahead log, which RocksDB
//! counts (`track_and_verify_wals_in_manifest`). Where neither is so, the older state holds the same.
//!
//! The records are those of RocksDB's `db/version_edit.cc`: tags and numbers as variable-length integers
//! of seven bits a byte, the lowest first.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{DB, ErrorKind, InfoLogger, LogLevel, Options};

use crate::error::Holder;
use crate::journal::{BLOCK_BYTES, Damage, Fragment, Journal, Kind, walk};
use crate::settings::lock_holder;

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;
/// Fewest zeroes that are taken for a hole. A record has a checksum and a few numbers at least.
const HOLE_BYTES_MIN: usize = 16;
const PREFIX: &str = "MANIFEST-";
const TAG_COMPARATOR: u64 = 1;
const TAG_LOG_NUMBER: u64 = 2;
const TAG_NEXT_FILE: u64 = 3;
const TAG_PREVIOUS_LOG_NUMBER: u64 = 9;
const TAG_DATABASE_ID: u64 = (1 << 13) + 1;

/// A manifest that is not mended.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A process has the database open.
    #[error("the database is open in {0}")]
    InUse(Holder),
    /// What is damaged was synced.
    #[error("{what}")]
    Damaged {
        /// The file, the place, and how that is known.
        what: String,
    },
    /// From the operating system, or from RocksDB.
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
    if damaged_in(dir)?.is_none() {
        return Ok(());
    }
    // What another process is just writing looks the same. If it has ended, what it wrote last counts.
    check_free(dir)?;
    let Some((manifest, damage)) = damaged_in(dir)? else { return Ok(()) };
    check_unsynced(&manifest.path, damage)?;
    Ok(manifest.cut()?)
}

/// The manifest, if it is damaged.
fn damaged_in(dir: &Path) -> io::Result<Option<(Journal, Damage)>> {
    let Some(path) = manifest_in(dir)? else { return Ok(None) };
    let manifest = match Journal::inspect(&path) {
        // RocksDB says what is missing, or another process has changed to a new one just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    Ok(manifest.damage.map(|damage| (manifest, damage)))
}

/// The file that CURRENT names.
fn manifest_in(dir: &Path) -> io::Result<Option<PathBuf>> {
    let name = match fs::read_to_string(dir.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        name => name?,
    };
    let name = name.trim_end();
    Ok(name.starts_with(PREFIX).then(|| dir.join(name)))
}

/// Refuses if a process has the database open. RocksDB takes its lock before it looks whether there is a
/// database, which is what this open refuses; it changes nothing, and would only rename its text logs.
fn check_free(dir: &Path) -> Result<(), ManifestError> {
    let mut options = Options::default();
    options.set_error_if_exists(true);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    match DB::open(&options, dir) {
        Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
        Err(error) => Err(match lock_holder(&error, dir) {
            Some(holder) => ManifestError::InUse(holder),
            None => io::Error::other(error.to_string()).into(),
        }),
        Ok(_) => Err(io::Error::other("CURRENT is gone").into()),
    }
}

fn check_unsynced(path: &Path, damage: Damage) -> Result<(), ManifestError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    let mut judge = Judge::new(damage, number.unwrap_or(u64::MAX));
    let (mut file, mut block) = (File::open(path)?, Vec::with_capacity(BLOCK_BYTES));
    loop {
        block.clear();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        judge.take_block(&block);
        if block.len() < BLOCK_BYTES {
            break;
        }
    }
    let Some(why) = judge.synced() else { return Ok(()) };
    let (path, at) = (path.display(), damage.at);
    let what = format!("{path}: the record at {at} is unreadable, and was synced: {why}");
    Err(ManifestError::Damaged { what })
}

/// Looks for signs that a damaged record was synced, block by block.
struct Judge {
    damage: Damage,
    /// The manifest's own number: when it was begun, the next file got one above it.
    number: u64,
    /// Offset of the next block.
    position: u64,
    has_first_group: bool,
    has_hole: bool,
    /// What the first record behind the damage says, and whether all others say the same.
    group: Option<Option<u64>>,
    is_one_group: bool,
}

impl Judge {
    fn new(damage: Damage, number: u64) -> Judge {
        Judge {
            damage,
            number,
            position: 0,
            has_first_group: false,
            has_hole: false,
            group: None,
            is_one_group: true,
        }
    }

    fn take_block(&mut self, block: &[u8]) {
        let (begin, Damage { at: damaged, follower }) = (self.position, self.damage);
        walk(block, &mut |at, found| {
            let Some(Fragment { kind: Kind::Full | Kind::First, bytes }) = found else { return };
            let (at, next) = (begin + at as u64, next_file(bytes));
            if at < damaged {
                // The last record of the first group is the first with a higher number.
                self.has_first_group |= next.is_some_and(|next| next > self.number);
            } else if follower.is_some_and(|follower| at >= follower) {
                self.is_one_group &= next.is_some() && *self.group.get_or_insert(next) == next;
            }
        });
        let end = begin + block.len() as u64;
        let lost = damaged.max(begin)..follower.unwrap_or(damaged).min(end);
        self.has_hole |= has_hole(block, begin, lost);
        self.position = end;
    }

    /// Why the damaged record was synced, if it was.
    fn synced(&self) -> Option<&'static str> {
        if !self.has_first_group {
            return Some("CURRENT names a manifest only once its beginning is");
        }
        self.damage.follower?;
        match (self.has_hole, self.is_one_group) {
            (true, true) => None,
            (true, false) => Some("later changes follow"),
            (false, _) => Some("another record follows, and no power cut leaves that"),
        }
    }
}

/// Whether what one sector holds of the part `lost` of the file is zeroes only, and enough of them: a
/// record's last bytes may be some.
fn has_hole(block: &[u8], begin: u64, lost: Range<u64>) -> bool {
    let mut at = lost.start;
    while at < lost.end {
        let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(lost.end);
        let sector = &block[(at - begin) as usize..(end - begin) as usize];
        if sector.len() >= HOLE_BYTES_MIN && sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        at = end;
    }
    false
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
