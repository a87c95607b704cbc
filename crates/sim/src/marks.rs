//! Stub.
use crate::observation::{Observation, SimTime};
/// Stub.
#[derive(Default)]
pub struct Marks;
impl Marks {
    /// Stub.
    #[must_use]
    pub fn new() -> Marks { Marks }
    /// Stub.
    pub fn observe(&mut self, _: SimTime, _: &Observation<'_>) {}
}
