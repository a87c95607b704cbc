//! Seeded jitter: splitmix64 (Steele, Lea and Flood, 2014), and its finalizer as a mixer.

/// The finalizer of splitmix64: a bijection of which each input bit flips every output bit with a
/// probability near one half.
pub(crate) fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A stream of pseudo-random numbers, the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A number in `[0, bound)`; 0 if the bound is 0. The bias of the remainder does not matter for
    /// jitter.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state) % bound.max(1)
    }
}
