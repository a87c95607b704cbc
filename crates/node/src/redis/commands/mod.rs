//! What each Redis command means: which there are, what their arguments say, and how they run on the
//! engine.
//!
//! Only `execute` and `scan` meet the engine; the rest is pure.

mod absent;
pub mod command;
pub(super) mod execute;
pub mod glob;
pub(super) mod reply_size;
mod scan;
pub mod table;
