//! What the tests of Quorate as a whole share.

pub mod cluster;
pub mod power_loss;
