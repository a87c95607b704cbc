//! A node's simulated clock, which strays from the true time that only the world knows.

use quorate_types::Monotonic;

const MILLION: i128 = 1_000_000;

/// A clock that runs too fast or too slow, and sometimes jumps ahead or stands still. Like
/// CLOCK_BOOTTIME it never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// True time of the last change of rate or jump.
    since: u64,
    /// What the clock showed at `since`.
    shown: u64,
    /// How much faster than true time it runs, in millionths.
    parts_per_million: i64,
}

impl Clock {
    pub(crate) fn new(shown: u64, parts_per_million: i64) -> Clock {
        Clock { since: 0, shown, parts_per_million }
    }

    /// What the clock shows at true time `now`.
    pub(crate) fn read(&self, now: u64) -> Monotonic {
        let passed = i128::from(now.saturating_sub(self.since));
        let shown = passed + passed * i128::from(self.parts_per_million) / MILLION;
        Monotonic(self.shown + u64::try_from(shown).expect("clocks never go back"))
    }

    /// The first true time at which the clock shows `shown` or more, if it keeps its rate.
    pub(crate) fn when(&self, shown: Monotonic) -> u64 {
        let ahead = i128::from(shown.0.saturating_sub(self.shown));
        let rate = MILLION + i128::from(self.parts_per_million);
        let passed = (ahead * MILLION + rate - 1) / rate;
        // Rounding in `read` may show a nanosecond less.
        self.since.saturating_add(u64::try_from(passed + 1).unwrap_or(u64::MAX))
    }

    /// From `now` on the clock runs at another rate.
    pub(crate) fn set_rate(&mut self, now: u64, parts_per_million: i64) {
        *self = Clock { since: now, shown: self.read(now).0, parts_per_million };
    }

    /// The clock leaps ahead.
    pub(crate) fn jump(&mut self, now: u64, by: u64) {
        *self = Clock { since: now, shown: self.read(now).0 + by, ..*self };
    }

    /// The clock stands still until `until`: a machine frozen from outside.
    pub(crate) fn freeze(&mut self, now: u64, until: u64) {
        *self = Clock { since: until, shown: self.read(now).0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: `when` is the inverse of `read` at every rate. Method: a table of rates and times.
    #[test]
    fn when_is_the_inverse_of_read() {
        for rate in [-200_000, -10_000, 0, 1, 9_999, 200_000] {
            let mut clock = Clock::new(5_000_000_000, rate);
            clock.jump(1_000_000, 77);
            for shown in [5_002_000_000, 5_200_000_000, 65_000_000_001] {
                let at = clock.when(Monotonic(shown));
                assert!(clock.read(at) >= Monotonic(shown), "{rate} {shown}");
                assert!(clock.read(at - 4) < Monotonic(shown), "{rate} {shown}");
            }
        }
    }

    #[test]
    fn a_frozen_clock_shows_one_time_and_goes_on_from_there() {
        let mut clock = Clock::new(0, 0);
        clock.freeze(10, 50);
        assert_eq!(
            (clock.read(30), clock.read(50), clock.read(60)),
            (Monotonic(10), Monotonic(10), Monotonic(20))
        );
    }
}
