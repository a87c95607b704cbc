//! A preload library that records what a process did to its files, for the power-loss tests.
//!
//! Loaded by `LD_PRELOAD`, it stands in for the C library's functions that change files or sync
//! them. Each call is carried out by the kernel as usual and, once it has succeeded and before it
//! returns, appended to a journal. A model (`quorate-tests`, module `power_loss`) replays any prefix
//! of the journal and builds what a disk may hold when power fails at that instant.
//!
//! It is not a file system: reads see the page cache as always, and nothing is lost while the
//! process runs. The loss happens in the model.
//!
//! ```text
//! RocksDB, std::fs ──open/pwrite/fdatasync/rename──► this library ──system call──► kernel
//!                                                        └──one writev per call──► journal
//! ```
//!
//! Settings, all absolute paths, all by environment:
//! - `QUORATE_POWER_ROOT`: the directory whose contents are recorded; it must exist.
//! - `QUORATE_POWER_JOURNAL`: the journal, outside the root; appended to, made when missing.
//! - `QUORATE_POWER_LIE` (optional): syncs at or below this path succeed without being recorded, as
//!   on a disk that ignores them.
//!
//! What it relies on:
//! - One mutex is held across a call and its record, so the journal has the order in which the
//!   kernel saw the calls. A sync is recorded when it starts and when it returns, and runs without
//!   the mutex: it covers what was recorded before its start, and no more.
//! - A record is one `writev` on a descriptor opened for append: a process killed at any instant
//!   leaves a valid prefix and at most one torn record.
//! - Calls go straight to the kernel, without the C library's own functions in between: there is no
//!   symbol to look up and no way back into this library.
//!
//! A change below the root that could not be recorded (shared writable mappings, stdio streams,
//! symbolic links, synchronous descriptors, truncation by path) aborts the process with a message:
//! a test that ran on would prove nothing. Three things go unseen: files made inside the C library
//! (`mkstemp`), descriptors inherited through `exec`, and what a forked child does before it calls
//! `exec`. `sync`, `syncfs` and `sync_file_range` count as nothing, because no caller may rely on
//! them.

mod descriptors;
mod files;
// One definition of the bytes for writer and reader, without linking them together.
#[path = "../../src/power_loss/format.rs"]
#[allow(dead_code)]
mod format;
mod journal;
mod kernel;
mod names;
mod paths;
mod refused;
