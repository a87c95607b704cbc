//! The engine's public handle and what it gives out.

pub(crate) mod builder;
pub(crate) mod engine;
pub(crate) mod entries;
pub(crate) mod submission;
pub(crate) mod watches;
