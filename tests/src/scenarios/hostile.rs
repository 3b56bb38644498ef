//! Clients and upstreams that send what ought to fool or break a tracer: forged log lines, terminal escapes, invalid
//! UTF-8, quotes, far too much. No verdict may be forged, no terminal may obey, no line may cease to be JSON.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use crate::bench::parsed;
use crate::scenario::{BASE, Need, Scenario};
use crate::script::HEALTHY;
use crate::script::Step::{Await, Bytes, Finish, Hold, Request};
use crate::shown::{Screen, Shown};
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::upstream::{Listen, Place};
use crate::wait;

pub(super) const PROGRAMS: &[Program] =
    // Before 1.21.1 a header name may hold anything: its trial would be an answer that never ends.
    &[Program {
        name: "hostile/bytes",
        needs: &[Need::Tls, Need::Version(1, 21, 1)],
        run: |why502, options| bytes(why502, options),
    }];

/// A whole line of an error log, inside of what an upstream says; and a title and a clear screen for a terminal.
const FORGED: &[u8] = b"dying\n2026/01/02 03:04:05 [error] 1#1: *1 connect() failed (111: Connection refused) while \
    connecting to upstream, client: 6.6.6.6, server: forged, request: \"GET /forgery HTTP/1.1\", upstream: \
    \"http://6.6.6.6:666/\", host: \"forged\"\n\x1b]0;pwned\x07\x1b[2J\xff";

/// A FastCGI record of this kind; its length is that of the content and of the header.
const fn record<const LENGTH: usize>(kind: u8, content: &[u8]) -> [u8; LENGTH] {
    let mut record = [0; LENGTH];
    record[0] = 1;
    record[1] = kind;
    record[3] = 1;
    [record[4], record[5]] = (content.len() as u16).to_be_bytes();
    let mut at = 0;
    while at < content.len() {
        record[at + 8] = content[at];
        at += 1;
    }
    record
}
const STDERR: [u8; FORGED.len() + 8] = record(7, FORGED);
const ANSWER: [u8; 28] = record(6, b"Status: 200 OK\r\n\r\nok");
const END: [u8; 16] = record(3, &[0; 8]);

const SERVED: Scenario = Scenario {
    name: "hostile/bytes",
    workers: Some(2),
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("forger", Place::V4, Listen::Accept(&[Await, Bytes(&STDERR), Bytes(&ANSWER), Bytes(&END), Finish, Hold])),
        ("dying", Place::V4, Listen::Accept(&[Await, Bytes(&STDERR), Bytes(&END), Hold])),
        (
            "header",
            Place::V4,
            Listen::Accept(&[
                Request,
                Bytes(b"HTTP/1.1 200 OK\r\nX: \xff\r\n\x1b]0;pwned\x07\"\xc2\x9b2J\r\n\r\n"),
                Hold,
            ]),
        ),
        ("key", Place::V4, Listen::Accept(&[Await, Bytes(b"\x1b]0;pwned\x07\x1b[2J\xff\"\r\n"), Hold])),
        ("tls", Place::V4, Listen::Tls(HEALTHY)),
    ],
    server: "large_client_header_buffers 4 32k; set $memcached_key k;\n\
             location /refused { proxy_pass http://<down>; }\n\
             location /forged { fastcgi_pass <forger>; } location /dying { fastcgi_pass <dying>; }\n\
             location /header { proxy_pass http://<header>; } location /key { memcached_pass <key>; }\n\
             location /named { proxy_pass http://$http_x_name; }\n\
             location /tls { proxy_ssl_verify on; proxy_ssl_trusted_certificate <dir>/tls.pem;\n\
             proxy_ssl_session_reuse off; proxy_ssl_name $http_x_name; proxy_pass https://<tls>; }",
    ..BASE
};

/// A request, and what must be said about it.
struct Trial {
    path: Vec<u8>,
    headers: Vec<u8>,
    status: u16,
    cause: Option<&'static str>,
}

fn trial(path: &[u8], headers: &[u8], status: u16, cause: &'static str) -> Trial {
    let headers = if headers.starts_with(b"Host") { headers.to_vec() } else { [b"Host: lab\r\n", headers].concat() };
    Trial { path: path.to_vec(), headers, status, cause: (!cause.is_empty()).then_some(cause) }
}

