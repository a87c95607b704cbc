//! What the tests of Quorate as a whole share.

pub mod power_loss;
