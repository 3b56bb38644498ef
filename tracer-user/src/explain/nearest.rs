//! The cause that was meant when none is called so.

use strsim::levenshtein as distance;

use crate::model::cause::Cause;

/// The cause with the most similar id; None when nothing is similar.
pub fn nearest(text: &str) -> Option<Cause> {
    let wanted: Vec<char> = text.to_lowercase().chars().map(|c| if c == '-' { '_' } else { c }).take(64).collect();
    let part: String = wanted.iter().collect();
    if wanted.len() >= 3
        && let Some(whole) = Cause::ALL.iter().find(|cause| cause.id().contains(&part))
    {
        return Some(*whole);
    }
    let scored = Cause::ALL.iter().map(|cause| (distance(&part, cause.id()), *cause));
    let (edits, cause) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= wanted.len().max(3) / 3).then_some(cause)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};
    use crate::model::cause::Cause;

    #[test]
    fn typing_errors_find_their_cause() {
        let cases = [
            ("conect_refused", Cause::ConnectRefused),
            ("connect-refused", Cause::ConnectRefused),
            ("STALE_KEEPALIVE", Cause::StaleKeepalive),
            ("stalekeepalive", Cause::StaleKeepalive),
            ("header_to_big", Cause::HeaderTooBig),
            ("dns_fail", Cause::DnsFailed),
            ("stale", Cause::StaleKeepalive),
            ("refused", Cause::ConnectRefused),
            ("tls_handshake_failure", Cause::TlsHandshakeFailed),
        ];
        for (text, cause) in cases {
            assert_eq!(nearest(text), Some(cause), "{text}");
        }
        for text in ["", "xyzzy", "502", "a"] {
            assert_eq!(nearest(text), None, "{text}");
        }
    }

    #[test]
    fn distances() {
        let of = |text: &str, id| distance(text, id);
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 3, 0));
    }
}
