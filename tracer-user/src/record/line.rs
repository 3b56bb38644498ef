//! Records as lines: writing, and reading what this or another version wrote.

use std::io;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Record;

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer version, perhaps.
    #[error("no record type is called {0:?}")]
    UnknownType(String),
}

impl Record {
    /// Appends the record and a newline to `buffer`. Where it fails, `buffer` is as before.
    pub fn write_line(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let before = buffer.len();
        if let Err(error) = serde_json::to_writer(&mut *buffer, self) {
            buffer.truncate(before);
            return Err(error.into());
        }
        buffer.push(b'\n');
        Ok(())
    }

    /// Reads one line. Fields that this version does not know are ignored.
    pub fn read(line: &str) -> Result<Self, ReadError> {
        fn body<T: DeserializeOwned>(line: &str) -> Result<T, ReadError> {
            serde_json::from_str(line).map_err(ReadError::from)
        }
        let owned;
        let kind = match kind_at_front(line) {
            Some(kind) => kind,
            None => {
                owned = body::<Kind>(line)?.kind;
                &owned
            }
        };
        Ok(match kind {
            "session" => Self::Session(body(line)?),
            "failure" => Self::Failure(body(line)?),
            "response" => Self::Response(body(line)?),
            "update" => Self::Update(body(line)?),
            "worker" => Self::Worker(body(line)?),
            "overflow" => Self::Overflow(body(line)?),
            "exit" => Self::Exit(body(line)?),
            "attempt" => Self::Attempt(body(line)?),
            "lost" => Self::Lost(body(line)?),
            "stats" => Self::Stats(body(line)?),
            "end" => Self::End(body(line)?),
            other => return Err(ReadError::UnknownType(other.to_owned())),
        })
    }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// The type where it stands first, as this program writes it: saves a pass over the line.
fn kind_at_front(line: &str) -> Option<&str> {
    let (kind, _) = line.strip_prefix("{\"type\":\"")?.split_once('"')?;
    kind.bytes().all(|byte| byte.is_ascii_lowercase()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::{ReadError, Record};
    use crate::record::samples;

    #[test]
    fn every_record_is_read_back_as_written() {
        for record in samples::all().into_iter().chain([Record::Lost(samples::counted())]) {
            let mut line = Vec::new();
            record.write_line(&mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert!(line.starts_with(&format!("{{\"type\":\"{}\",", record.kind())), "{line}");
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
            assert_eq!(Record::read(&line).unwrap(), record);
        }
    }

    /// The examples of the published contract, field for field and in their order.
    #[test]
    fn published_examples_round_trip() {
        for example in samples::CONTRACT {
            let example: String = example.lines().map(str::trim).collect();
            let record = Record::read(&example).unwrap();
            let mut line = Vec::new();
            record.write_line(&mut line).unwrap();
            let written: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let published: serde_json::Value = serde_json::from_str(&example).unwrap();
            contains(&written, &published, record.kind());
        }
    }

    /// Everything published is written; fields that were added since may be there too.
    fn contains(written: &serde_json::Value, published: &serde_json::Value, at: &str) {
        match (written, published) {
            (serde_json::Value::Object(written), serde_json::Value::Object(published)) => {
                for (key, value) in published {
                    let found = written.get(key).unwrap_or_else(|| panic!("{at}.{key} is not written"));
                    contains(found, value, &format!("{at}.{key}"));
                }
            }
            (serde_json::Value::Array(written), serde_json::Value::Array(published)) => {
                assert_eq!(written.len(), published.len(), "{at}");
                written.iter().zip(published).for_each(|(written, published)| contains(written, published, at));
            }
            _ => assert_eq!(written, published, "{at}"),
        }
    }

    #[test]
    fn type_may_stand_anywhere_and_unknown_fields_are_ignored() {
        let line = r#"{"time":"2026-01-01T00:00:00Z","program":"p","reason":"ring_full","count":3,"new":{"a":[1]},"type":"lost"}"#;
        let Record::Lost(lost) = Record::read(line).unwrap() else { panic!("not a lost record") };
        assert_eq!(lost.count, Some(3));
    }

    #[test]
    fn absent_optional_fields_are_null() {
        let line = r#"{"type":"lost","time":"2026-01-01T00:00:00Z","program":"p","reason":"evicted"}"#;
        let Record::Lost(lost) = Record::read(line).unwrap() else { panic!("not a lost record") };
        assert_eq!(lost.count, None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(
            matches!(Record::read(r#"{"type":"telepathy"}"#), Err(ReadError::UnknownType(kind)) if kind == "telepathy")
        );
        for line in ["", "{", "null", "[]", r#"{"type":"lost"}"#, r#"{"type":7}"#, r#"{"type":"failure","cause":"x"}"#]
        {
            assert!(matches!(Record::read(line), Err(ReadError::Json(_))), "{line}");
        }
    }

    #[test]
    fn a_newline_in_a_string_does_not_break_the_line() {
        let mut failure = samples::failure();
        failure.upstream.as_mut().unwrap().address = "unix:/a\nb\u{0}".to_owned();
        let mut line = Vec::new();
        Record::Failure(Box::new(failure)).write_line(&mut line).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
