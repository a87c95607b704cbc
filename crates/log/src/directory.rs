//! Makes directories that survive a power cut, and tells whether a database is in one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes `dir` and its missing ancestors, and syncs the names of `dir` and of every directory that
/// it made: a directory whose name is lost in a power cut loses its contents, even synced ones.
/// RocksDB makes its directory, but leaves this sync to its caller. Blocks for the disk.
///
/// # Errors
/// From the operating system.
pub fn make_durably(dir: &Path) -> io::Result<()> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // The root, or the working directory.
        None => return Ok(()),
    };
    if !parent.is_dir() {
        make_durably(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        outcome => outcome?,
    }
    // Also if it existed: the process that made it may have died before this line.
    File::open(parent)?.sync_all()
}

/// Whether `dir` holds a RocksDB, or what is left of one. False if it is missing. Blocks for the disk.
///
/// # Errors
/// From the operating system.
pub fn holds_database(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        // RocksDB writes CURRENT before its first data file; data without it shows a loss.
        if name == "CURRENT" || name.ends_with(".sst") || name.ends_with(".log") {
            return Ok(true);
        }
    }
    Ok(false)
}
