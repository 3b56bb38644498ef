//! More failures than are told one by one: what is told and what is counted must add up to nginx's own logs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::free_port;
use crate::bench;
use crate::measure::{self, connector::Connector};
use crate::scenario::{BASE, Scenario};
use crate::script::Step;
use crate::stage::{Directory, Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::upstream::{Listen, Place};
use crate::wait;

pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "storm/told_and_counted", needs: &[], run: told_and_counted },
    Program { name: "storm/one_by_one", needs: &[], run: one_by_one },
];

/// nginx 1.29.7 and later keeps connections by default, and a retry over one of those makes no event.
const ONE_EACH: &[Step] =
    &[Step::Request, Step::Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"), Step::Close];

/// One worker, so that it has all of the storm.
const SITE: Scenario = Scenario {
    name: "storm/nginx",
    workers: Some(1),
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("gone", Place::V4, Listen::Nobody),
        ("b", Place::V4, Listen::Accept(ONE_EACH)),
    ],
    http: "upstream both { server <down> max_fails=0; server <gone> max_fails=0; }\n\
           upstream saved { server <down> max_fails=0 weight=1000000; server <b> backup; }\n\
           upstream dead { server <down> fail_timeout=60s; server <gone> fail_timeout=60s; }",
    server: "keepalive_requests 100000; location /one { proxy_pass http://<down>; } location /both { proxy_pass http://both; }\n\
             location /saved { proxy_pass http://saved; } location /dead { proxy_pass http://dead; }\n\
             location /again { proxy_pass http://<down>; error_page 502 = @again; }\n\
             location @again { proxy_pass http://<gone>; }",
    ..BASE
};

const CLIENTS: usize = 4;
/// Of each client to each place.
const REQUESTS: usize = 1000;
/// Sent before an answer is waited for.
const AT_ONCE: usize = 20;
/// From so many requests a second on something must have been counted; an emulated machine makes fewer.
const STORM: f64 = 8000.0;

fn told_and_counted(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&SITE, options)?;
    let tracer = Tracer::attach(why502, stage.nginx.pid(), &[], stage.directory.path())?;
    let (mut sent, mut fastest) = (0, 0.0_f64);
    for place in ["/one", "/both", "/saved", "/again", "/dead"] {
        let start = Instant::now();
        flood(&stage, place)?;
        sent += CLIENTS * REQUESTS;
        fastest = fastest.max((CLIENTS * REQUESTS) as f64 / start.elapsed().as_secs_f64());
        wait::until("nginx to log all requests", wait::SOON, || stage.nginx.access_log().lines().count() == sent)?;
    }
    let finished = tracer.finish()?;
    let records = bench::parsed(finished.lines.iter().map(String::as_str))?;
    let access = stage.nginx.access_log();
    let answered = access.lines().filter(|line| line.split('|').nth(1) == Some("502")).count() as u64;
    let failed = stage.nginx.error_log().matches("connect() failed (111").count() as u64;
    let counted = |field| counted(&records, field);
    let told = |kind| of_type(&records, kind).count() as u64;
    let end = of_type(&records, "end").next().context("no end record")?;
    // A machine that is too slow to read loses events, and says so; what was heard without its complaint is not explained.
    let lost = |program| lost(&records, program);
    for (what, told, counted, lost, total, log) in [
        ("failures", told("failure"), counted("failures"), lost("ngx_log_error_core"), &end["failures"], failed),
        (
            "responses",
            told("response"),
            counted("responses"),
            lost("ngx_http_special_response_handler"),
            &end["responses"],
            answered,
        ),
    ] {
        let sum = told + counted;
        ensure!(
            (sum..=sum + lost).contains(&log),
            "{what}: {told} told, {counted} counted, {lost} lost of {log}: {end}"
        );
        ensure!(*total == sum, "{what}: {sum} told and counted, {total} in all");
    }
    let all = counted("failures") + counted("responses");
    ensure!(all > 0 || fastest < STORM, "nothing was counted at {fastest:.0} requests a second");
    let said =
        format!("{failed} failures and {answered} responses, {all} of them counted, at up to {fastest:.0} a second");
    if end["lost"] != 0 {
        return Ok(format!("{said}; lost {}", end["lost"]));
    }
    ensure!(end["unexplained"] == 0, "not explained: {end}");
    let outcome = |name: &str| end["by_outcome"][name].as_u64().unwrap_or(0);
    // Twice retried by configuration, and by the first requests to a block that is not yet known to be dead.
    let retried = (2 * CLIENTS * REQUESTS) as u64;
    let dead = outcome("retried").saturating_sub(retried);
    ensure!(outcome("final") + outcome("retried") == failed, "outcomes: {end}");
    ensure!(outcome("retried") >= retried && dead <= 2 * (CLIENTS * AT_ONCE) as u64, "retried: {end}");
    ensure!(end["by_cause"]["connect_refused"] == failed, "causes: {end}");
    Ok(said)
}

