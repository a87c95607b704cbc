//! Writes the store anew without its damaged tables: RocksDB can't drop a table that it can't read.
//!
//! A start copies, space by space, what can be read into a store in a folder of the store's own
//! directory, and then puts that in the place of the old one, file by file: the directory itself may
//! be where a volume is mounted, and can't be renamed. The name of the folder says how far it came, so
//! that a start after a crash continues there:
//!
//! ```text
//! rewriting         the copy is not complete, and of no use
//! rewritten         the copy is complete, and counts; the files around it are the old store's
//! rewritten-alone   nothing is left of the old store; the files around it are of the copy already
//! ```
//!
//! The file CURRENT moves last: without it RocksDB takes the directory for no database.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use quorate_log::{DamageMark, make_durably};
use quorate_machine::AppliedRecord;
use quorate_types::{ByteReader, SpaceId};
use rocksdb::WriteBatch;

use crate::store::data_store::{DataError, DataStore, is_damage};
use crate::store::identity::StoreIdentity;
use crate::store::layout::{record_key, user_key};
use crate::store::space_view::{Pairs, next_pair};
use crate::store::space_writer::{SpaceError, SpaceWriter};

const UNFINISHED: &str = "rewriting";
const COMPLETE: &str = "rewritten";
const ALONE: &str = "rewritten-alone";
const CURRENT: &str = "CURRENT";
/// Bytes that are read at once. A space that has no more goes through the memtables: a table file for
/// each small replica would cost a start more than it holds.
const STEP_BYTES: usize = 1 << 20;

/// A copy of a store that is being written.
pub(crate) struct Rewrite<'a> {
    old: &'a DataStore,
    new: DataStore,
}

impl Rewrite<'_> {
    /// Begins a copy of `old`, which `identity` owns. Blocks for the disk.
    pub(crate) fn begin(
        old: &DataStore,
        identity: StoreIdentity,
        open_files_max: i32,
    ) -> Result<Rewrite<'_>, SpaceError> {
        let path = old.directory().join(UNFINISHED);
        remove_folder(&path).map_err(|cause| file_error(&path, cause))?;
        make_durably(&path).map_err(|cause| file_error(&path, cause))?;
        let new = DataStore::open_bounded(&path, true, open_files_max)?;
        new.take_identity(identity)?;
        Ok(Rewrite { old, new })
    }

    /// Copies a space with its `record`. `Err` within `Ok` says what of it can't be read: then nothing
    /// of it is in the copy. Blocks for the disk.
    pub(crate) fn copy(
        &self,
        space: SpaceId,
        record: &AppliedRecord,
    ) -> Result<Result<(), DataError>, SpaceError> {
        let view = self.old.view(space);
        let mut pairs = match read(view.pairs(&[], STEP_BYTES))? {
            Ok(pairs) => pairs,
            Err(damage) => return Ok(Err(damage)),
        };
        if pairs.next.is_none() {
            let mut batch = WriteBatch::default();
            batch.put(record_key(space), record.encode());
            each(&pairs, |key, value| {
                batch.put(user_key(space, key), value);
                Ok(())
            })?;
            self.new.write(&batch)?;
            return Ok(Ok(()));
        }
        let mut writer = SpaceWriter::begin(&self.new, space, record)?;
        loop {
            each(&pairs, |key, value| writer.put(key, value))?;
            let Some(next) = pairs.next.take() else { break };
            pairs = match read(view.pairs(&next, STEP_BYTES))? {
                Ok(pairs) => pairs,
                Err(damage) => return Ok(Err(damage)),
            };
        }
        writer.ingest()?;
        Ok(Ok(()))
    }

    /// Makes the copy durable. From now on it counts: [`finish`] puts it in the place of the old store,
    /// which must be closed before. Returns how many bytes its tables have.
    pub(crate) fn complete(self) -> Result<u64, SpaceError> {
        let Rewrite { old, new } = self;
        new.flush()?;
        let bytes = new.statistics().table_bytes;
        let path = new.directory().to_owned();
        let failed = |cause| file_error(&path, cause);
        new.delete_incoming().map_err(failed)?;
        drop(new);
        for file in files(&path).map_err(failed)? {
            File::open(path.join(file)).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        sync(&path).map_err(failed)?;
        rename(old.directory(), UNFINISHED, COMPLETE).map_err(failed)?;
        Ok(bytes)
    }
}

fn file_error(path: &Path, cause: io::Error) -> SpaceError {
    SpaceError::File { path: path.to_owned(), cause }
}

/// Damage as a value, any other failure as an error.
fn read(pairs: Result<Pairs, DataError>) -> Result<Result<Pairs, DataError>, SpaceError> {
    match pairs {
        Err(error) if !is_damage(&error) => Err(error.into()),
        pairs => Ok(pairs),
    }
}

fn each(
    pairs: &Pairs,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SpaceError>,
) -> Result<(), SpaceError> {
    let mut reader = ByteReader::new(&pairs.bytes[..]);
    while let Some((key, value)) = next_pair(&mut reader).expect("written just now") {
        visit(key, value)?;
    }
    Ok(())
}

/// Whether `directory` holds a store that was written anew and is not in its place yet.
pub(crate) fn is_pending(directory: &Path) -> bool {
    directory.join(COMPLETE).is_dir() || directory.join(ALONE).is_dir()
}

/// Puts a complete copy in the place of the store in `directory`, which must be closed, and clears its
/// [`DamageMark`]; deletes a copy that is not complete. Can be repeated after a crash, and does
/// nothing if there is no copy. Blocks for the disk.
///
/// # Errors
/// From the operating system.
pub(crate) fn finish(directory: &Path) -> io::Result<()> {
    finish_stepwise(directory, &mut || Ok(()))
}

/// As [`finish`], with a call before each step, so that a test can stop there as a crash would.
fn finish_stepwise(directory: &Path, before: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    remove_folder(&directory.join(UNFINISHED))?;
    if directory.join(COMPLETE).is_dir() {
        for name in files(directory)?.iter().filter(|name| is_of_store(name)) {
            before()?;
            fs::remove_file(directory.join(name))?;
        }
        sync(directory)?;
        before()?;
        rename(directory, COMPLETE, ALONE)?;
    }
    let alone = directory.join(ALONE);
    if !alone.is_dir() {
        return Ok(());
    }
    let names = files(&alone)?;
    let (last, first): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == CURRENT);
    for names in [first, last] {
        for name in names {
            before()?;
            fs::rename(alone.join(&name), directory.join(&name))?;
        }
        sync(directory)?;
    }
    before()?;
    remove_folder(&alone)?;
    sync(directory)?;
    before()?;
    // A note that stays because of a crash makes another copy.
    DamageMark::of(directory).clear()
}

/// Whether RocksDB gives this name to a file. Others may belong to the operator.
fn is_of_store(name: &str) -> bool {
    let is_numbered = |ending| {
        let number = name.strip_suffix(ending);
        number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    [".sst", ".log", ".dbtmp"].into_iter().any(is_numbered)
        || ["CURRENT", "IDENTITY", "LOCK", "LOG"].contains(&name)
        || ["MANIFEST-", "OPTIONS-", "LOG.old"].iter().any(|head| name.starts_with(head))
}

/// The names of the files in a directory, without its folders.
fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames a folder of `directory`, durably.
fn rename(directory: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(directory.join(from), directory.join(to))?;
    sync(directory)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
