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

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::Journal;

/// Finds and reads the newest file of the write-ahead log in `dir`; changes nothing. `None` if there is
/// none.
pub(crate) fn inspect_newest(dir: &Path) -> io::Result<Option<Journal>> {
    let mut newest = None;
    for file in fs::read_dir(dir)? {
        newest = newest.max(file_number(&file?.path()));
    }
    newest.map(|(_, path)| Journal::inspect(&path)).transpose()
}

/// The number in a name such as `000012.log`, with the path.
fn file_number(path: &Path) -> Option<(u64, PathBuf)> {
    if path.extension() != Some(OsStr::new("log")) {
        return None;
    }
    Some((path.file_stem()?.to_str()?.parse().ok()?, path.to_owned()))
}
