//! What restarts leave behind.

mod common;

use std::sync::atomic::AtomicBool;

use common::*;
use quorate_types::{Index, ShardId};

/// Goal: the table files of a directory are bounded by its data, not by how often it was opened,
/// although every start writes what it replayed into a table of each family. Method: many starts
/// with one small run of each shard between them, and what is done after each start.
#[test]
fn restarts_leave_a_bounded_number_of_tables() {
    const SHARDS: u64 = 6;
    const STARTS: u64 = 60;
    let disk = Disk::new();
    let mut most = 0;
    for start in 0..STARTS {
        let (log, _) = disk.open();
        if start == 0 {
            let new: Vec<_> = (0..SHARDS).map(replica).collect();
            log.create_replicas(&new).expect("new");
        }
        let writes: Vec<_> =
            (0..SHARDS).map(|shard| append(shard, run(2, 11 + start, 1))).collect();
        put(&log, &writes).expect("written");
        log.merge_tables(&AtomicBool::new(false), &|| true).expect("a healthy disk");
        drop(log);
        most = most.max(disk.files(".sst").len());
    }
    let (log, _) = disk.open();
    for shard in 0..SHARDS {
        let runs = log.read(ShardId(shard), Index(11)..Index(999), usize::MAX).expect("whole");
        assert_eq!(runs.len() as u64, STARTS);
    }
    assert!(most <= 100, "{most} tables");
}

/// Goal: without room on the disk nothing is merged, and the store continues. Method: as many
/// starts as cause a merge, with a disk that refuses, then accepts.
#[test]
fn nothing_is_merged_without_room() {
    let disk = Disk::new();
    for start in 0..12 {
        let (log, _) = disk.open();
        if start == 0 {
            log.create_replicas(&[replica(1)]).expect("new");
        }
        put(&log, &[append(1, run(2, 11 + start, 1))]).expect("written");
    }
    let (log, _) = disk.open();
    let stop = AtomicBool::new(false);
    assert_eq!(log.merge_tables(&stop, &|| false).expect("a healthy disk"), 0);
    assert!(log.merge_tables(&stop, &|| true).expect("a healthy disk") > 0);
}