fn trials() -> Vec<Trial> {
    let refused = |path: &[u8], headers: &[u8]| trial(path, headers, 502, "connect_refused");
    let long = b"a".repeat(9000);
    vec![
        refused(b"/refused/\xff\xfe\x80", b""),
        refused(b"/refused/\xc2\x9b2J\xe2\x80\xaegnp.exe\xe2\x80\xa8", b""),
        refused(b"/refused/\",upstream:\"http://6.6.6.6:666/\",\\x1b[2J\\n%0a%1b[2J", b""),
        refused(&[b"/refused/".as_slice(), &long].concat(), b""),
        refused(b"/refused?\xf0\x9f\x92", b""),
        refused(b"/refused/1", b"Referer: \x1b]0;pwned\x07\x1b[2J\r\nUser-Agent: \x1b[2J\xff\r\n"),
        refused(b"/refused/2", b"Referer: \", upstream: \"http://6.6.6.6:666/\", host: \"forged\r\n"),
        refused(b"/refused/3", b"Host: \xff\xc2\x9b2J\"forged\r\n"),
        refused(b"/refused/4", &[b"Host: ".as_slice(), &long, b"\r\n"].concat()),
        trial(b"/forged/1", b"", 200, ""),
        trial(b"/dying/1", b"", 502, "header_invalid"),
        trial(b"/header/1", b"", 502, "header_invalid"),
        trial(b"/key/1", b"", 502, "header_invalid"),
        trial(b"/tls/1", b"X-Name: \x1b]0;pwned\x07\x1b[2J\xff\"name\r\n", 502, "tls_verify_failed"),
        trial(b"/tls/2", &[b"X-Name: ".as_slice(), &b"n".repeat(3000), b"\r\n"].concat(), 502, "tls_verify_failed"),
        trial(b"/named/1", b"X-Name: \x1b]0;pwned\x07\"name\xff\r\n", 502, "no_resolver"),
    ]
}

/// False: nginx refused it, as newer ones do with some names of hosts.
fn send(stage: &Stage, trial: &Trial) -> Result<bool> {
    let mut client = TcpStream::connect(stage.nginx.address())?;
    client.set_read_timeout(Some(wait::SOON))?;
    let end = b" HTTP/1.1\r\nConnection: close\r\n";
    client.write_all(&[b"GET ", trial.path.as_slice(), end, &trial.headers, b"\r\n"].concat())?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).with_context(|| format!("the answer to {}", trial.path.escape_ascii()))?;
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    if status == "400" && trial.headers.starts_with(b"Host: \xff") {
        return Ok(false);
    }
    let path = trial.path.escape_ascii().to_string();
    ensure!(status == trial.status.to_string(), "the lab itself: {status} instead of {} for {path}", trial.status);
    Ok(true)
}

fn counted<'a>(causes: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut count = BTreeMap::new();
    causes.for_each(|cause| *count.entry(cause).or_default() += 1);
    count
}

/// That nothing in the places where a record names somebody comes from the forgery.
fn unforged(record: &Value) -> Result<()> {
    let named = [&record["upstream"]["address"], &record["nginx"]["client"], &record["nginx"]["server"]];
    let request = [&record["nginx"]["request"], &record["request"], &record["server"], &record["client"]];
    for value in named.into_iter().chain(request).filter_map(Value::as_str) {
        let forged = value == "forged" || value.starts_with("6.6.6.6") || value.starts_with("GET /forgery");
        ensure!(!forged, "forged: {record}");
    }
    Ok(())
}

fn bytes(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&SERVED, options)?;
    let directory = stage.directory.path();
    let tracer = Tracer::attach(why502, stage.nginx.pid(), &[], directory)?;
    let piped = Shown::start(why502, stage.nginx.pid(), Screen::Pipe, directory)?;
    let terminal = Shown::start(why502, stage.nginx.pid(), Screen::Terminal, directory)?;
    let mut trials = trials();
    let sent = trials.len();
    let mut accepted = trials.iter().map(|trial| send(&stage, trial)).collect::<Result<Vec<bool>>>()?.into_iter();
    trials.retain(|_| accepted.next() == Some(true));
    wait::until("the access log", wait::SOON, || stage.access_log().lines().count() >= sent)?;
    let finished = tracer.finish()?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    if options.keep {
        std::fs::write(directory.join("records.jsonl"), finished.lines.join("\n"))?;
    }
    let raw = finished.lines.iter().find(|line| line.chars().any(|letter| letter.is_ascii_control()));
    ensure!(raw.is_none(), "a control character in a line of JSON: {raw:?}");
    let records = parsed(finished.lines.iter().map(String::as_str))?;
    records.iter().try_for_each(unforged)?;
    let meant = counted(trials.iter().filter_map(|trial| trial.cause));
    let of = |kind| counted(of_type(&records, kind).map(|record| record["cause"].as_str().unwrap_or("null")));
    ensure!(of("response") == meant, "responses {:?} instead of {meant:?}", of("response"));
    let mut attempted = meant.clone();
    attempted.remove("no_resolver");
    ensure!(of("failure") == attempted, "failures {:?} instead of {attempted:?}", of("failure"));
    for shown in [piped, terminal] {
        let text = shown.finish()?;
        ensure!(text.contains("connect_refused"), "no verdict was shown: {text:?}");
    }
    Ok(format!("{} trials, nothing forged, obeyed or broken", trials.len()))
}
