//! What people see, to the letter.

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;

use super::text::Palette;
use super::{Screen, Terminal, Verbosity};
use crate::model::cause::Cause;
use crate::record::{Failure, Outcome, Record, Setting, samples};
use crate::sink::{Sink, Talk};

/// What a terminal shows for these records, on standard output and standard error.
fn show(records: &[Record], columns: Option<usize>, verbosity: Verbosity, color: bool) -> (String, Vec<String>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let talk: Talk = Box::new(move |line| heard.lock().unwrap().push(line.to_owned()));
    let mut output = Vec::new();
    let screen = Screen::fixed(Palette { color }, columns);
    let mut terminal = Terminal::new(&mut output, screen, verbosity, TimeZone::UTC, talk);
    for record in records {
        terminal.write(record).unwrap();
    }
    terminal.flush().unwrap();
    drop(terminal);
    let said = said.lock().unwrap().clone();
    (String::from_utf8(output).unwrap(), said)
}

fn shown(record: Record, columns: usize) -> String {
    show(&[record], Some(columns), Verbosity::Normal, false).0
}

fn failure(change: impl FnOnce(&mut Failure)) -> Record {
    let mut failure = samples::failure();
    change(&mut failure);
    Record::Failure(Box::new(failure))
}

#[test]
fn a_failure_takes_one_line_and_a_dim_one() {
    assert_eq!(
        shown(failure(|_| ()), 200),
        "05:06:07.000  502      connect_refused  127.0.0.1:3001  worker 9380  133 µs  \
         nothing listens on port 3001; node[412] listens on 127.0.0.1:3000\n\
         \x20             connect() failed (111: Connection refused) while connecting to upstream · \
         GET /x?token=s3cret HTTP/1.1 · client 127.0.0.1 · host example.com\n"
    );
}

/// It is on the line of its last failure, unless something else decided it.
#[test]
fn a_response_that_its_last_failure_did_not_decide_has_a_line() {
    let mut response = samples::response();
    let line = |response: &crate::record::Response| shown(Record::Response(Box::new(response.clone())), 200);
    assert!(!response.failures.is_empty() && line(&response).is_empty());
    response.cause = Cause::NoLiveUpstreams;
    assert!(line(&response).contains("502      no_live_upstreams"), "{}", line(&response));
}

#[test]
fn a_narrow_terminal_wraps_the_reason_and_cuts_the_rest() {
    assert_eq!(
        shown(failure(|_| ()), 72),
        "05:06:07.000  502      connect_refused  127.0.0.1:3001  worker 9380  133 µs\n\
         \x20             nothing listens on port 3001; node[412] listens on\n\
         \x20             127.0.0.1:3000\n\
         \x20             connect() failed (111: Connection refused) while connecti…\n"
    );
}

#[test]
fn outcomes_have_labels() {
    let cases = [
        (Outcome::Retried, Some(502), "retried  "),
        (Outcome::Final, Some(504), "504      "),
        (Outcome::Truncated, Some(200), "cut      "),
        (Outcome::ClientGone, Some(502), "gone     "),
        (Outcome::Unknown, Some(502), "502?     "),
        (Outcome::Unknown, None, "?        "),
    ];
    for (outcome, status, label) in cases {
        let line = shown(failure(|failure| (failure.outcome, failure.status) = (outcome, status)), 200);
        assert!(line[14..].starts_with(label), "{line}");
    }
}

#[test]
fn without_a_reason_the_hint_takes_its_place() {
    let line = shown(failure(|failure| failure.root = None), 200);
    assert!(line.contains("133 µs  → start the upstream, or"), "{line}");
}

#[test]
fn likely_is_said() {
    let line = shown(failure(|failure| failure.confidence = crate::record::Confidence::Likely), 200);
    assert!(line.contains("connect_refused (likely)  127.0.0.1:3001"), "{line}");
}

#[test]
fn next_to_nothing_known_is_no_obstacle() {
    let line = shown(Record::Failure(Box::new(samples::bare_failure())), 80);
    assert_eq!(line, "05:06:07.000  ?        unexplained  worker 9381\n");
}

