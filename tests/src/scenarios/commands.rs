//! The commands besides `trace` and `record`: doctor, explain, report; and metrics.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use crate::bench::{self, ends, output};
use crate::stage::Options;
use crate::tracer::Tracer;
use crate::wait;

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("commands/doctor", doctor),
    program("commands/explain", explain),
    program("commands/report", report),
    program("commands/metrics", metrics),
];

const SHORT: Duration = Duration::from_secs(20);

fn doctor(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let pid = stage.nginx.pid().to_string();
    let text = output(Command::new(why502).args(["doctor", "--pid", &pid]), SHORT)?;
    ends(&text, 0, &[])?;
    let json = output(Command::new(why502).args(["doctor", "--format", "json", "--pid", &pid]), SHORT)?;
    ends(&json, 0, &[])?;
    let told: Value = serde_json::from_slice(&json.stdout).context("doctor's JSON")?;
    let said = told.to_string();
    for observation in ["tcp_lifecycle", "nginx_cause", "nginx_status"] {
        ensure!(said.contains(observation), "{observation} is not mentioned: {said}");
    }
    Ok("exit 0, every observation".into())
}

fn explain(why502: &Path, _: &Options) -> Result<String> {
    let list = output(Command::new(why502).arg("explain"), SHORT)?;
    ends(&list, 0, &[])?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for cause in ["connect_refused", "stale_keepalive", "response_timeout", "no_live_upstreams", "unexplained"] {
        ensure!(list.contains(cause), "{cause} is not in the list");
        ends(&output(Command::new(why502).args(["explain", cause]), SHORT)?, 0, &[])?;
    }
    ends(&output(Command::new(why502).args(["explain", "no_such_cause"]), SHORT)?, 2, &["no_such_cause"])?;
    Ok("the list, each, and exit 2 for none".into())
}

fn report(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let log = stage.directory.path().join("capture.jsonl");
    let shown = log.display().to_string();
    let tracer = Tracer::attach(why502, stage.nginx.pid(), &["--log", &shown], stage.directory.path())?;
    bench::send(&stage, "/refused", 7)?;
    bench::send(&stage, "/closed", 3)?;
    let finished = tracer.finish()?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    let text = output(Command::new(why502).args(["report", &shown]), SHORT)?;
    ends(&text, 0, &[])?;
    let told = String::from_utf8_lossy(&text.stdout).into_owned();
    ensure!(told.contains("refused") && told.contains('7'), "the report lacks 7 refusals:\n{told}");
    let json = output(Command::new(why502).args(["report", "--format", "json", &shown]), SHORT)?;
    ends(&json, 0, &[])?;
    serde_json::from_slice::<Value>(&json.stdout).context("the report's JSON")?;
    // A capture that was cut off in the middle of a line is still read.
    let whole = std::fs::read(&log)?;
    std::fs::write(&log, &whole[..whole.len() * 2 / 3])?;
    ends(&output(Command::new(why502).args(["report", &shown]), SHORT)?, 0, &[])?;
    ends(&output(Command::new(why502).args(["report", "/no/such/capture"]), SHORT)?, 2, &["/no/such/capture"])?;
    Ok("text, JSON, a cut capture, exit 2 for none".into())
}

fn metrics(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let tracer = Tracer::attach(why502, stage.nginx.pid(), &["--metrics", &address], stage.directory.path())?;
    bench::send(&stage, "/refused", 4)?;
    let mut last = String::new();
    let counted = wait::until("the failures in the metrics", wait::SOON, || {
        last = scrape(&address).unwrap_or_default();
        last.lines().any(|line| line.contains("connect_refused") && line.trim_end().ends_with(" 4"))
    });
    counted.with_context(|| last.clone())?;
    ensure!(last.starts_with("HTTP/1.1 200"), "{last}");
    let finished = tracer.finish()?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    Ok("4 of connect_refused".into())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn scrape(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
