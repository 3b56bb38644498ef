//! nginx's error log is outside input: clients and upstreams write parts of it. Whatever the bytes, reading them ends, does
//! not panic, and what is told of a message is part of its line.
//!
//! `cargo +nightly fuzz run error_log`, from the repository's root.

#![no_main]

use libfuzzer_sys::fuzz_target;
use why502::nginx::log::{
    frame::Framer,
    line::{Line, MAX_LINE},
    told::{Known, tell},
};

const KNOWN: [Known<'_>; 3] = [
    Known {
        literal: "connect() failed",
        literal_cut: false,
        errno: 111,
        action: "connecting to upstream",
        client: Some("127.0.0.1"),
        request: Some("GET /x HTTP/1.1"),
        request_cut: false,
        peer: Some("127.0.0.1:1"),
    },
    Known {
        literal: "upstream sent invalid header: \"%*s\\x%02xd...\"",
        literal_cut: false,
        errno: 0,
        action: "reading response header from upstream",
        client: None,
        request: Some("GET /"),
        request_cut: true,
        peer: None,
    },
    Known {
        literal: "%V could not be resolved (%i: %s)",
        literal_cut: true,
        errno: 0,
        action: "",
        client: Some("127.0.0.1"),
        request: None,
        request_cut: false,
        peer: None,
    },
];

fuzz_target!(|data: &[u8]| {
    // Read in two goes: where the first one ends must not matter.
    let (split, bytes) = data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest));
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    let mut whole = Vec::new();
    Framer::default().feed(bytes, |line, standing| whole.push((line.to_vec(), standing)));
    let mut parts = Vec::new();
    let mut framer = Framer::default();
    framer.feed(first, |line, standing| parts.push((line.to_vec(), standing)));
    framer.feed(second, |line, standing| parts.push((line.to_vec(), standing)));
    if bytes.len() < MAX_LINE {
        assert_eq!(whole, parts);
    }
    for (line, _) in &whole {
        let Some(line) = Line::parse(line) else { continue };
        let text = String::from_utf8_lossy(line.text);
        for known in &KNOWN {
            let Some(told) = tell(&text, line.cut, known) else { continue };
            assert!(text.starts_with(&told.message));
            for field in [&told.server, &told.subrequest, &told.upstream, &told.host, &told.referrer] {
                assert!(field.as_ref().is_none_or(|field| text.contains(field.as_str())));
            }
        }
    }
});
