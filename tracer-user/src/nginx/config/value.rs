//! Values as nginx writes and reads them: times and sizes.

/// Milliseconds of a time: `60`, `60s`, `1m 30s`, `500ms` (ngx_parse_time(), src/core/ngx_parse.c, 1.22). None: it is none.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("y", 365 * 24 * 3_600_000),
        ("M", 30 * 24 * 3_600_000),
        ("w", 7 * 24 * 3_600_000),
        ("d", 24 * 3_600_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut total = 0_u64;
    let mut rest = text;
    let mut last = None;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = if letters == 0 { "s" } else { &rest[..letters] };
        let place = UNITS.iter().position(|(name, _)| *name == unit)?;
        if last.is_some_and(|last| last >= place) {
            return None; // Larger units first.
        }
        last = Some(place);
        total = total.checked_add(number.checked_mul(UNITS[place].1)?)?;
        rest = rest[letters..].trim_start_matches(' ');
    }
    last.map(|_| total)
}

/// Bytes of a size: `4096`, `4k`, `1m`, `1G` (ngx_parse_offset(), src/core/ngx_parse.c, 1.22).
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A time as people write it.
pub(super) fn time(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0".to_owned(),
        _ if milliseconds.is_multiple_of(3_600_000) => format!("{}h", milliseconds / 3_600_000),
        _ if milliseconds > 120_000 && milliseconds.is_multiple_of(60_000) => format!("{}m", milliseconds / 60_000),
        _ if milliseconds.is_multiple_of(1000) => format!("{}s", milliseconds / 1000),
        _ => format!("{milliseconds}ms"),
    }
}

/// A size as people write it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}m", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}k", bytes >> 10),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{bytes, milliseconds, size, time};

    #[test]
    fn times() {
        for (text, expected) in [
            ("60", Some(60_000)),
            ("60s", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("1m 30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1h", Some(3_600_000)),
            ("1s500ms", Some(1500)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("1s1m", None),
            ("1x", None),
            ("$t", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999999999y", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("4k", Some(4096)),
            ("8K", Some(8192)),
            ("1m", Some(1 << 20)),
            ("1G", Some(1 << 30)),
            ("", None),
            ("k", None),
            ("4kk", None),
            ("+4", None),
            ("99999999999999999999", None),
            ("99999999999999999g", None),
            ("é", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in any::<u32>()) {
            let number = u64::from(number);
            assert_eq!(milliseconds(&time(number)), Some(number));
            assert_eq!(bytes(&size(number)), Some(number));
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,12}") {
            let _ = (bytes(&text), milliseconds(&text));
        }
    }
}
