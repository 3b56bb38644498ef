//! nginx's literals as patterns: does a printed message come from this `fmt`?

use crate::model::conversion::after_conversion;

/// A literal of `ngx_log_error()`, in the pieces between its conversions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern<'a> {
    pieces: Vec<&'a str>,
    /// It goes on after what is known of it.
    open: bool,
}

impl<'a> Pattern<'a> {
    /// `cut`: the literal was read only so far.
    pub fn new(literal: &'a str, cut: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = literal;
        while let Some((before, conversion)) = rest.split_once('%') {
            pieces.push(before);
            rest = after_conversion(conversion);
        }
        pieces.push(rest);
        Self { pieces, open: cut }
    }

    /// Nothing in it comes from elsewhere.
    pub fn is_fixed(&self) -> bool {
        self.pieces.len() == 1 && !self.open
    }

    /// True when the whole message can have been printed from this literal.
    pub fn fits(&self, message: &str) -> bool {
        let Some((first, others)) = self.pieces.split_first() else { return false };
        let Some(mut rest) = message.strip_prefix(first) else { return false };
        let Some((last, middle)) = others.split_last() else { return self.open || rest.is_empty() };
        for piece in middle {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        if self.open { rest.contains(last) } else { rest.ends_with(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn messages_fit_their_literals() {
        for (literal, message) in [
            ("connect() failed", "connect() failed"),
            ("connect() to %V failed", "connect() to unix:/run/a b.sock failed"),
            ("%V could not be resolved (%i: %s)", "example.org could not be resolved (3: Host not found)"),
            ("%ui worker_connections are not enough", "512 worker_connections are not enough"),
            ("upstream sent invalid header: \"%*s\\x%02xd...\"", "upstream sent invalid header: \"Bad\\x20...\""),
            ("%*s)", "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)"),
            (
                "upstream SSL certificate verify error: (%l:%s)",
                "upstream SSL certificate verify error: (18:self-signed)",
            ),
            ("upstream sent too large http2 frame: %uz", "upstream sent too large http2 frame: 4740180"),
        ] {
            assert!(Pattern::new(literal, false).fits(message), "{literal}");
        }
    }

    #[test]
    fn others_do_not() {
        for (literal, message) in [
            ("connect() failed", "connect() failed (111"),
            ("connect() failed", "connect() to 127.0.0.1:1 failed"),
            ("connect() to %V failed", "connect() to 127.0.0.1:1 faile"),
            ("recv() failed", "readv() failed"),
            ("%V could not be resolved (%i: %s)", "example.org could not be found"),
        ] {
            assert!(!Pattern::new(literal, false).fits(message), "{literal}");
        }
    }

    #[test]
    fn a_cut_literal_is_a_prefix() {
        assert!(Pattern::new("upstream sent \"Content-Le", true).fits("upstream sent \"Content-Length\" and more"));
        assert!(!Pattern::new("upstream sent \"Content-Le", true).is_fixed());
        assert!(Pattern::new("recv() failed", false).is_fixed());
        assert!(!Pattern::new("%", false).is_fixed());
        assert!(Pattern::new("50%", false).fits("50 anything"));
    }
}
