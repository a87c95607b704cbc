//! What each Redis command means, and how it runs on the engine.
//!
//! Only `execute` and `scan` call the engine; the rest is pure.

mod absent;
pub mod command;
pub(super) mod execute;
pub mod glob;
pub(super) mod reply_size;
mod scan;
pub mod table;
