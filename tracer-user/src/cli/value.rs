//! Values of options: durations, sizes, causes, names.

use std::path::PathBuf;
use std::time::Duration;

use crate::explain::{self, Subject};
use crate::model::cause::Cause;

pub(super) const DEFAULT_LOG_SIZE: &str = "64MiB";
pub(super) const DEFAULT_LOG_KEEP: u32 = 8;
/// Below this a file would hold little more than its first and last line.
const SMALLEST_LOG: u64 = 16 * 1024;

/// Longest unit first, so that `ms` is not taken for `m`.
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 10] = [
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    // As nginx and logrotate write them.
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
];

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("expected a number with a unit, as 100ms, 30s, 5m or 1h30m")]
    Duration,
    #[error("that is no time at all")]
    ZeroDuration,
    #[error("expected a size, as 512KiB, 64MiB or 1GB")]
    Size,
    #[error("too small: a file needs 16KiB at least")]
    SmallLog,
    #[error("expected a number of files, 0 to 999")]
    Keep,
    #[error("no cause is called that{}; `why502 explain` lists them", suggestion(.0))]
    Cause(Option<&'static str>),
    #[error("no cause or reason is called that{}; `why502 explain` lists them", suggestion(.0))]
    Subject(Option<&'static str>),
    #[error("expected the name of a program, without its directory")]
    ProcessName,
    #[error("expected a file; for standard output use --format json")]
    LogPath,
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|id| format!(" (did you mean {id}?)")).unwrap_or_default()
}

/// `30s`, `100ms`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = number(rest).ok_or(ValueError::Duration)?;
        let (unit, milliseconds) =
            TIME_UNITS.into_iter().find(|(unit, _)| after.starts_with(unit)).ok_or(ValueError::Duration)?;
        let part = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or(ValueError::Duration)?;
        total = total.checked_add(part).ok_or(ValueError::Duration)?;
        rest = &after[unit.len()..];
    }
    match text {
        "" => Err(ValueError::Duration),
        _ if total.is_zero() => Err(ValueError::ZeroDuration),
        _ => Ok(total),
    }
}

/// `64MiB`, `10MB`, `512KiB`, `1048576`.
fn size(text: &str) -> Result<u64, ValueError> {
    let (number, unit) = number(text).ok_or(ValueError::Size)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let bytes = if unit.is_empty() {
        1
    } else {
        SIZE_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(ValueError::Size)?.1
    };
    number.checked_mul(bytes).ok_or(ValueError::Size)
}

pub(super) fn log_size(text: &str) -> Result<u64, ValueError> {
    size(text).and_then(|bytes| if bytes < SMALLEST_LOG { Err(ValueError::SmallLog) } else { Ok(bytes) })
}

/// How many rotated files.
pub(super) fn log_keep(text: &str) -> Result<u32, ValueError> {
    text.parse().ok().filter(|keep| *keep < 1000).ok_or(ValueError::Keep)
}

fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

pub(super) fn cause(text: &str) -> Result<Cause, ValueError> {
    let ids = Cause::ALL.iter().map(|cause| cause.id());
    Cause::from_id(text).ok_or_else(|| ValueError::Cause(explain::nearest(text, ids)))
}

pub(super) fn subject(text: &str) -> Result<Subject, ValueError> {
    Subject::from_id(text).ok_or_else(|| ValueError::Subject(explain::nearest(text, Subject::ids())))
}

pub(super) fn process_name(text: &str) -> Result<String, ValueError> {
    if text.is_empty() || text.contains('/') { Err(ValueError::ProcessName) } else { Ok(text.to_owned()) }
}

pub(super) fn log_path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() || text == "-" { Err(ValueError::LogPath) } else { Ok(PathBuf::from(text)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ValueError, duration, log_size, size};

    #[test]
    fn durations() {
        let good = [
            ("100ms", 100),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1s500ms", 1500),
        ];
        for (text, milliseconds) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "30s5", "1w", "99999999999999999999s", "9999999999999999999d"]
        {
            assert_eq!(duration(text), Err(ValueError::Duration), "{text}");
        }
        assert_eq!(duration("0s"), Err(ValueError::ZeroDuration));
    }

    #[test]
    fn sizes() {
        let good = [
            ("64MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("512KiB", 512 << 10),
            ("512 kib", 512 << 10),
            ("1g", 1 << 30),
            ("20000", 20_000),
            ("20000B", 20_000),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB"] {
            assert_eq!(size(text), Err(ValueError::Size), "{text}");
        }
        assert_eq!(log_size("1KiB"), Err(ValueError::SmallLog));
    }
}
