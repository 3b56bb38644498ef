//! Rows of an access log in a format like `combined`: client, request line, status.
//!
//! nginx escapes what clients send there (`\x22`), so that a quote ends a field (`ngx_http_log_escape()`,
//! src/http/modules/ngx_http_log_module.c).

use super::line::civil_second;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Seconds since 1970 if the row's time were UTC.
    pub local_second: i64,
    pub client: String,
    /// Escaped as it stands.
    pub request: String,
    pub status: u16,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parses `CLIENT - USER [04/Mar/2026:05:06:07 +0000] "REQUEST" STATUS …`; None: another format.
pub fn row(line: &[u8]) -> Option<Row> {
    let line = std::str::from_utf8(line).ok()?;
    let (client, rest) = line.split_once(' ')?;
    let (before, rest) = rest.split_once('[')?;
    if client.is_empty() || before.contains('"') {
        return None;
    }
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once('"')?;
    let status = rest.strip_prefix(' ')?.split(' ').next()?;
    if status.len() != 3 {
        return None;
    }
    Some(Row {
        local_second: second(time)?,
        client: client.to_owned(),
        request: request.to_owned(),
        status: status.parse().ok()?,
    })
}

/// `04/Mar/2026:05:06:07 +0000`.
fn second(time: &str) -> Option<i64> {
    let (time, _zone) = time.split_once(' ')?;
    let mut parts = time.split(['/', ':']);
    let mut next = || parts.next();
    let (day, month, year) = (next()?, next()?, next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (hour, minute, second) = (next()?, next()?, next()?);
    civil_second(
        year.parse().ok()?,
        [i8::try_from(month).ok()?, day.parse().ok()?, hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?],
    )
}

/// The request line as an access log has it.
pub fn escaped(request: &str) -> String {
    let mut text = String::with_capacity(request.len());
    for byte in request.bytes() {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => text.push_str(&format!("\\x{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Row, escaped, row};

    #[test]
    fn rows_of_combined() {
        let line = b"127.0.0.1 - - [04/Mar/2026:05:06:07 +0100] \"GET /\\x22x HTTP/1.1\" 502 157 \"-\" \"curl/7\"";
        let request = "GET /\\x22x HTTP/1.1".to_owned();
        let expected = Row { local_second: 1_772_600_767, client: "127.0.0.1".to_owned(), request, status: 502 };
        assert_eq!(row(line), Some(expected));
        assert_eq!(escaped("GET /\"x HTTP/1.1"), "GET /\\x22x HTTP/1.1");
    }

    #[test]
    fn other_formats_are_none() {
        for line in [
            "",
            "{\"status\":502}",
            "127.0.0.1 \"GET / HTTP/1.1\" 502",
            "127.0.0.1 - - [04/Mar/2026:05:06:07 +0000] \"GET / HTTP/1.1\" - 157",
            "127.0.0.1 - - [04/Foo/2026:05:06:07 +0000] \"GET / HTTP/1.1\" 502 157",
            "127.0.0.1 - - [04/Mar/2026 +0000] \"GET / HTTP/1.1\" 502 157",
            "127.0.0.1 - - [04/Mar/2026:05:06:07 +0000] \"GET / HTTP/1.1",
            "2026/03/04 05:06:07 [error] 1#1: *2 x",
        ] {
            assert_eq!(row(line.as_bytes()), None, "{line}");
        }
        assert_eq!(row(b"\xff - - ["), None);
    }
}
