//! Merges the small tables of one family.
//!
//! Every start writes what it replayed into a table of each family, and so does a full write-ahead
//! log. The keys of a family with one shard ascend, so these tables never overlap, and RocksDB
//! moves tables that don't overlap down its levels unchanged. It would keep thousands of tables of
//! a few hundred bytes forever; each costs a start time and memory, and may cost a descriptor.
//!
//! RocksDB's universal compaction would merge them, too, but also rewrite large tables several
//! times, which is unnecessary with ascending keys.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{CompactionOptions, LiveFile};

use crate::error::LogFault;
use crate::statistics::add;
use crate::store::LogStore;

/// Upper bounds of the size classes of tables; larger tables are left alone. Eight tables of a
/// class make one of the next, so a byte is rewritten once per class, except in the first: there a
/// table grows by the tables of seven starts at a time.
const SIZES_BYTES: [usize; 3] = [64 << 10, 512 << 10, 4 << 20];
/// Fewest neighbours that are merged: fewer are left alone, so that a start does not rewrite what
/// the last one wrote.
const MERGED_MIN: usize = 8;
/// Most neighbours that are merged at once: a job of at most
/// [`LOG_MERGE_BYTES_MAX`](quorate_types::limits::LOG_MERGE_BYTES_MAX), and usually far below a
/// megabyte.
const MERGED_MAX: usize = 64;
const _: () = assert!(
    MERGED_MAX * SIZES_BYTES[SIZES_BYTES.len() - 1]
        <= quorate_types::limits::LOG_MERGE_BYTES_MAX as usize
);

impl LogStore {
    /// Merges neighbouring small tables until none are left, `stop` is true, or `has_room` says
    /// that the disk has no room for a job of `limits::LOG_MERGE_BYTES_MAX`. Returns how many were
    /// merged. Blocks for the disk, a few milliseconds for each family that has such tables, but
    /// blocks no reader or writer: meant for a separate thread, after a start and now and then.
    ///
    /// # Errors
    /// The first [`LogFault`] of this store, from a merge that failed or from elsewhere.
    pub fn merge_tables(
        &self,
        stop: &AtomicBool,
        has_room: &dyn Fn() -> bool,
    ) -> Result<usize, LogFault> {
        let mut merged = 0;
        loop {
            self.latch().check()?;
            let files = self.db().live_files().map_err(|error| self.failed(&error))?;
            let mut round = 0;
            for group in groups(files) {
                if stop.load(Ordering::Relaxed) || !has_room() {
                    return Ok(merged);
                }
                round += self.merge(&group)?;
            }
            merged += round;
            if round == 0 {
                return Ok(merged);
            }
        }
    }

    /// Merges one group within its level. Returns how many tables it merged.
    fn merge(&self, group: &Group) -> Result<usize, LogFault> {
        let family = self.family(&group.family);
        let settings = CompactionOptions::default();
        let names = group.names.iter().map(String::as_str);
        match self.db().compact_files_cf(&family, &settings, names, group.level) {
            Ok(_) => {
                add(&self.counters().tables_merged, group.names.len() as u64);
                Ok(group.names.len())
            }
            Err(error) => {
                // A merge that failed on the disk has closed the latch by now. Any other was
                // refused: RocksDB is working on one of the tables, and the next pass finds the
                // result.
                self.latch().check()?;
                tracing::debug!(family = %group.family, %error, "small tables were not merged");
                Ok(0)
            }
        }
    }
}

/// Tables of one family and level that lie beside each other.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    family: String,
    level: i32,
    names: Vec<String>,
}

/// Those of `files` that are to be merged.
fn groups(files: Vec<LiveFile>) -> Vec<Group> {
    let mut places: BTreeMap<(String, i32), Vec<LiveFile>> = BTreeMap::new();
    // Tables of level 0 may overlap; RocksDB moves or merges them after the fourth.
    for file in files.into_iter().filter(|file| file.level > 0) {
        let place = (file.column_family_name.clone(), file.level);
        places.entry(place).or_default().push(file);
    }
    let mut groups = Vec::new();
    for ((family, level), mut tables) in places {
        tables.sort_by(|one, other| one.start_key.cmp(&other.start_key));
        let sizes: Vec<usize> = tables.iter().map(|table| table.size).collect();
        for range in neighbours(&sizes) {
            let names = tables[range].iter().map(|table| table.name.clone()).collect();
            groups.push(Group { family: family.clone(), level, names });
        }
    }
    groups
}

/// Disjoint ranges of neighbours that are to be merged, by their sizes: the smallest first. Smaller
/// tables between them are merged, too, but not counted.
fn neighbours(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut taken = vec![false; sizes.len()];
    let mut ranges = Vec::new();
    let mut smallest = 0;
    for bound in SIZES_BYTES {
        let mut start = 0;
        for end in 0..=sizes.len() {
            let joins = end < sizes.len() && sizes[end] < bound && !taken[end];
            if joins && end - start < MERGED_MAX {
                continue;
            }
            if sizes[start..end].iter().filter(|size| **size >= smallest).count() >= MERGED_MIN {
                taken[start..end].fill(true);
                ranges.push(start..end);
            }
            // A table that fits but exceeds the most that a group may have opens the next group.
            start = if joins { end } else { end + 1 };
        }
        smallest = bound;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    /// As pairs, because a list of one range looks like a range to be spelt out.
    fn neighbours(sizes: &[usize]) -> Vec<(usize, usize)> {
        super::neighbours(sizes).into_iter().map(|range| (range.start, range.end)).collect()
    }

    /// Goal: neighbours are merged with their like, never across a larger table, never too few nor
    /// too many at once. Method: rows of sizes.
    #[test]
    fn small_neighbours_are_merged_with_their_like() {
        assert!(neighbours(&[]).is_empty());
        assert!(neighbours(&[KIB; MERGED_MIN - 1]).is_empty());
        assert_eq!(neighbours(&[KIB; MERGED_MIN]), [(0, 8)]);
        let large = 64 << 20;
        let mut sizes = vec![KIB; 7];
        sizes.push(large);
        sizes.extend([KIB; 9]);
        sizes.push(large);
        assert_eq!(neighbours(&sizes), [(8, 17)]);
        let long = [KIB; 2 * MERGED_MAX + 3];
        assert_eq!(neighbours(&long), [(0, 64), (64, 128)]);
        let mixed: Vec<usize> = (0..16).map(|at| if at < 8 { 100 * KIB } else { KIB }).collect();
        assert_eq!(neighbours(&mixed), [(8, 16), (0, 8)], "each with its like");
        let mut between = vec![100 * KIB; MERGED_MIN - 1];
        between.splice(3..3, [KIB; 5]);
        assert!(neighbours(&between).is_empty(), "smaller ones don't count");
        between.push(100 * KIB);
        assert_eq!(neighbours(&between), [(0, 13)], "nor do they stand between");
    }

    /// Goal: what was merged is not merged again at once. Method: sizes grow as merges make them,
    /// over more starts than a directory sees.
    #[test]
    fn a_byte_is_written_again_a_few_times_only() {
        let (mut sizes, mut written) = (Vec::new(), 0usize);
        const STARTS: usize = 20_000;
        const EACH: usize = KIB;
        for _ in 0..STARTS {
            sizes.extend([EACH]);
            while let Some((from, to)) = neighbours(&sizes).first().copied() {
                let sum: usize = sizes[from..to].iter().sum();
                written += sum;
                sizes.splice(from..to, [sum]);
            }
        }
        let data = STARTS * EACH;
        assert!(written < data * 8, "{} times", written / data);
        assert!(sizes.len() < 32, "{} tables", sizes.len());
    }
}
