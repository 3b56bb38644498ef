//! Memory while connections come, go and stay.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::process::{self, Resident};
use super::site::{SOME, Site};
use super::stats;
use super::tool::{self, Tool};
use crate::{sockets, wait};

/// Between looks at the memory.
const INTERVAL: Duration = Duration::from_millis(250);

/// Memory of why502 over a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Memory {
    /// Upstream connections that stayed open all the time.
    pub(crate) open: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// Before any load.
    pub(crate) first: Resident,
    pub(crate) last: Resident,
    pub(crate) highest_kib: u64,
    /// Over the second half.
    pub(crate) slope_kib_per_minute: Option<f64>,
}

/// Leaves `open` requests without an answer, and loads nginx meanwhile, one request of a hundred failing.
pub(crate) fn measure(site: &Site, tool: &Tool, open: usize, time: Duration) -> Result<Memory> {
    let running = tool.must_start(site.directory())?;
    let first = process::resident(running.pid())?;
    let held = hold(site, open)?;
    let start = Instant::now();
    let mut samples = Vec::new();
    let window = thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(|| site.load(&SOME, time.as_secs().max(1), None));
        while !load.is_finished() {
            samples.push((start.elapsed().as_secs_f64() / 60.0, process::resident(running.pid())?));
            wait::let_pass(INTERVAL)?;
        }
        load.join().map_err(|_| anyhow!("the load panicked"))?
    })?;
    let last = process::resident(running.pid())?;
    let seconds = start.elapsed().as_secs_f64();
    drop(held);
    tool::remove(&running.stop()?);
    let totals: Vec<(f64, f64)> = samples.iter().map(|&(at, memory)| (at, memory.total_kib() as f64)).collect();
    Ok(Memory {
        open,
        seconds,
        requests: window.answers.requests,
        failures: window.answers.refused,
        first,
        last,
        highest_kib: samples.iter().map(|(_, memory)| memory.total_kib()).max().unwrap_or(last.total_kib()),
        slope_kib_per_minute: stats::slope(&totals[totals.len() / 2..]),
    })
}

/// Clients whose requests nginx has passed on to an upstream that will never answer.
fn hold(site: &Site, open: usize) -> Result<Vec<TcpStream>> {
    let mut clients = Vec::with_capacity(open);
    for _ in 0..open {
        let mut client = TcpStream::connect(site.spread).context("one more client")?;
        client.write_all(b"GET /held HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        clients.push(client);
    }
    let ports = site.queue_ports()?;
    let mut connected = 0;
    let all = wait::until("held upstream connections", wait::SOON * 3, || {
        let all = sockets::all().into_iter();
        connected = all.filter(|socket| socket.state == sockets::ESTABLISHED && ports.contains(&socket.remote)).count();
        connected >= open
    });
    all.with_context(|| format!("{connected} of {open}"))?;
    Ok(clients)
}
