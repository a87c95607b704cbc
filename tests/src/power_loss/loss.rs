//! What survives of one file's unsynced changes.

use quorate_types::SplitMix64;

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// The unit in which the system writes back cached data.
const PAGE_BYTES: u64 = 4096;

/// How much of the unsynced data a power loss takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the tree as the program saw it, to check the recording itself.
    Nothing,
    /// All of it, entries of directories too.
    All,
    /// All but a prefix of every file's changes, in the order in which they were made; the last of
    /// them may be torn at a sector, and the file may be longer than its data. This is an appended
    /// file on a disk that keeps the order of writes.
    Tail,
    /// All but a prefix of every file's changes, each of which survives whole or not at all.
    Prefix,
    /// Any sectors of any unsynced writes: the system writes pages back in any order.
    Scattered,
    /// For every file one of these at random: nothing survives, everything, tail, scattered
    /// sectors, scattered pages.
    Mixed,
}

/// A change of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Bytes that stand in the journal at `source`.
    Write { offset: u64, length: u64, source: u64 },
    /// The file has this length.
    Truncate { length: u64 },
    /// The file has at least this length.
    Extend { length: u64 },
}

impl Change {
    /// The length of a file of `length` bytes after the change.
    pub(crate) fn length_after(self, length: u64) -> u64 {
        match self {
            Change::Write { offset, length: written, .. } => length.max(offset + written),
            Change::Truncate { length } => length,
            Change::Extend { length: extended } => length.max(extended),
        }
    }

    /// How many bytes the change wrote.
    pub(crate) fn written(self) -> u64 {
        match self {
            Change::Write { length, .. } => length,
            Change::Truncate { .. } | Change::Extend { .. } => 0,
        }
    }

    /// The part [from, to) of a write, in offsets of the file.
    fn part(self, from: u64, to: u64) -> Option<Change> {
        let Change::Write { offset, length, source } = self else { return None };
        let (from, to) = (from.max(offset), to.min(offset + length));
        (from < to).then(|| Change::Write {
            offset: from,
            length: to - from,
            source: source + (from - offset),
        })
    }
}

/// What is left of the unsynced changes of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survivors {
    /// To be made on top of the durable contents, in order.
    pub(crate) changes: Vec<Change>,
    /// The final length.
    pub(crate) length: u64,
    /// Writes that survived in part.
    pub(crate) torn: usize,
    /// Truncations and extensions without effect.
    pub(crate) resizes_lost: usize,
}

/// Chooses what survives of `unsynced` in a file whose durable contents are `durable_length` long.
pub(crate) fn choose(
    random: &mut SplitMix64,
    loss: Loss,
    durable_length: u64,
    unsynced: &[Change],
) -> Survivors {
    let choice = match loss {
        Loss::All => 0,
        Loss::Nothing => 1,
        Loss::Prefix => {
            let count = random.below(unsynced.len() as u64 + 1) as usize;
            return prefix(durable_length, unsynced, count);
        }
        Loss::Tail => 2,
        Loss::Scattered => 3,
        Loss::Mixed => random.below(5),
    };
    match choice {
        0 => prefix(durable_length, unsynced, 0),
        1 => prefix(durable_length, unsynced, unsynced.len()),
        2 => tail(random, durable_length, unsynced),
        3 => scattered(random, durable_length, unsynced, SECTOR_BYTES),
        _ => scattered(random, durable_length, unsynced, PAGE_BYTES),
    }
}

/// The first `count` changes.
fn prefix(durable_length: u64, unsynced: &[Change], count: usize) -> Survivors {
    let changes = unsynced[..count].to_vec();
    let length = length_after(durable_length, &changes);
    let resizes_lost = resizes(&unsynced[count..]);
    Survivors { changes, length, torn: 0, resizes_lost }
}

/// A random number of changes and, every other time, a torn piece of the next one.
fn tail(random: &mut SplitMix64, durable_length: u64, unsynced: &[Change]) -> Survivors {
    let count = random.below(unsynced.len() as u64 + 1) as usize;
    let mut survivors = prefix(durable_length, unsynced, count);
    let Some(next @ Change::Write { offset, length, .. }) = unsynced.get(count) else {
        return survivors;
    };
    if random.below(2) == 0 {
        return survivors;
    }
    let grown = next.length_after(survivors.length);
    let end = (offset + random.below(length + 1)) / SECTOR_BYTES * SECTOR_BYTES;
    if let Some(piece) = next.part(*offset, end) {
        survivors.length = piece.length_after(survivors.length);
        survivors.torn = usize::from(piece.written() < *length);
        survivors.changes.push(piece);
    }
    if random.below(2) == 0 {
        // The length is on the disk, the data is not.
        survivors.length = grown;
    }
    survivors
}

/// Any set of blocks. Truncations keep their order, because they pass through the file system's own
/// journal: a prefix of them survives.
fn scattered(
    random: &mut SplitMix64,
    durable_length: u64,
    unsynced: &[Change],
    block_bytes: u64,
) -> Survivors {
    // Few, half or most of the blocks: an even chance alone would nearly never keep or drop a long
    // run of blocks.
    let odds = [1, 8, 15][random.below(3) as usize];
    let mut resizes_left = random.below(resizes(unsynced) as u64 + 1);
    let resizes_lost = resizes(unsynced) - resizes_left as usize;
    let mut changes = Vec::new();
    let mut torn = 0;
    for change in unsynced {
        let Change::Write { offset, length, .. } = *change else {
            if resizes_left > 0 {
                resizes_left -= 1;
                changes.push(*change);
            }
            continue;
        };
        let mut kept = 0;
        let mut block = offset / block_bytes * block_bytes;
        while block < offset + length {
            if random.below(16) < odds
                && let Some(piece) = change.part(block, block + block_bytes)
            {
                kept += piece.written();
                changes.push(piece);
            }
            block += block_bytes;
        }
        torn += usize::from(kept > 0 && kept < length);
    }
    let natural = length_after(durable_length, &changes);
    let full = length_after(durable_length, unsynced);
    let length = match random.below(3) {
        0 => natural.max(full),
        // Durable bytes stay, unless a truncation that survived took them.
        1 if natural > durable_length => {
            durable_length + random.below(natural - durable_length + 1)
        }
        _ => natural,
    };
    Survivors { changes, length, torn, resizes_lost }
}

/// The length of a file of `length` bytes after all changes.
pub(crate) fn length_after(length: u64, changes: &[Change]) -> u64 {
    changes.iter().fold(length, |length, change| change.length_after(length))
}

fn resizes(changes: &[Change]) -> usize {
    changes.iter().filter(|change| !matches!(change, Change::Write { .. })).count()
}
