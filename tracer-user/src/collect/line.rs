//! The wire's lines: what nginx wrote right after a complaint.

use tracer_common::event::{kind, line};
use zerocopy::FromBytes;

/// A line, as one write had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    pub worker: u32,
    /// Time of the complaint that it was written for.
    pub complaint_ns: u64,
    pub bytes: &'a [u8],
}

/// Decodes a line; None: it is another event.
pub fn decode(bytes: &[u8]) -> Option<Written<'_>> {
    let (line, text) = line::Line::read_from_prefix(bytes).ok()?;
    if line.header.kind != kind::LINE {
        return None;
    }
    let length = usize::try_from(line.length).ok()?;
    Some(Written { worker: line.header.tgid, complaint_ns: line.complaint_ns, bytes: text.get(..length)? })
}

#[cfg(test)]
mod tests {
    use tracer_common::event::{kind, line::Line};
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::{Written, decode};

    #[test]
    fn a_line_is_as_long_as_it_says() {
        let mut line = Line::new_zeroed();
        (line.header.kind, line.header.tgid, line.complaint_ns, line.length) = (kind::LINE, 7, 9, 3);
        let event = [line.as_bytes(), b"abcdef"].concat();
        assert_eq!(decode(&event), Some(Written { worker: 7, complaint_ns: 9, bytes: b"abc" }));
        line.length = 7;
        assert_eq!(decode(&[line.as_bytes(), b"abcdef"].concat()), None);
        line.header.kind = kind::EXIT;
        assert_eq!(decode(line.as_bytes()), None);
        assert_eq!(decode(b"abc"), None);
    }
}
