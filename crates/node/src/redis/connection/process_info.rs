//! Memory and processor time of the whole process, for INFO, even if several nodes run in it.

use std::fs;

/// Memory and processor time of this process; zeros where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessInfo {
    /// Resident bytes now.
    pub(super) memory_bytes: u64,
    /// The most resident bytes so far.
    pub(super) memory_bytes_peak: u64,
    /// Seconds in user mode.
    pub(super) user_s: f64,
    /// Seconds in the kernel.
    pub(super) system_s: f64,
}

impl ProcessInfo {
    /// Reads it from `/proc`.
    pub(super) fn read() -> ProcessInfo {
        let read = |name: &str| {
            fs::read_to_string(name).unwrap_or_else(|error| {
                tracing::debug!(name, %error, "INFO shows zeros");
                String::new()
            })
        };
        ProcessInfo::parse(&read("/proc/self/status"), &read("/proc/self/stat"))
    }

    /// Parses the texts of `status` and `stat` (proc(5)).
    fn parse(status: &str, stat: &str) -> ProcessInfo {
        /// Clock ticks of `stat` in a second: USER_HZ, the same for every program on Linux.
        const TICKS: f64 = 100.0;
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) << 10
        };
        // The second field is the program's name in parentheses and may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |place: usize| {
            fields.split_whitespace().nth(place).and_then(|n| n.parse().ok()).unwrap_or(0.0)
        };
        ProcessInfo {
            memory_bytes: bytes("VmRSS:"),
            memory_bytes_peak: bytes("VmHWM:"),
            user_s: ticks(11) / TICKS,
            system_s: ticks(12) / TICKS,
        }
    }
}

/// Bytes as Redis writes them for people.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [(u64, char); 3] = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.2}{letter}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let status = "Name:\tx\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\n";
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 5 6 7 8 250 50 0 0 20";
        let expected = ProcessInfo {
            memory_bytes: 2 << 20,
            memory_bytes_peak: 3 << 20,
            user_s: 2.5,
            system_s: 0.5,
        };
        assert_eq!(ProcessInfo::parse(status, stat), expected);
        assert_eq!(ProcessInfo::parse("", ""), ProcessInfo::default());
        let own = ProcessInfo::read();
        assert!(own.memory_bytes > 0 && own.memory_bytes_peak >= own.memory_bytes, "{own:?}");
    }

    #[test]
    fn bytes_are_written_as_redis_does() {
        for (bytes, text) in [(5, "5B"), (1_138_000, "1.09M"), (12_406_784, "11.83M")] {
            assert_eq!(human(bytes), text);
        }
    }
}
