//! From a directory to a running engine, and to its end.

pub(crate) mod assemble;
pub(crate) mod open;
pub(crate) mod recover;
pub(crate) mod running;
pub(crate) mod settings;
pub(crate) mod threads;
pub(crate) mod tidy;
