//! Whether a node's disk has room for writes: its free space, judged against the floor below which
//! the node takes none.
//!
//! The first write that finds no room would end the node (RULE 8), so it stops taking them before:
//! below its floor those of the shards that it leads, and below half of it the entries of other
//! leaders, too. Written by the thread that looks at the disk; a write reads one atomic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::RwLock;
use quorate_types::{NodeId, limits};

use crate::error::DiskLow;
use crate::state::disk_room::Room;

/// What a node takes, given the room on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DiskLevel {
    /// Everything.
    #[default]
    Roomy = 0,
    /// Entries of other leaders, but no writes here.
    Low = 1,
    /// Neither.
    Spent = 2,
}

/// A change of what a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LevelChange {
    pub(crate) before: DiskLevel,
    pub(crate) now: DiskLevel,
}

/// The floor of one node's disk, and how the disk stood when it was last looked at.
#[derive(Default)]
pub(crate) struct DiskFloor {
    /// What the node's owner has set in place of the usual floor.
    chosen_bytes: Option<u64>,
    level: AtomicU8,
    free_bytes: AtomicU64,
    needed_bytes: AtomicU64,
    /// Whether each node had room when this one, lacking it, asked for the last time.
    relief: RwLock<BTreeMap<NodeId, bool>>,
}

impl DiskFloor {
    /// The floor that the owner has chosen, or the usual one.
    pub(crate) fn new(chosen_bytes: Option<u64>) -> DiskFloor {
        DiskFloor { chosen_bytes, ..DiskFloor::default() }
    }

    pub(crate) fn level(&self) -> DiskLevel {
        match self.level.load(Ordering::Acquire) {
            0 => DiskLevel::Roomy,
            1 => DiskLevel::Low,
            _ => DiskLevel::Spent,
        }
    }

    /// True if not even entries of other leaders are taken.
    pub(crate) fn is_spent(&self) -> bool {
        self.level() == DiskLevel::Spent
    }

    /// The figures, if writes are not taken.
    pub(crate) fn low(&self) -> Option<DiskLow> {
        (self.level() > DiskLevel::Roomy).then(|| DiskLow {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            needed_bytes: self.needed_bytes.load(Ordering::Relaxed),
        })
    }

    /// Judges the disk as it is now. Tells what changes.
    pub(crate) fn judge(&self, room: Room) -> Option<LevelChange> {
        let floor_bytes = self.floor_bytes(room);
        let before = self.level();
        let now = level(before, room.free_bytes, floor_bytes);
        self.free_bytes.store(room.free_bytes, Ordering::Relaxed);
        self.needed_bytes.store(floor_bytes + rise_bytes(floor_bytes), Ordering::Relaxed);
        self.level.store(now as u8, Ordering::Release);
        if now == DiskLevel::Roomy {
            self.relief.write().clear();
        }
        (before != now).then_some(LevelChange { before, now })
    }

    /// Below how many free bytes of such a disk no writes are taken.
    pub(crate) fn floor_bytes(&self, room: Room) -> u64 {
        self.chosen_bytes.unwrap_or(room.usual_floor_bytes())
    }

    /// Notes which nodes have room, of those that were asked.
    pub(crate) fn set_relief(&self, nodes: BTreeMap<NodeId, bool>) {
        *self.relief.write() = nodes;
    }

    /// Whether one of `members` has room, so that the leadership of their shard is on its way there. One
    /// that was not asked yet is asked within a second.
    pub(crate) fn is_relieved(&self, members: impl IntoIterator<Item = NodeId>) -> bool {
        let relief = self.relief.read();
        members.into_iter().any(|node| relief.get(&node).copied().unwrap_or(true))
    }
}

