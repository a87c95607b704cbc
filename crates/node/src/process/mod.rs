//! What every part of the binary needs of its process: descriptors, files, the log, standard output,
//! and futures within one task. Knows nothing of engines or ports.

pub(crate) mod accept;
pub mod concurrent;
pub mod descriptors;
pub mod files;
pub(crate) mod logging;
pub mod outlet;
