//! The engine's clocks: the only place that reads the time.

use quorate_types::{Monotonic, WallMillis};
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME: monotonic, and a suspended host does not stop it.
pub(crate) fn now() -> Monotonic {
    let time = clock_gettime(ClockId::Boottime);
    // A boot is at most a few hundred years ago, so neither part is negative nor overflows.
    Monotonic(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Wall time for leader stamps. It may jump; only expiry uses it.
pub(crate) fn wall() -> WallMillis {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    WallMillis(seconds * 1_000 + time.tv_nsec.cast_unsigned() / 1_000_000)
}