#[test]
fn verbose_shows_the_evidence() {
    let record = failure(|failure| failure.disagreement = Some("nginx says 104".to_owned()));
    let (text, _) = show(&[record], None, Verbosity::Verbose, false);
    let lines: Vec<_> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "                     +0 µs  CLOSE → SYN_SENT  (tp_btf/inet_sock_set_state)",
            "                   +131 µs  RST received in SYN_SENT  (raw_tp/tcp_receive_reset)",
            "              connection from 127.0.0.1:41234, 1 request, 0 bytes sent, 0 bytes received",
            "              configuration proxy_pass http://127.0.0.1:3001/x?token=s3cret (/etc/nginx/sites-enabled/default:12)",
            "              configuration proxy_connect_timeout 60s (default)",
            "              the witnesses differ: nginx says 104",
            "              → start the upstream, or point proxy_pass at 127.0.0.1:3000",
        ]
    );
}

#[test]
fn colours_mark_the_status() {
    let (text, _) = show(&[failure(|_| ())], Some(200), Verbosity::Normal, true);
    assert!(text.contains("\x1b[1;31m502\x1b[0m      \x1b[1mconnect_refused\x1b[0m  127.0.0.1:3001"), "{text}");
    assert!(text.contains("\x1b[2mconnect() failed"), "{text}");
    let plain = shown(failure(|_| ()), 200);
    let stripped =
        ["\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain, "colours take no columns");
}

#[test]
fn hostile_bytes_are_escaped_everywhere() {
    let evil = || "\x1b[2J\u{202e}\n".to_owned();
    let record = failure(|failure| {
        failure.worker.comm = evil();
        failure.upstream.as_mut().unwrap().address = evil();
        failure.root.as_mut().unwrap().text = evil();
        failure.hint = Some(evil().into());
        failure.disagreement = Some(evil());
        for setting in &mut failure.configuration {
            let (value, file, in_force) = (Some(evil()), Some(evil()), Some(evil()));
            *setting = Setting { directive: evil(), value, file, line: Some(1), in_force };
        }
        failure.evidence[0].text = evil().into();
        failure.evidence[0].source = evil().into();
        failure.connection.as_mut().unwrap().local = Some(evil());
        let word = failure.nginx.as_mut().unwrap();
        word.message = evil();
        (word.client, word.request, word.host) = (Some(evil()), Some(evil()), Some(evil()));
    });
    let mut session = samples::session();
    session.processes[0].comm = evil();
    let mut lost = samples::lost();
    lost.program = evil().into();
    let mut all = vec![Record::Session(session), Record::Lost(lost), record];
    all.extend(samples::all().into_iter().map(|record| match record {
        Record::Response(mut response) => {
            response.failures.clear();
            (response.request, response.host, response.client) = (Some(evil()), Some(evil()), Some(evil()));
            (response.message, response.upstream, response.hint) = (Some(evil()), Some(evil()), Some(evil().into()));
            response.worker.comm = evil();
            Record::Response(response)
        }
        Record::Exit(mut exit) => {
            (exit.comm, exit.signal, exit.oom, exit.upstreams) = (evil(), Some(evil().into()), None, vec![evil()]);
            Record::Exit(exit)
        }
        Record::Overflow(mut overflow) => {
            overflow.address = evil();
            overflow.owner.as_mut().unwrap().comm = evil();
            Record::Overflow(overflow)
        }
        other => other,
    }));
    let (text, said) = show(&all, Some(80), Verbosity::Verbose, false);
    for text in [text, said.join("")] {
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
    }
}

#[test]
fn a_flood_is_folded_and_its_end_is_not_lost() {
    let flood: Vec<_> = (0..1208)
        .map(|number| {
            failure(|failure| {
                (failure.id, failure.time) = (number, samples::at(i64::try_from(number).unwrap() * 100));
                failure.worker.pid = 9380 + u32::try_from(number % 4).unwrap();
                failure.outcome = if number % 2 == 0 { Outcome::Final } else { Outcome::Retried };
            })
        })
        .collect();
    let (text, _) = show(&[&flood[..], &[Record::End(samples::end())]].concat(), None, Verbosity::Normal, false);
    let first: Vec<_> = text.lines().filter(|line| line.contains("worker")).collect();
    assert_eq!(first.len(), 4, "{text}");
    let folded = "05:06:07.120  ×1,204   in 0.1 s  connect_refused  127.0.0.1:3001  602 × 502, 602 retried\n";
    assert!(text.contains(folded), "{text}");
    assert!(text.contains("1,208 attempts failed"), "{text}");
}

#[test]
fn a_tick_brings_the_count_out() {
    let mut output = Vec::new();
    let screen = Screen::fixed(Palette { color: false }, None);
    let mut terminal = Terminal::new(&mut output, screen, Verbosity::Normal, TimeZone::UTC, Box::new(|_| {}));
    for number in 0..10 {
        terminal.write(&failure(|failure| failure.time = samples::at(number))).unwrap();
    }
    terminal.tick(samples::at(500_000)).unwrap();
    assert!(!terminal.buffer.contains('×'));
    terminal.tick(samples::at(1_000_000)).unwrap();
    assert!(terminal.buffer.contains("×6       in 0.1 s"), "{}", terminal.buffer);
}

#[test]
fn a_response_without_failures_has_a_line_of_its_own() {
    let mut response = samples::response();
    assert_eq!(shown(Record::Response(Box::new(response.clone())), 200), "", "its failure has said it");
    response.failures.clear();
    response.cause = Cause::NoLiveUpstreams;
    response.upstream = Some("http://backend/x".to_owned());
    response.message = Some("no live upstreams while connecting to upstream".to_owned());
    response.related = vec![1, 2];
    assert_eq!(
        shown(Record::Response(Box::new(response.clone())), 200),
        "05:06:07.000  502      no_live_upstreams  http://backend/x  worker 9380  after 2 failed attempts before it\n\
         \x20             no live upstreams while connecting to upstream · GET /x?token=s3cret HTTP/1.1 · \
         client 127.0.0.1 · host example.com\n"
    );
    (response.origin, response.cause) = (crate::record::Origin::Config, Cause::ConfiguredStatus);
    assert!(shown(Record::Response(Box::new(response)), 200).contains("nginx's configuration answers so"));
}

#[test]
fn quiet_shows_the_summary_alone() {
    let (text, said) = show(&samples::all(), Some(100), Verbosity::Quiet, false);
    assert!(text.starts_with("2 attempts failed in 20 s → 1 × 502"), "{text}");
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn talk_goes_to_standard_error() {
    let (text, said) =
        show(&[Record::Session(samples::session()), Record::Lost(samples::lost())], None, Verbosity::Normal, false);
    assert_eq!(text, "");
    assert_eq!(
        said,
        [
            "tracing 1 worker of nginx; 1 of 2 observations; ctrl-c for the summary",
            "not observed: packet_drop; `why502 doctor` says what that hides",
            "lost 12 events (tcp_lifecycle): the ring buffer was full; verdicts may be missing or less certain",
        ]
    );
}

#[test]
fn workers_that_come_and_go_are_said_if_asked() {
    let (_, said) = show(&samples::all(), None, Verbosity::Verbose, false);
    assert!(said.iter().any(|line| line == "nginx[9380] is gone"), "{said:?}");
}

#[test]
fn listeners_and_exits_and_later_reasons_have_lines() {
    let (text, _) = show(&samples::all(), None, Verbosity::Normal, false);
    for line in [
        "05:06:07.000  queue    127.0.0.1:8000  accept queue of gunicorn[700] full (6 waiting, limit 5)\n",
        "05:06:07.000  exit     gunicorn[700] was killed for memory  it served 127.0.0.1:8000\n",
        "05:06:07.000  because  connect_refused  127.0.0.1:3001  gunicorn[700] was killed for memory\n",
        "05:06:07.000  ok       completed  unix:/run/php.sock  worker 9380  100 µs\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
