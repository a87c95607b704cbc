//! Writes a space that arrives in order, from outside, into table files, and puts them into the
//! store as a whole.

use std::io;
use std::path::{Path, PathBuf};

use quorate_machine::AppliedRecord;
use quorate_types::SpaceId;
use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use crate::store::data_store::{DataError, DataStore};
use crate::store::layout::{record_key, user_key};

/// Bytes after which the next table file is begun.
const TABLE_BYTES_MAX: u64 = 64 << 20;

/// Why a space could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error("{0}")]
    Data(#[from] DataError),
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
}

/// A space on its way into the store. What is written is deleted again unless it is ingested.
pub(crate) struct SpaceWriter<'a> {
    store: &'a DataStore,
    space: SpaceId,
    files: Vec<PathBuf>,
    table: Option<SstFileWriter<'a>>,
}

impl<'a> SpaceWriter<'a> {
    /// Begins the space with its record, which is the first of its keys.
    pub(crate) fn begin(
        store: &'a DataStore,
        space: SpaceId,
        record: &AppliedRecord,
    ) -> Result<SpaceWriter<'a>, SpaceError> {
        let directory = store.incoming();
        std::fs::create_dir_all(directory)
            .map_err(|cause| SpaceError::File { path: directory.to_owned(), cause })?;
        let mut writer = SpaceWriter { store, space, files: Vec::new(), table: None };
        writer.table()?.put(record_key(space), record.encode())?;
        Ok(writer)
    }

    /// Adds a pair; its key is above all before it.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), SpaceError> {
        let full = user_key(self.space, key);
        let table = self.table()?;
        table.put(full, value)?;
        if table.file_size() >= TABLE_BYTES_MAX {
            self.close_table()?;
        }
        Ok(())
    }

    /// Puts all of it into the store, durably. Blocks for the disk. Nothing names the space yet.
    pub(crate) fn ingest(mut self) -> Result<(), SpaceError> {
        self.close_table()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(self.store.db().ingest_external_file_opts(&options, self.files.clone())?)
    }

    fn table(&mut self) -> Result<&mut SstFileWriter<'a>, SpaceError> {
        if self.table.is_none() {
            let name = format!("{}-{}.sst", self.space, self.files.len());
            let path = self.store.incoming().join(name);
            let mut table = SstFileWriter::create(self.store.options());
            table.open(&path)?;
            self.files.push(path);
            self.table = Some(table);
        }
        Ok(self.table.as_mut().expect("made just now"))
    }

    fn close_table(&mut self) -> Result<(), SpaceError> {
        if let Some(mut table) = self.table.take() {
            table.finish()?;
        }
        Ok(())
    }
}

impl Drop for SpaceWriter<'_> {
    fn drop(&mut self) {
        drop(self.table.take());
        for file in &self.files {
            remove(file);
        }
    }
}

/// Removes a file that ingesting has moved, or that is of no use; a start removes what is left.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of a snapshot is left behind");
    }
}
