//! A client that keeps its pace whatever nginx does, so that a slow answer shows as latency and not as less load.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::stats;
use crate::client::{Connection, Request};
use crate::wait;

/// Connections that take turns: more than ever wait at once at the rates used here.
const CONNECTIONS: u32 = 8;

/// How long requests took, counted from when each was due to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Sends `rate` requests per second to `path` for `time`.
pub(crate) fn run(address: SocketAddr, path: &str, rate: f64, time: Duration) -> Result<Latency> {
    let gap = Duration::from_secs_f64(1.0 / rate);
    let total = (time.as_secs_f64() * rate) as u32;
    ensure!(total >= 2 * CONNECTIONS, "{rate:.0} requests per second for {time:?} are too few to measure");
    let start = Instant::now() + Duration::from_millis(20);
    let mut latencies = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|client| {
                scope.spawn(move || {
                    let due = (client..total).step_by(CONNECTIONS as usize).map(|number| start + gap * number);
                    one(address, path, due)
                })
            })
            .collect();
        for client in clients {
            latencies.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(())
    })?;
    Ok(Latency { p50_us: stats::quantile(&latencies, 0.5), p99_us: stats::quantile(&latencies, 0.99) })
}

fn one(address: SocketAddr, path: &str, due: impl Iterator<Item = Instant>) -> Result<Vec<f64>> {
    // SAFETY: this option takes one number: sleeps of this thread end within 1 ns of their time instead of 50 µs.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
    let mut connection = Connection::open(address)?;
    let request = Request { method: "GET", uri: path, body: 0, headers: "", keepalive: true };
    let mut latencies = Vec::new();
    for due in due {
        ensure!(!wait::interrupted(), "interrupted");
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = connection.exchange(&request).context("a paced request")?;
        latencies.push(due.elapsed().as_secs_f64() * 1e6);
        if !answer.reusable {
            connection = Connection::open(address)?;
        }
    }
    Ok(latencies)
}
