//! What the bench reads from the machine: file system, sync time, processor time.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Linux counts processor time in hundredths of a second on every architecture that we run on
/// (USER_HZ); asking the C library would need unsafe code.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of one append of the disk's measurement: a small turn.
const APPEND_BYTES: usize = 4096;
const APPENDS: usize = 200;

/// Magic numbers of file systems (statfs(2)), with their names.
const FILE_SYSTEMS: [(u64, &str); 8] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x6969, "nfs"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
];

/// The name of the file system under `path`, or its magic number. The kernel is asked, not the
/// list of mounts: that shows no root to a process in a chroot.
///
/// # Errors
/// If it is kept in memory, where a sync costs nothing and means nothing; or is unknown.
pub fn refuse_memory_filesystem(path: &Path) -> anyhow::Result<String> {
    let told = rustix::fs::statfs(path)
        .with_context(|| format!("can't tell the file system of {}", path.display()))?;
    let kind = name_of(told.f_type.cast_unsigned());
    anyhow::ensure!(
        !matches!(kind.as_str(), "tmpfs" | "ramfs"),
        "{} is on {kind}, a file system in memory: a sync there means nothing; choose a directory \
         on a disk with --dir",
        path.display()
    );
    Ok(kind)
}

fn name_of(magic: u64) -> String {
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

/// The median time of a small append and its sync in `directory`.
pub(super) fn measure_disk_sync(directory: &Path) -> anyhow::Result<Duration> {
    let path = directory.join("sync-measurement");
    let mut file = fs::File::create(&path)?;
    let block = [0x5a; APPEND_BYTES];
    let mut times = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[APPENDS / 2])
}

/// Processor seconds of this process so far.
pub(super) fn processor_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/self/stat").context("can't read /proc/self/stat")?;
    // The name stands in parentheses and may hold blanks; user and system time are fields 14, 15.
    let (_, fields) = text.rsplit_once(')').context("/proc/self/stat has an unknown form")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> anyhow::Result<f64> {
        Ok(fields.next().context("/proc/self/stat is short")?.parse()?)
    };
    Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_named_and_memory_is_refused() {
        assert_eq!(name_of(0xef53), "ext4");
        assert_eq!(name_of(0x1234), "0x1234");
        let missing = refuse_memory_filesystem(Path::new("/no/such/directory"));
        assert!(missing.is_err_and(|error| error.to_string().contains("/no/such/directory")));
        let memory = Path::new("/dev/shm");
        if rustix::fs::statfs(memory).is_ok_and(|told| told.f_type == 0x0102_1994) {
            assert!(refuse_memory_filesystem(memory).is_err());
        }
    }

    #[test]
    fn processor_time_is_read() {
        assert!(processor_seconds().expect("read") >= 0.0);
    }
}