/// What follows from `free_bytes` after `before`: more room is needed to rise than not to fall.
fn level(before: DiskLevel, free_bytes: u64, floor_bytes: u64) -> DiskLevel {
    let below = |bound_bytes: u64, level| {
        let rise_bytes = if before >= level { rise_bytes(floor_bytes) } else { 0 };
        free_bytes < bound_bytes.saturating_add(rise_bytes)
    };
    if below(floor_bytes / limits::DISK_FLOOR_HARD_DIVISOR, DiskLevel::Spent) {
        DiskLevel::Spent
    } else if below(floor_bytes, DiskLevel::Low) {
        DiskLevel::Low
    } else {
        DiskLevel::Roomy
    }
}

fn rise_bytes(floor_bytes: u64) -> u64 {
    (floor_bytes / 8).min(limits::DISK_FLOOR_RISE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn look(floor: &DiskFloor, free_bytes: u64) -> (DiskLevel, bool) {
        let changed = floor.judge(Room { free_bytes, bytes: 10 * GIB }).is_some();
        (floor.level(), changed)
    }

    /// Goal: each bound stops what it should, nothing begins again before there is some room above
    /// it, and each change is told once. Method: a disk of 10 GiB that fills and empties.
    #[test]
    fn a_level_is_left_only_with_some_room() {
        let floor = DiskFloor::new(Some(1_000 * MIB));
        for (free, level, is_change) in [
            (5_000, DiskLevel::Roomy, false),
            (1_000, DiskLevel::Roomy, false),
            (999, DiskLevel::Low, true),
            (1_063, DiskLevel::Low, false),
            (1_064, DiskLevel::Roomy, true),
            (1_000, DiskLevel::Roomy, false),
            (500, DiskLevel::Low, true),
            (499, DiskLevel::Spent, true),
            (0, DiskLevel::Spent, false),
            (563, DiskLevel::Spent, false),
            (564, DiskLevel::Low, true),
            (500, DiskLevel::Low, false),
            (1, DiskLevel::Spent, true),
            (9_000, DiskLevel::Roomy, true),
            (1, DiskLevel::Spent, true),
        ] {
            assert_eq!(look(&floor, free * MIB), (level, is_change), "{free} MiB");
            assert_eq!(floor.is_spent(), level == DiskLevel::Spent);
            let figures = DiskLow { free_bytes: free * MIB, needed_bytes: 1_064 * MIB };
            assert_eq!(floor.low(), (level != DiskLevel::Roomy).then_some(figures));
        }
    }

    /// Goal: the usual floor is a part of a large disk, and a number of bytes of a small one; an owner's
    /// replaces both, and its rise is in proportion.
    #[test]
    fn a_floor_fits_its_disk() {
        let of = |chosen, bytes| DiskFloor::new(chosen).floor_bytes(Room { free_bytes: 0, bytes });
        assert_eq!(of(None, 10 * GIB), limits::DISK_FLOOR_BYTES);
        assert_eq!(of(None, 1_000 * GIB), 1_000 * GIB / 100 * 2);
        assert_eq!(of(Some(128 * MIB), 1_000 * GIB), 128 * MIB);
        let small = DiskFloor::new(Some(128 * MIB));
        assert_eq!(look(&small, 100 * MIB), (DiskLevel::Low, true));
        assert_eq!(small.low().map(|low| low.needed_bytes), Some(144 * MIB));
    }

    /// Goal: callers wait for the answer of a node that could take over, and are refused if each says no;
    /// and the answers are forgotten with the need for them.
    #[test]
    fn relief_is_forgotten_with_the_need() {
        let floor = DiskFloor::new(Some(1_000 * MIB));
        look(&floor, 1);
        assert!(floor.is_relieved([NodeId(3)]), "it was not asked yet");
        floor.set_relief(BTreeMap::from([(NodeId(1), false), (NodeId(2), true)]));
        assert!(floor.is_relieved([NodeId(1), NodeId(2)]) && !floor.is_relieved([NodeId(1)]));
        assert!(floor.is_relieved([NodeId(1), NodeId(3)]), "it was not asked yet");
        look(&floor, 5_000 * MIB);
        look(&floor, 1);
        assert!(floor.is_relieved([NodeId(1)]), "it was not asked this time");
    }
}
