//! The one source of pseudo-random numbers: splitmix64 (Steele, Lea and Flood, 2014), and its parts.
//!
//! Jitter, the simulator and the spreading of keys need nothing better, and the same seed gives the same
//! numbers on every machine. Identities and nonces come from the operating system.

use std::time::Duration;

/// The increment of splitmix64's state. As a multiplier it spreads neighbouring numbers.
pub const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64: a bijection of which each input bit flips every output bit with a
/// probability near one half.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(SPREAD);
        mix(self.0)
    }

    /// A number in `[0, bound)`. The bias of the remainder, at most `bound` in 2^64, never matters.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no number");
        self.bits() % bound
    }

    /// A number in `[low, high)`.
    ///
    /// # Panics
    /// If there is none.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// A place in a list of `len` elements.
    ///
    /// # Panics
    /// If the list is empty.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("a place is below a length")
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// A duration in `[shortest, 2 * shortest)`.
    pub fn stretch(&mut self, shortest: Duration) -> Duration {
        let span_ns = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX).max(1);
        shortest + Duration::from_nanos(self.below(span_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: histories stay reproducible. Method: the published first outputs for seed 1234567.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn stretched_durations_stay_in_range() {
        let mut random = SplitMix64::new(3);
        let shortest = Duration::from_millis(10);
        for _ in 0..1_000 {
            let drawn = random.stretch(shortest);
            assert!(shortest <= drawn && drawn < shortest * 2);
        }
    }
}
