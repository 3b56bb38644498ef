//! `--redact-query`: what follows the ? in URLs is not for everyone who reads the records.

use std::borrow::Cow;

use crate::record::{NginxWord, Record, Setting};

/// Replaces query strings in every field that can hold a URL.
pub(super) fn redact(record: &mut Record) {
    match record {
        Record::Failure(failure) => {
            failure.nginx.iter_mut().for_each(word);
            failure.root.iter_mut().for_each(|root| message(&mut root.text));
            failure.disagreement.iter_mut().for_each(message);
            failure.hint.iter_mut().for_each(hint);
            failure.configuration.iter_mut().for_each(setting);
            for evidence in &mut failure.evidence {
                if evidence.text.contains('?') {
                    message(evidence.text.to_mut());
                }
            }
        }
        Record::Response(response) => {
            response.request.iter_mut().for_each(request);
            response.upstream.iter_mut().for_each(url);
            response.message.iter_mut().for_each(message);
            response.hint.iter_mut().for_each(hint);
            response.configuration.iter_mut().for_each(setting);
        }
        Record::Update(update) => {
            update.nginx.iter_mut().for_each(word);
            update.root.iter_mut().for_each(|root| message(&mut root.text));
            update.hint.iter_mut().for_each(hint);
        }
        Record::Session(_)
        | Record::Worker(_)
        | Record::Overflow(_)
        | Record::Exit(_)
        | Record::Attempt(_)
        | Record::Lost(_)
        | Record::Stats(_)
        | Record::End(_) => {}
    }
}

/// It may name the line that passes requests on, with its URL.
fn hint(hint: &mut Cow<'static, str>) {
    if hint.contains('?') {
        message(hint.to_mut());
    }
}

fn setting(setting: &mut Setting) {
    setting.value.iter_mut().for_each(message);
}

fn word(word: &mut NginxWord) {
    word.request.iter_mut().for_each(request);
    word.upstream.iter_mut().for_each(url);
    word.referrer.iter_mut().for_each(url);
    message(&mut word.message);
}

/// `GET /x?a=b HTTP/1.1`: the protocol stays. A query may hold spaces (nginx took them before 1.21.1).
fn request(text: &mut String) {
    let end = text.rfind(" HTTP/").unwrap_or(text.len());
    if let Some(question) = text[..end].find('?') {
        text.replace_range(question..end, "?…");
    }
}

fn url(text: &mut String) {
    if let Some(question) = text.find('?') {
        text.replace_range(question.., "?…");
    }
}

/// Free text. In quotes, whatever stands there, the query ends with the last of them: it may hold some itself. Elsewhere it ends with
/// its word, if that is a path.
fn message(text: &mut String) {
    let mut from = 0;
    while let Some(question) = text[from..].find('?').map(|at| from + at) {
        let quoted = text[..question].matches('"').count() % 2 == 1;
        let word = text[..question].rfind(|c: char| c.is_whitespace() || c == '"').map_or(0, |before| before + 1);
        let end = if quoted {
            text.rfind('"').filter(|last| *last > question).unwrap_or(text.len())
        } else if text.get(word..question).is_some_and(|path| path.contains('/')) {
            text[question..].find(char::is_whitespace).map_or(text.len(), |length| question + length)
        } else {
            from = question + 1;
            continue;
        };
        text.replace_range(question..end, "?…");
        from = question + "?…".len();
    }
}

#[cfg(test)]
mod tests {
    use super::{message, redact, request, url};
    use crate::record::{Record, samples};

    fn check(rule: fn(&mut String), text: &str, expected: &str) {
        let mut text = text.to_owned();
        rule(&mut text);
        assert_eq!(text, expected);
    }

    #[test]
    fn requests() {
        check(request, "GET /x?a=b HTTP/1.1", "GET /x?… HTTP/1.1");
        check(request, "GET /x?a=b c?d HTTP/1.1", "GET /x?… HTTP/1.1");
        check(request, "GET /x?a= HTTP/1.0&b HTTP/1.1", "GET /x?… HTTP/1.1");
        check(request, "GET /x HTTP/1.1", "GET /x HTTP/1.1");
        check(request, "GET /x?cut o", "GET /x?…");
    }

    #[test]
    fn urls() {
        check(url, "http://10.0.0.1/x?a=b", "http://10.0.0.1/x?…");
        check(url, "http://10.0.0.1/x", "http://10.0.0.1/x");
    }

    #[test]
    fn messages() {
        check(message, "no host in upstream \"/a?b=c\", why?", "no host in upstream \"/a?…\", why?");
        check(message, "/a?b /c?d e?f", "/a?… /c?… e?f");
        check(message, "é/ü?x", "é/ü?…");
        check(message, "\u{2003}?", "\u{2003}?");
        check(message, "no host in upstream \"?token=s3cret\"", "no host in upstream \"?…\"");
        check(message, "invalid port in upstream \"h:bad?a=\"s3cret\"", "invalid port in upstream \"h:bad?…\"");
        check(message, "at /x?t='s3cret'", "at /x?…");
    }

    #[test]
    fn no_record_keeps_a_secret() {
        for mut record in samples::all() {
            redact(&mut record);
            let mut line = Vec::new();
            record.write_line(&mut line).unwrap();
            assert!(!String::from_utf8(line).unwrap().contains("s3cret"));
        }
        let mut record = Record::Response(Box::new(samples::response()));
        redact(&mut record);
        let Record::Response(response) = record else { panic!("it changed type") };
        assert_eq!(response.request.as_deref(), Some("GET /x?… HTTP/1.1"));
    }
}
