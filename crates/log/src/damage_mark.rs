//! A note in a store's directory that table files in it are damaged: the next start has to get rid of
//! them.
//!
//! RocksDB keeps a damaged table among its files. Reads around the damage go on, but every merge that
//! takes the table in fails, and a failed merge ends the node (RULE 8). So whoever meets such damage
//! leaves this note, and the next start writes what can be read into other tables before it merges
//! anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The note's name within the store's directory; RocksDB passes over names that it does not know.
const NAME: &str = "DAMAGED";

/// The note of one directory. It names what was found, a line each.
#[derive(Debug)]
pub struct DamageMark {
    dir: PathBuf,
    /// Held while the note is written: several threads may meet damage.
    writing: Mutex<()>,
}

impl DamageMark {
    /// The note of the store in `dir`, whether it is there or not.
    #[must_use]
    pub fn of(dir: &Path) -> DamageMark {
        DamageMark { dir: dir.to_owned(), writing: Mutex::new(()) }
    }

    /// Adds `what` to the note, durably. Blocks for the disk the first time that it is called with a
    /// text. A note that can't be written is reported and missed: the damage is then met again.
    pub fn note(&self, what: &str) {
        let _writing = self.writing.lock();
        if let Err(error) = self.add(what) {
            let dir = self.dir.display();
            tracing::error!(%dir, what, %error, "damage can't be noted for the next start");
        }
    }

    fn add(&self, what: &str) -> io::Result<()> {
        // One line each, so that the same damage is noted once.
        let line = what.replace(['\n', '\r'], " ");
        if self.read()?.is_some_and(|noted| noted.lines().any(|known| known == line)) {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.path())?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }

    /// What is noted; `None` without a note. A power cut may have taken the text of a note that is
    /// there.
    ///
    /// # Errors
    /// From the operating system.
    pub fn read(&self) -> io::Result<Option<String>> {
        match fs::read(self.path()) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the note, durably: the damaged tables are gone.
    ///
    /// # Errors
    /// From the operating system.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: everything that was found is noted, each once, until the note is cleared. Method: texts
    /// with and without a line break, some of them twice, also from a second start.
    #[test]
    fn damage_is_noted_until_it_is_cleared() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = DamageMark::of(dir.path());
        assert_eq!(mark.read().expect("readable"), None);
        mark.clear().expect("nothing to clear");
        for what in ["one\ntable", "another", "one\ntable"] {
            mark.note(what);
        }
        let later = DamageMark::of(dir.path());
        later.note("another");
        assert_eq!(later.read().expect("readable").as_deref(), Some("one table\nanother\n"));
        later.clear().expect("cleared");
        assert_eq!(mark.read().expect("readable"), None);
    }
}
