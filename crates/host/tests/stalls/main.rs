//! What hangs: the disk, or a state machine. One host of a group in virtual time.

mod apply;
mod disk;
mod driver;
