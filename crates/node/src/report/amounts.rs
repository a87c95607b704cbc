//! Sizes and times as people read them.

/// Bytes with the largest unit that they fill, and two digits at least.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in UNITS {
        // What would be shown as 1024 is one of the next unit.
        if value.round() < 1_024.0 {
            break;
        }
        (value, unit) = (value / 1_024.0, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit if value < 9.95 => format!("{value:.1} {unit}"),
        unit => format!("{value:.0} {unit}"),
    }
}

/// A time in its largest unit and the one below it.
pub(crate) fn time(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{hours} h {} min", minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: amounts have two digits or more and the unit that makes them short.
    #[test]
    fn amounts_are_short() {
        for (amount, expected) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (10_188, "9.9 KiB"),
            (10_240, "10 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (700 << 20, "700 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(amount), expected);
        }
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min")]
        {
            assert_eq!(time(seconds), expected);
        }
    }
}
