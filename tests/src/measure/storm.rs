//! More failures than anybody reads: how many arrive, how many are lost, and how late.

use std::io::Read;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::connector::{self, Connector};
use super::{process, stats};
use crate::child;
use crate::wait;

/// A storm that was watched.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Storm {
    /// What was asked for, per second; none for as fast as it goes.
    pub(crate) asked: Option<u64>,
    /// What the connector managed, per second.
    pub(crate) rate: f64,
    pub(crate) made: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// `delivered + lost = made`.
    pub(crate) exact: bool,
    /// Processor time of why502 over the storm and its aftermath, per connect.
    pub(crate) collector_us: f64,
    /// Processor time of who connects, per connect: what it takes to be refused.
    pub(crate) connect_us: f64,
    /// From the kernel's time of the failure to its line being read.
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
}

/// What arrived, and when.
type Chunks = Arc<Mutex<Vec<(Timestamp, Vec<u8>)>>>;

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    time: &'a str,
    lost: Option<u64>,
}

/// `count` refused connects by a program that is no nginx.
pub(crate) fn measure(
    why502: &std::path::Path,
    connector: &mut Connector,
    to: &str,
    count: u64,
    rate: u64,
) -> Result<Storm> {
    let mut command = Command::new(why502);
    command.args(["trace", "--format", "json", "--process", connector::NAME]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut tracer = child::start("why502", &mut command, None)?;
    let stdout = tracer.take_stdout().context("why502's stdout")?;
    let chunks = Chunks::default();
    let sink = Arc::clone(&chunks);
    let reader = thread::spawn(move || collect(stdout, &sink));
    let size =
        || chunks.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    wait::until("why502's session record", wait::SOON * 3, || size() > 0 || tracer.ended().is_some())?;
    ensure!(tracer.ended().is_none(), "why502 ended at once");
    // A program that is met for the first time is looked at: whether it has a configuration is no question of the rate.
    let (known, session) = (connector.connect(to, 1, 0)?, size());
    wait::until("why502's first failure", wait::SOON * 3, || size() > session)?;
    let (before, at_work) = (process::cpu_ns(tracer.pid())?, process::cpu_ns(connector.pid())?);
    let made = connector.connect(to, count, rate)?;
    // Quiet for half a second: everything has been written, or counted as lost.
    let mut last = (0, Instant::now());
    wait::until("why502 to write everything", wait::SOON * 6, || {
        let now = size();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(500)
    })?;
    let used = process::cpu_ns(tracer.pid())? - before;
    let at_work = process::cpu_ns(connector.pid())? - at_work;
    tracer.signal(libc::SIGINT)?;
    tracer.wait(wait::SOON * 2)?;
    reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    let chunks = std::mem::take(&mut *chunks.lock().unwrap_or_else(PoisonError::into_inner));
    let (latencies, lost) = read(&chunks)?;
    let delivered = latencies.len() as u64 - known.refused;
    Ok(Storm {
        asked: (rate > 0).then_some(rate),
        rate: made.refused as f64 / made.seconds,
        made: made.refused,
        delivered,
        lost,
        exact: delivered + lost == made.refused,
        collector_us: used as f64 / 1e3 / made.refused as f64,
        connect_us: at_work as f64 / 1e3 / made.refused as f64,
        latency_p50_ms: stats::quantile(&latencies, 0.5),
        latency_p99_ms: stats::quantile(&latencies, 0.99),
    })
}

fn collect(mut stdout: ChildStdout, sink: &Chunks) {
    let mut buffer = vec![0; 1 << 18];
    while let Ok(count @ 1..) = stdout.read(&mut buffer) {
        let chunk = (Timestamp::now(), buffer[..count].to_vec());
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
    }
}

/// The lateness of each failure in ms, and what the last record says was lost.
fn read(chunks: &[(Timestamp, Vec<u8>)]) -> Result<(Vec<f64>, u64)> {
    let (mut latencies, mut lost, mut line) = (Vec::new(), None, Vec::new());
    for (arrived, bytes) in chunks {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(part);
            if part.last() != Some(&b'\n') {
                continue;
            }
            let record: Line<'_> = serde_json::from_slice(&line)
                .with_context(|| format!("no record: {}", String::from_utf8_lossy(&line)))?;
            match record.r#type {
                "failure" => {
                    let happened: Timestamp = record.time.parse().context("the time of a record")?;
                    latencies.push((arrived.as_nanosecond() - happened.as_nanosecond()) as f64 / 1e6);
                }
                "end" => lost = record.lost,
                _ => {}
            }
            line.clear();
        }
    }
    Ok((latencies, lost.context("why502 wrote no end record")?))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_line_arrives_with_its_last_byte() {
        let at = |text: &str| text.parse().expect("a time");
        let chunks = [
            (at("2026-01-01T00:00:00.001Z"), br#"{"type":"failure","time":"2026-01-01T00:00:00Z","#.to_vec()),
            (
                at("2026-01-01T00:00:00.005Z"),
                b"\"id\":1}\n{\"type\":\"end\",\"time\":\"2026-01-01T00:00:01Z\",\"lost\":7}\n".to_vec(),
            ),
        ];
        assert_eq!(read(&chunks).expect("records"), (vec![5.0], 7));
        assert!(read(&chunks[..1]).is_err());
    }
}
