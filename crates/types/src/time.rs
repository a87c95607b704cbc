//! Time as data: the driver passes it in, and no code here reads a clock.

use std::fmt;
use std::ops::Add;
pub use std::time::Duration;

/// A reading of a monotonic clock, in nanoseconds since an origin that only its node knows.
///
/// The engine reads CLOCK_BOOTTIME (a suspended host does not stop it); the simulator makes it up.
/// Readings of two nodes can't be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The reading `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Monotonic {
        Monotonic(millis * 1_000_000)
    }

    /// The time since `earlier`; zero if `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;

    fn add(self, duration: Duration) -> Monotonic {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Monotonic(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Monotonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}ms", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// Wall time in milliseconds since 1970, which a leader stamps on a command. It decides expiry and
/// nothing else; safety never depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMillis(pub u64);
