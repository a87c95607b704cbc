//! Free space on a node's disk, and how much of it a start needs.

use std::fs;
use std::io;
use std::path::Path;

use quorate_types::limits;

use crate::error::OpenFault;

/// The space of a disk at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What this process may still write.
    pub(crate) free_bytes: u64,
    /// The size of the disk.
    pub(crate) bytes: u64,
}

impl Room {
    /// The space of the disk of the two stores of the node in `directory` that is nearer to its floor: each
    /// may be a mount of its own.
    pub(crate) fn of_node(directory: &Path) -> io::Result<Room> {
        let (log, data) = (Room::of(&directory.join("log"))?, Room::of(&directory.join("data"))?);
        let above = |room: Room| i128::from(room.free_bytes) - i128::from(room.usual_floor_bytes());
        Ok(if above(data) < above(log) { data } else { log })
    }

    /// Below how many free bytes no writes are taken, unless an owner says otherwise.
    pub(crate) fn usual_floor_bytes(self) -> u64 {
        (self.bytes / 100 * limits::DISK_FLOOR_PERCENT).max(limits::DISK_FLOOR_BYTES)
    }

    /// The space of the disk that holds `directory`, or will hold it once it is created.
    pub(crate) fn of(directory: &Path) -> io::Result<Room> {
        let there = directory.ancestors().find(|path| path.exists());
        // A relative path ends in an empty one, which stands for the working directory.
        let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let found = rustix::fs::statvfs(there)?;
        Ok(Room {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

/// Refuses to open `directory` on a disk that a start would fill. Changes nothing: a start that fails
/// half way leaves files behind, and each further try of a supervisor would take more of what is left.
///
/// # Errors
/// [`OpenFault::DiskFull`]. Space that can't be determined is no reason to refuse.
pub(crate) fn check(directory: &Path) -> Result<(), OpenFault> {
    let (free_bytes, replayed_bytes) = match (Room::of_node(directory), replayed_bytes(directory)) {
        (Ok(room), Ok(replayed_bytes)) => (room.free_bytes, replayed_bytes),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(directory = %directory.display(), %error, "room on the disk is not known");
            return Ok(());
        }
    };
    match needed_bytes(replayed_bytes) {
        needed_bytes if free_bytes < needed_bytes => Err(OpenFault::DiskFull {
            free_mebibytes: mebibytes(free_bytes),
            needed_mebibytes: needed_bytes.div_ceil(1 << 20),
        }),
        _ => Ok(()),
    }
}

/// Refuses to copy `bytes` of tables on the disk of `directory` if they would fill it.
///
/// # Errors
/// [`OpenFault::NoRoomToRewrite`]. Space that can't be determined is no reason to refuse.
pub(crate) fn check_rewrite(directory: &Path, bytes: u64) -> Result<(), OpenFault> {
    let free_bytes = match Room::of(directory) {
        Ok(room) => room.free_bytes,
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "room on the disk is not known");
            return Ok(());
        }
    };
    match needed_bytes(bytes) {
        needed_bytes if free_bytes < needed_bytes => Err(OpenFault::NoRoomToRewrite {
            directory: directory.to_owned(),
            free_mebibytes: mebibytes(free_bytes),
            needed_mebibytes: needed_bytes.div_ceil(1 << 20),
        }),
        _ => Ok(()),
    }
}

/// A start writes what it replays into tables before the source files may be deleted (RULE 8), and so
/// it copies what it rewrites.
fn needed_bytes(copied_bytes: u64) -> u64 {
    limits::DISK_FREE_START_BYTES.saturating_add(copied_bytes)
}

/// Bytes of the log's write-ahead files in the node's `directory`.
fn replayed_bytes(directory: &Path) -> io::Result<u64> {
    let files = match fs::read_dir(directory.join("log")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        files => files?,
    };
    let mut bytes = 0;
    for file in files {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "log") {
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the fuller one of two disks counts, whichever store it holds. Method: a store on a file system
    /// in memory, on machines that have one.
    #[test]
    fn the_fuller_disk_counts() {
        let elsewhere = match Path::new("/dev/shm") {
            memory if memory.is_dir() => tempfile::tempdir_in(memory),
            _ => tempfile::tempdir(),
        };
        let elsewhere = elsewhere.expect("a directory");
        let other = Room::of(elsewhere.path()).expect("found");
        for store in ["log", "data"] {
            let directory = tempfile::tempdir().expect("a directory");
            let own = Room::of(directory.path()).expect("found");
            assert_eq!(Room::of_node(directory.path()).expect("found").bytes, own.bytes);
            std::os::unix::fs::symlink(elsewhere.path(), directory.path().join(store))
                .expect("made");
            let above =
                |room: Room| i128::from(room.free_bytes) - i128::from(room.usual_floor_bytes());
            let fuller = if above(other) < above(own) { other } else { own };
            let found = Room::of_node(directory.path()).expect("found");
            assert_eq!(found.bytes, fuller.bytes, "{store}");
        }
    }

    /// Goal: a start needs what it replays and some more, also where no directory exists yet. Method:
    /// sparse files; then one that is larger than any disk, which has to be refused with both figures.
    #[test]
    fn a_start_needs_room_for_what_it_replays() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = temporary.path().join("not/yet/there");
        assert_eq!(replayed_bytes(&directory).expect("nothing"), 0);
        assert_eq!(
            Room::of(&directory).expect("found").bytes,
            Room::of(temporary.path()).expect("found").bytes
        );
        assert!(Room::of(Path::new("relative/and/not/there")).is_ok());

        let log = temporary.path().join("log");
        fs::create_dir(&log).expect("made");
        let sparse = |name: &str, bytes| {
            let file = fs::File::create(log.join(name)).expect("made");
            file.set_len(bytes).expect("sparse");
        };
        sparse("000005.log", 3_000);
        sparse("000007.log", 500);
        sparse("000008.sst", 9_999);
        assert_eq!(replayed_bytes(temporary.path()).expect("read"), 3_500);
        assert!(check(temporary.path()).is_ok());
        sparse("000009.log", 1 << 43);
        let refused = check(temporary.path()).expect_err("8 TiB").to_string();
        assert!(refused.contains("8388673 MiB"), "{refused}");
    }

    /// Goal: no copy is begun that would fill the disk, and the refusal has the figure.
    #[test]
    fn a_copy_needs_room_for_all_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(check_rewrite(directory.path(), 1).is_ok());
        let refused =
            check_rewrite(directory.path(), 1 << 60).expect_err("an exbibyte").to_string();
        assert!(refused.contains("takes 1099511627840 MiB"), "{refused}");
    }
}