/// Of a program that is no nginx each failure is told. What that takes is measured by what it takes to be refused, on the same machine
/// at the same time: a look-up too many for each failure shows here first.
fn one_by_one(why502: &Path, options: &Options) -> Result<String> {
    const CONNECTS: u64 = 20_000;
    const DEAR: f64 = 0.9;
    let directory = Directory::new("storm/one_by_one", options.keep)?;
    let mut connector = Connector::start(directory.path())?;
    let nobody = format!("127.0.0.1:{}", free_port()?);
    let storm = measure::storm::measure(why502, &mut connector, &nobody, CONNECTS, 0)?;
    ensure!(storm.exact, "something has disappeared: {storm:?}");
    let share = storm.collector_us / storm.connect_us;
    ensure!(share < DEAR || options.vm, "telling takes {share:.2} of connecting: {storm:?}");
    Ok(format!("{} told, {} lost, {share:.2} of what a connect takes", storm.delivered, storm.lost))
}

/// The sum of a number in `counted` of all `lost` records.
fn counted(records: &[Value], field: &str) -> u64 {
    of_type(records, "lost").filter_map(|lost| lost["counted"][field].as_u64()).sum()
}

/// Events of a program for which the ring had no room.
fn lost(records: &[Value], program: &str) -> u64 {
    let lost = of_type(records, "lost").filter(|lost| lost["program"] == program && lost["reason"] == "ring_full");
    lost.filter_map(|lost| lost["count"].as_u64()).sum()
}

/// Requests as fast as nginx takes them.
fn flood(stage: &Stage, place: &str) -> Result<()> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(stage, place))).collect();
        clients.into_iter().try_for_each(|client| client.join().ok().context("a client")?)
    })
}

fn client(stage: &Stage, place: &str) -> Result<()> {
    let mut stream = TcpStream::connect(stage.nginx.address()).context("connecting to nginx")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let requests = format!("GET {place} HTTP/1.1\r\nHost: lab\r\n\r\n").repeat(AT_ONCE);
    for _ in 0..REQUESTS / AT_ONCE {
        stream.write_all(requests.as_bytes()).context("sending")?;
        let mut answers = Vec::new();
        while !is_complete(&answers) {
            let mut buffer = [0; 16_384];
            let count = stream.read(&mut buffer).context("reading the answers")?;
            ensure!(count > 0, "nginx closed the connection of a client");
            answers.extend_from_slice(&buffer[..count]);
        }
    }
    Ok(())
}

/// All answers, to the last byte of their bodies.
fn is_complete(mut answers: &[u8]) -> bool {
    for _ in 0..AT_ONCE {
        let Some(end) = answers.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&answers[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let Some(rest) = answers.get(end + 4 + length.unwrap_or(0_usize)..) else { return false };
        answers = rest;
    }
    true
}
