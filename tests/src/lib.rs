//! Code shared by the tests of Quorate as a whole.

pub mod cluster;
pub mod link;
pub mod plot;
pub mod power_loss;
pub mod process;

/// The README's example is compiled and run with the documentation tests.
#[doc = include_str!("../../README.md")]
pub struct Readme;
