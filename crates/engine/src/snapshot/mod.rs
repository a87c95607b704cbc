//! Snapshots between nodes: what a follower lacks that its leader's log no longer holds.
//!
//! A leader's node sends a consistent view of the replica's space in parts, one under way per
//! transfer; each is answered with the number of the next. So a transfer goes on where it was after
//! a connection broke, and never fills a lane. The receiver writes table files beside its data, puts
//! them into a space of their own, and has its worker install them (RULE 13).

mod incoming;
pub(crate) mod part;
mod rate;
pub(crate) mod receiver;
pub(crate) mod sender;
mod view;

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod own_engine_tests;
