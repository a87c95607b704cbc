//! Lengths of time, in nanoseconds.

/// Nanoseconds of a millisecond.
pub(crate) const MILLI: u64 = 1_000_000;
/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000 * MILLI;
