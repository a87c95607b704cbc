//! Certificates on the disk: an operator's directory of them, and the files that a node watches.

pub mod directory;
pub mod watch;
