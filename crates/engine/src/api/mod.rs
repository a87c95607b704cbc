//! The engine's public handle, and the types that it returns.

pub(crate) mod builder;
pub(crate) mod engine;
pub(crate) mod entries;
pub(crate) mod submission;
pub(crate) mod watches;
