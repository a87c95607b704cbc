//! What a disk may hold after a power loss at any instant of a recorded run.
//!
//! A process runs under the preload library of `tests/power_loss_shim`, which appends every change
//! of a file or directory, and every sync, to a journal. [`Model`] replays the journal up to any
//! record and writes a tree that a power loss at that instant could have left behind. One long run
//! serves for many losses: only the replay is repeated, not the load.
//!
//! It models the disk's promises, not one file system. It does not cover a machine that lies about
//! syncs or damages what it synced.
//!
//! ```text
//! program under the shim ──► journal ──► Journal ──► Model::cut_at ──► Model::materialise ──► tree
//!        └── marks (files ANNOTATIONS-*) ───► Journal::marks_until ──► what must be in the tree
//! ```
//!
//! # What is taken to be durable
//!
//! - Everything that stood below the root when the recording began.
//! - Data and length of a file: what was written before the start of an `fsync` or `fdatasync` of it
//!   that has returned. `sync_file_range` and `sync` give nothing.
//! - Entries of a directory (create, rename, link, unlink, directory made or removed): what was
//!   done before the start of an `fsync` of that directory that has returned. As in POSIX, a sync
//!   of a new file does not keep its entry; with [`Entries::Journaled`], as on ext4 and XFS, any
//!   sync keeps every earlier entry.
//!
//! A program that makes a directory therefore has to sync the directory above it. RocksDB does not
//! do so for its own directory.
//!
//! # What happens to the rest
//!
//! - A random prefix of the unsynced entry operations of every directory survives. An operation on
//!   two directories (a rename) survives in both or in neither.
//! - [`Loss`] says which of a file's unsynced writes survive: none, all, a prefix whose last write
//!   is torn at a sector, or any set of sectors or pages. A hole inside the file reads as before,
//!   or as zeroes. The file's new length may be lost, kept in part, or kept without the data.
//! - All choices follow from a seed.
//!
//! # Marks
//!
//! A file below the root whose name begins with `ANNOTATIONS-` is not part of the disk: what is
//! written to it is handed to the test in order, durable at once. The loaded program writes there
//! what it has promised ("write 7 acknowledged"), one `write` per line, after the promise is due.
//!
//! ```no_run
//! use quorate_tests::power_loss::{Entries, Journal, Loss, Model, Recording, Shim};
//! use std::process::Command;
//!
//! # fn main() -> anyhow::Result<()> {
//! let recording = Recording { root: "/run/live".into(), journal: "/run/journal".into(), lie: None };
//! let mut program = Command::new("/run/program");
//! Shim::build()?.record(&mut program, &recording);
//! program.spawn()?.wait()?;
//!
//! let journal = Journal::open(&recording.journal)?;
//! let mut model = Model::new(&journal, None, Entries::Strict)?;
//! for seed in 0..100 {
//!     let cut = (seed as usize * 7919) % (journal.records() + 1);
//!     model.cut_at(cut)?;
//!     model.materialise("/run/after".as_ref(), seed, Loss::Mixed)?;
//!     // Open what is left in /run/after and look for all of `journal.marks_until(cut)?`.
//!     std::fs::remove_dir_all("/run/after")?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The next round of a chain starts from such a tree: give it as the image to the next model, and a
//! copy of it ([`copy_tree`]) to the program, since the image must stay as it is.

// The writing half is used by the preload library and by tests.
#[allow(dead_code)]
mod format;
mod journal;
mod loss;
mod materialise;
mod model;
mod names;
mod recording;

pub use journal::{Journal, Mark};
pub use loss::Loss;
pub use materialise::{Report, copy_tree};
pub use model::Model;
pub use names::Entries;
pub use recording::{Recording, Shim};

#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rocksdb_tests;
