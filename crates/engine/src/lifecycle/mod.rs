//! Opens an engine from its directory, runs its threads, and stops them.

pub(crate) mod assemble;
mod join;
pub(crate) mod open;
mod own_store;
pub(crate) mod periodic;
pub(crate) mod recover;
mod rewrite;
pub(crate) mod running;
pub(crate) mod settings;
pub(crate) mod threads;

#[cfg(test)]
mod damage_tests;
