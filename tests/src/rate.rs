//! Requests at a given rate, whatever becomes of them: an open loop, so that slow answers do not slow the load down.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::scenario::Case;
use crate::stage::Stage;
use crate::{drive, wait};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests per second.
    pub per_second: u32,
    /// How many of each case, by path, in a round; the rounds are shuffled.
    pub shares: &'static [(&'static str, usize)],
}

/// How often the loop looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// Connections to nginx that wait for their next request.
type Pool = Rc<RefCell<Vec<TcpStream>>>;

/// Sends for as long as the command line says, waits for every answer, and notes what was reached.
pub fn run(stage: &Stage, rate: Rate) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    LocalSet::new().block_on(&runtime, open_loop(stage, rate))
}

async fn open_loop(stage: &Stage, rate: Rate) -> Result<()> {
    let seconds = stage.options.seconds;
    let total = usize::try_from(rate.per_second)? * usize::try_from(seconds)?;
    let mut round = Vec::new();
    let pool = Pool::default();
    let mut under_way: JoinSet<Result<(String, u16, Duration)>> = JoinSet::new();
    let mut delays = Vec::with_capacity(total);
    let mut tick = tokio::time::interval(TICK);
    let started = Instant::now();
    let mut sent = 0;
    while sent < total {
        ensure!(!wait::interrupted(), "interrupted");
        tick.tick().await;
        let due = (started.elapsed().as_secs_f64() * f64::from(rate.per_second)) as usize;
        while sent < due.min(total) {
            if round.is_empty() {
                round = next_round(stage, rate)?;
            }
            let case: &Case = round.pop().context("no shares")?;
            let (uri, pool, address) = (stage.note(case), Rc::clone(&pool), stage.nginx.address());
            let text = text(case, &uri);
            under_way.spawn_local(async move {
                let begun = Instant::now();
                let status = exchange(address, &pool, &text).await.with_context(|| uri.clone())?;
                Ok((uri, status, begun.elapsed()))
            });
            sent += 1;
        }
        while let Some(done) = under_way.try_join_next() {
            delays.push(answered(stage, done.context("a client")??));
        }
    }
    let sending = started.elapsed();
    while let Some(done) = under_way.join_next().await {
        delays.push(answered(stage, done.context("a client")??));
    }
    delays.sort_unstable();
    let at = |part: usize| delays.get(delays.len() * part / 100).map_or(0.0, |delay| delay.as_secs_f64() * 1e3);
    let reached = sent as f64 / sending.as_secs_f64();
    stage.remark(format!("{reached:.0} requests/s, answers after {:.1} ms (half), {:.1} ms (90 %)", at(50), at(90)));
    Ok(())
}

fn answered(stage: &Stage, (uri, status, delay): (String, u16, Duration)) -> Duration {
    stage.answered(&uri, status);
    delay
}

fn next_round(stage: &Stage, rate: Rate) -> Result<Vec<&'static Case>> {
    let mut round = Vec::new();
    for &(path, share) in rate.shares {
        round.extend(std::iter::repeat_n(stage.case(path)?, share));
    }
    drive::shuffle(&mut round);
    Ok(round)
}

fn text(case: &Case, uri: &str) -> String {
    let Case { method, headers, body, .. } = case;
    let length = if *body > 0 { format!("Content-Length: {body}\r\n") } else { String::new() };
    format!("{method} {uri} HTTP/1.1\r\nHost: lab\r\n{headers}{length}\r\n{}", "b".repeat(*body))
}

/// Sends a request on a connection that waits, or a new one, and reads the whole answer.
async fn exchange(address: SocketAddr, pool: &Pool, text: &str) -> Result<u16> {
    let waiting = pool.borrow_mut().pop();
    let mut stream = match waiting {
        Some(stream) => stream,
        None => TcpStream::connect(address).await.context("connecting to nginx")?,
    };
    stream.set_nodelay(true)?;
    stream.write_all(text.as_bytes()).await.context("sending")?;
    let mut answer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(stream.read_buf(&mut answer).await.context("reading the head")? > 0, "nginx closed without answer");
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    let Some(length) = length else {
        stream.read_to_end(&mut answer).await.context("reading the body")?;
        return Ok(status);
    };
    while answer.len() < end + length {
        ensure!(stream.read_buf(&mut answer).await.context("reading the body")? > 0, "a body cut short");
    }
    if !head.contains("\r\nconnection: close") {
        pool.borrow_mut().push(stream);
    }
    Ok(status)
}
