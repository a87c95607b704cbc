//! Spreads work of many bytes over time.

use std::time::Duration;

use quorate_types::Monotonic;

/// How many bytes may be sent at which time: so many a second, and some at once after a pause.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// What may be taken at once: as time.
    burst: Duration,
    /// When everything that was taken is paid for.
    paid_at: Monotonic,
}

impl Rate {
    pub(crate) fn new(per_second: u64, burst_bytes: usize) -> Rate {
        let mut rate = Rate { per_second, burst: Duration::ZERO, paid_at: Monotonic(0) };
        rate.burst = rate.time_of(burst_bytes);
        rate
    }

    /// From when on more may be taken.
    pub(crate) fn free_at(&self) -> Monotonic {
        Monotonic(self.paid_at.0.saturating_sub(nanos(self.burst)))
    }

    /// Takes `bytes`, at a time that is not before [`Rate::free_at`].
    pub(crate) fn take(&mut self, now: Monotonic, bytes: usize) {
        self.paid_at = self.paid_at.max(now) + self.time_of(bytes);
    }

    fn time_of(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: over any while no more passes than the rate allows and one burst; nothing is saved up
    /// in a pause. Method: takes as much as it may for ten seconds, then after a pause.
    #[test]
    fn no_more_passes_than_allowed() {
        const SECOND: u64 = 1_000_000_000;
        let mut rate = Rate::new(1_000, 100);
        let mut taken = |from: u64, until: u64| {
            let (mut now, mut sum) = (Monotonic(from), 0);
            loop {
                now = now.max(rate.free_at());
                if now.0 >= until {
                    return sum;
                }
                rate.take(now, 50);
                sum += 50;
            }
        };
        let first = taken(0, 10 * SECOND);
        assert!((10_000..=10_150).contains(&first), "{first}");
        let after_a_pause = taken(60 * SECOND, 61 * SECOND);
        assert!((1_000..=1_150).contains(&after_a_pause), "{after_a_pause}");
    }
}
