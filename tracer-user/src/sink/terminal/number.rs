//! Numbers and times for people.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::record::Timestamp;

/// `1,204`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 attempt`, `2 attempts`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `133 µs`, `1.3 ms`, `60.0 s`.
pub(crate) fn elapsed(micros: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", micros / unit, micros % unit / (unit / 10));
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{} ms", tenths(1_000)),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{} s", tenths(1_000_000)),
    }
}

/// `12 s`, `2 min 3 s`, `3 h 20 min`, `5 d 2 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, name, small: u64, small_name| match small {
        0 => format!("{large} {name}"),
        _ => format!("{large} {name} {small} {small_name}"),
    };
    match seconds {
        0..10 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Local time to the millisecond: `14:03:22.123`.
pub(crate) fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.as_jiff().to_zoned(zone.clone()).strftime("%H:%M:%S.%3f").to_string()
}

/// Local time to the second, with the day.
pub(crate) fn day_and_clock(time: Timestamp, zone: &TimeZone) -> String {
    time.as_jiff().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::tz::{TimeZone, offset};

    use super::{clock, counted, day_and_clock, duration, elapsed, grouped};
    use crate::record::samples::at;

    #[test]
    fn grouping() {
        let cases = [(0, "0"), (999, "999"), (1204, "1,204"), (1_000_000, "1,000,000"), (12_345, "12,345")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!((counted(1, "attempt"), counted(0, "attempt")), ("1 attempt".to_owned(), "0 attempts".to_owned()));
    }

    #[test]
    fn elapsed_times() {
        let cases =
            [(133, "133 µs"), (1_399, "1.3 ms"), (10_000, "10 ms"), (999_999, "999 ms"), (60_000_000, "60.0 s")];
        for (micros, expected) in cases {
            assert_eq!(elapsed(micros), expected);
        }
    }

    #[test]
    fn durations() {
        let cases = [
            (5, "5.0 s"),
            (12, "12 s"),
            (123, "2 min 3 s"),
            (120, "2 min"),
            (12_000, "3 h 20 min"),
            (439_200, "5 d 2 h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn clocks_are_local() {
        let zone = TimeZone::fixed(offset(1));
        assert_eq!(clock(at(7_999), &zone), "06:06:07.007");
        assert_eq!(day_and_clock(at(0), &zone), "2026-03-04 06:06:07");
    }
}
