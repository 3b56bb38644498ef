//! One line of nginx's error log, as far as it can be trusted without knowing what it is about.
//!
//! `ngx_log_error_core()` (src/core/ngx_log.c) writes `YYYY/MM/DD HH:MM:SS [level] PID#TID: *CONNECTION message`, the
//! connection only where there is one. Nothing in it is escaped: only what stands before the message is nginx's alone.

use jiff::{civil::DateTime, tz::TimeZone};

/// NGX_MAX_ERROR_STR (src/core/ngx_log.h): nginx cuts a line there, its line feed included.
pub const MAX_LINE: usize = 2048;
/// Names of NGX_LOG_STDERR to NGX_LOG_DEBUG, by number (`err_levels`, src/core/ngx_log.c).
const LEVELS: [&str; 9] = ["stderr", "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

/// A line that begins as nginx begins them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Seconds since 1970 if the time were UTC: it is local, in a zone that the line does not tell.
    pub local_second: i64,
    /// NGX_LOG_*: 4 is error.
    pub level: u32,
    /// Of the process, in its own pid namespace.
    pub pid: u32,
    /// nginx's number of the client connection.
    pub connection: Option<u64>,
    /// The message and what follows it.
    pub text: &'a [u8],
    /// nginx cut it, or may have: how it ends means nothing.
    pub cut: bool,
}

impl<'a> Line<'a> {
    /// Parses a line without its line feed; None: no line of nginx begins so.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (local_second, rest) = time(line)?;
        let rest = rest.strip_prefix(b" [")?;
        let end = rest.iter().take(8).position(|byte| *byte == b']')?;
        let (name, rest) = rest.split_at(end);
        let level = LEVELS.iter().position(|level| level.as_bytes() == name)?;
        let (pid, rest) = number(rest.strip_prefix(b"] ")?)?;
        let (_thread, rest) = number(rest.strip_prefix(b"#")?)?;
        let mut text = rest.strip_prefix(b": ")?;
        let mut connection = None;
        if let Some(starred) = text.strip_prefix(b"*")
            && let Some((found, after)) = number(starred)
            && let Some(after) = after.strip_prefix(b" ")
        {
            (connection, text) = (Some(found), after);
        }
        Some(Self {
            local_second,
            level: u32::try_from(level).ok()?,
            pid: u32::try_from(pid).ok()?,
            connection,
            text,
            cut: line.len() + 1 >= MAX_LINE,
        })
    }
}

/// `2026/03/04 05:06:07`.
fn time(line: &[u8]) -> Option<(i64, &[u8])> {
    const SHAPE: &[u8; 19] = b"0000/00/00 00:00:00";
    let (time, rest) = line.split_at_checked(SHAPE.len())?;
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if !time.iter().zip(SHAPE).all(fits) {
        return None;
    }
    let field = |from: usize, to: usize| {
        time.get(from..to)?
            .iter()
            .try_fold(0_i16, |value, digit| value.checked_mul(10)?.checked_add(i16::from(digit - b'0')))
    };
    let small = |from: usize| i8::try_from(field(from, from + 2)?).ok();
    Some((civil_second(field(0, 4)?, [small(5)?, small(8)?, small(11)?, small(14)?, small(17)?])?, rest))
}

/// Seconds since 1970 of a year and month, day, hour, minute and second in UTC.
pub(super) fn civil_second(year: i16, [month, day, hour, minute, second]: [i8; 5]) -> Option<i64> {
    let civil = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Decimal digits at the start, at least one.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::{Line, MAX_LINE};

    const REFUSED: &[u8] = b"2026/03/04 05:06:07 [error] 9380#9380: *6789 connect() failed (111: Connection refused)";

    #[test]
    fn what_stands_before_the_message() {
        let line = Line::parse(REFUSED).expect("a line");
        assert_eq!((line.local_second, line.level, line.pid), (1_772_600_767, 4, 9380));
        assert_eq!((line.connection, line.cut), (Some(6789), false));
        assert_eq!(line.text, b"connect() failed (111: Connection refused)");
        let line = Line::parse(b"2026/03/04 05:06:07 [notice] 1#1: start worker process 7").expect("a line");
        assert_eq!((line.connection, line.level, line.text), (None, 6, b"start worker process 7".as_slice()));
        assert_eq!(Line::parse(b"2026/03/04 05:06:07 [crit] 1#1: ").expect("a line").text, b"");
    }

    #[test]
    fn a_star_without_a_number_is_message() {
        for text in ["*x", "*", "*12", "*12x y", "*99999999999999999999999 y"] {
            let line = format!("2026/03/04 05:06:07 [error] 1#1: {text}");
            let line = Line::parse(line.as_bytes()).expect("a line");
            assert_eq!((line.connection, line.text), (None, text.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "PHP message: oops",
            "2026-03-04 05:06:07 [error] 1#1: x",
            "2026/13/04 05:06:07 [error] 1#1: x",
            "2026/02/30 05:06:07 [error] 1#1: x",
            "2026/03/04 25:06:07 [error] 1#1: x",
            "2026/03/04 05:06:07 [fatal] 1#1: x",
            "2026/03/04 05:06:07 [error] 1: x",
            "2026/03/04 05:06:07 [error] -1#1: x",
            "2026/03/04 05:06:07 [error] 99999999999#1: x",
            "2026/03/04 05:06:07 [error]",
            " 2026/03/04 05:06:07 [error] 1#1: x",
            "127.0.0.1 - - [04/Mar/2026:05:06:07 +0000] \"GET / HTTP/1.1\" 502 157 \"-\" \"curl\"",
        ] {
            assert_eq!(Line::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn nginx_cuts_at_2048_bytes() {
        let mut line = REFUSED.to_vec();
        line.resize(MAX_LINE - 2, b'x');
        assert!(!Line::parse(&line).expect("a line").cut);
        line.push(b'x');
        assert!(Line::parse(&line).expect("a line").cut);
    }
}
