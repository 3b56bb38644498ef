//! Text on a terminal: escaping what came from outside, measuring, cutting, colouring.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Makes text harmless: characters that steer a terminal, break lines, reorder text or cannot be seen are written as
/// escapes.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        let code = u32::from(character);
        // Writing to a String cannot fail.
        let _ = match (is_unsafe(character), code < 0x100) {
            (true, true) => write!(escaped, "\\x{code:02x}"),
            (true, false) => write!(escaped, "\\u{{{code:x}}}"),
            (false, _) => escaped.write_char(character),
        };
    }
    Cow::Owned(escaped)
}

/// C0, DEL, C1; line and paragraph separators; bidi controls; zero-width and invisible characters; tags.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that escaped text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// Cuts to so many columns; a cut shows as …
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut left = columns.saturating_sub(1);
    let end = text.char_indices().find_map(|(at, character)| {
        let needed = character.width().unwrap_or(0);
        if needed > left {
            return Some(at);
        }
        left -= needed;
        None
    });
    let kept = &text[..end.unwrap_or(text.len())];
    if columns == 0 { Cow::Borrowed("") } else { Cow::Owned(format!("{}…", kept.trim_end())) }
}

/// What a piece of text is, and so how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Error,
    Warning,
    Strong,
    Dim,
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    pub color: bool,
}

impl Palette {
    pub(crate) fn paint<'a>(self, ink: Ink, text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let text = text.into();
        if !self.color || text.is_empty() {
            return text;
        }
        let code = match ink {
            Ink::Error => "1;31",
            Ink::Warning => "1;33",
            Ink::Strong => "1",
            Ink::Dim => "2",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ink, Palette, cut, escape, width};

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        let cases = [
            ("GET /x HTTP/1.1", "GET /x HTTP/1.1"),
            ("\x1b]0;pwned\x07", "\\x1b]0;pwned\\x07"),
            ("a\r\nb\tc\0\x7f", "a\\x0d\\x0ab\\x09c\\x00\\x7f"),
            ("\u{9b}31m", "\\x9b31m"),
            ("abc\u{202e}cba\u{2066}", "abc\\u{202e}cba\\u{2066}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
            ("naïve Grüße 日本 →", "naïve Grüße 日本 →"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn width_counts_columns() {
        assert_eq!((width("abc"), width("日本"), width("é"), width("e\u{301}")), (3, 4, 1, 1));
    }

    #[test]
    fn cutting() {
        let cases = [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("日本語", 5, "日本…"), ("日本語", 4, "日…")];
        for (text, columns, expected) in cases {
            assert_eq!(cut(text, columns), expected);
            assert!(width(&cut(text, columns)) <= columns);
        }
        assert_eq!((cut("ab", 1), cut("ab", 0)), ("…".into(), "".into()));
    }

    #[test]
    fn colour_is_optional() {
        assert_eq!(Palette { color: true }.paint(Ink::Dim, "x"), "\x1b[2mx\x1b[0m");
        assert_eq!(Palette { color: true }.paint(Ink::Dim, ""), "");
        assert_eq!(Palette { color: false }.paint(Ink::Error, "x"), "x");
    }
}
