//! The process of a node: its descriptors, files, log and output, and futures within one task.
//!
//! Nothing here knows an engine or a port.

pub(crate) mod accept;
pub mod concurrent;
pub mod descriptors;
pub mod files;
pub(crate) mod logging;
pub mod outlet;
