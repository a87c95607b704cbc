//! What the machine says: file system, sync time, processor time.

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

/// The name of the file system under `path`.
///
/// # Errors
/// If it is kept in memory, where a sync costs nothing and means nothing; or can't be told.
pub fn refuse_memory_filesystem(path: &Path) -> anyhow::Result<String> {
    let whole = path.canonicalize().with_context(|| format!("no directory {}", path.display()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    let kind = filesystem_of(&whole, &mounts)
        .with_context(|| format!("no mount found for {}", whole.display()))?;
    anyhow::ensure!(
        !matches!(kind.as_str(), "tmpfs" | "ramfs" | "devtmpfs"),
        "{} is on {kind}, a file system in memory: a sync there means nothing; choose a directory \
         on a disk with --dir",
        whole.display()
    );
    Ok(kind)
}

/// The type of the deepest mount above `path`; of several on one place the last one is seen.
fn filesystem_of(path: &Path, mounts: &str) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        // id parent device root MOUNT-POINT options [tags] - TYPE source options
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(place), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        let place = place.replace("\\040", " ");
        let place = Path::new(&place);
        let depth = place.components().count();
        if path.starts_with(place) && found.is_none_or(|(deepest, _)| depth >= deepest) {
            found = Some((depth, kind));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
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
    fn the_deepest_mount_decides() {
        let mounts = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                      2 1 0:5 / /tmp rw - tmpfs tmpfs rw\n\
                      3 2 8:2 / /tmp/my\\040disk rw - xfs /dev/b rw\n";
        let kind = |path: &str| filesystem_of(Path::new(path), mounts);
        assert_eq!(kind("/home").as_deref(), Some("ext4"));
        assert_eq!(kind("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmp/my disk/x").as_deref(), Some("xfs"));
        assert_eq!(kind("/tmpx").as_deref(), Some("ext4"));
    }

    #[test]
    fn processor_time_is_read() {
        assert!(processor_seconds().expect("read") >= 0.0);
    }
}
