//! The id that was meant when nothing is called so.

use strsim::levenshtein as distance;

/// The most similar of these; None when nothing is similar.
pub fn nearest(text: &str, ids: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let wanted: Vec<char> = text.to_lowercase().chars().map(|c| if c == '-' { '_' } else { c }).take(64).collect();
    let part: String = wanted.iter().collect();
    if wanted.len() >= 3
        && let Some(whole) = ids.clone().find(|id| id.contains(&part))
    {
        return Some(whole);
    }
    let scored = ids.map(|id| (distance(&part, id), id));
    let (edits, id) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= wanted.len().max(3) / 3).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};
    use crate::{explain::Subject, model::cause::Cause};

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
            assert_eq!(nearest(text, Subject::ids()), Some(cause.id()), "{text}");
        }
        for text in ["", "xyzzy", "502", "a"] {
            assert_eq!(nearest(text, Subject::ids()), None, "{text}");
        }
    }

    #[test]
    fn reasons_are_found_where_they_are_asked_for() {
        assert_eq!(nearest("oom", Subject::ids()), Some("oom_killed"));
        assert_eq!(nearest("oom", Cause::ALL.iter().map(|cause| cause.id())), None);
    }

    #[test]
    fn distances() {
        let of = |text: &str, id| distance(text, id);
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 3, 0));
    }
}
