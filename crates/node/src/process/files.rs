//! Directories and small files that must survive a power cut.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Permissions of a file that anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// Permissions of a private key.
pub(crate) const PRIVATE: u32 = 0o600;

/// The operating system refused something on a file or a directory.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} {}: {cause}", path.display())]
pub struct FileError {
    /// What was tried.
    pub what: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's error.
    pub cause: io::Error,
}

impl FileError {
    pub(crate) fn new(what: &'static str, path: &Path, cause: io::Error) -> FileError {
        FileError { what, path: path.to_owned(), cause }
    }
}

/// Makes the directory `path` and its parents, for this user alone; an existing one is unchanged.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| FileError::new("make the directory", path, cause))
}

pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|cause| FileError::new("read", path, cause))
}

/// True if other users may read the file at `path`; false if that can't be found out.
pub(crate) fn others_may_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o044 != 0)
}

/// What to say of a private key at `path` that others may read.
pub(crate) fn loose_key(path: &Path) -> Option<String> {
    others_may_read(path).then(|| {
        let path = path.display();
        format!("{path} can be read by others than its owner: run `chmod 600 {path}`")
    })
}

/// Writes a file whole or not at all; it survives a power cut.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    write(path, bytes, mode).map_err(|cause| FileError::new("write", path, cause))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    // The remains of a write that was cut off could have looser permissions than this file.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    fs::File::open(directory_of(path))?.sync_all()
}

/// The directory that `path` is in. The parent of a bare name is the empty path, which can't be
/// opened.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a private file is private, whatever lay there before. Method: leave a loose file under
    /// the temporary name.
    #[test]
    fn a_private_file_is_private() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("key");
        fs::write(temporary.path().join("key.new"), "remains").expect("written");
        write_whole(&path, b"secret", PRIVATE).expect("written");
        write_whole(&path, b"secret again", PRIVATE).expect("written over");
        assert_eq!(read_text(&path).expect("read"), "secret again");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert_eq!(loose_key(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let told = loose_key(&path).expect("its group may read it");
        assert!(told.contains(&format!("chmod 600 {}", path.display())), "{told}");
        let names = fs::read_dir(temporary.path()).expect("listed").count();
        assert_eq!(names, 1, "no temporary file stays");
    }

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        assert_eq!(directory_of(Path::new("node.toml")), Path::new("."));
        assert_eq!(directory_of(Path::new("conf/node.toml")), Path::new("conf"));
    }
}
