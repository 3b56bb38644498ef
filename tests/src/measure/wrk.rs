//! `wrk`: as many requests as nginx can answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child;
use crate::wait;

/// Connections kept busy.
pub(crate) const CONNECTIONS: usize = 32;

/// What one run says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answers {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Answers with another status than 2xx or 3xx.
    pub(crate) refused: u64,
    /// Connections that broke.
    pub(crate) broken: u64,
}

/// Loads `url` for whole seconds.
pub(crate) fn run(url: &str, seconds: u64, threads: usize) -> Result<Answers> {
    let mut command = Command::new("wrk");
    command.args([format!("-t{threads}"), format!("-c{CONNECTIONS}"), format!("-d{seconds}s"), "--latency".into()]);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = child::start("wrk", &mut command, None)?;
    let mut stdout = process.take_stdout().context("wrk's stdout")?;
    // What it says fits into the pipe.
    let status = process.wait(Duration::from_secs(seconds) + wait::SOON * 2)?;
    ensure!(status.success(), "wrk ended with {status}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut text)?;
    parse(&text).with_context(|| format!("wrk said {text:?}"))
}

fn parse(text: &str) -> Option<Answers> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    let (requests, seconds) = text.lines().find_map(|line| {
        let (requests, rest) = line.trim().split_once(" requests in ")?;
        Some((requests.parse().ok()?, micros(rest.split(',').next()?)? / 1e6))
    })?;
    let broken = after("Socket errors:").map_or(0, |counts| {
        let numbers = counts.split([',', ' ']).filter_map(|word| word.parse::<u64>().ok());
        numbers.sum()
    });
    Some(Answers {
        requests,
        seconds,
        p50_us: micros(after("50%")?)?,
        p99_us: micros(after("99%")?)?,
        refused: after("Non-2xx or 3xx responses:").and_then(|count| count.parse().ok()).unwrap_or(0),
        broken,
    })
}

/// A time as wrk writes it.
fn micros(text: &str) -> Option<f64> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let number: f64 = text[..split].parse().ok()?;
    let unit = match &text[split..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    Some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::{Answers, parse};

    #[test]
    fn reads_what_wrk_writes() {
        let text = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  Thread Stats   Avg      Stdev\n    \
                    Latency     1.90ms    1.11ms  22.24ms   83.21%\n  Latency Distribution\n     50%    1.64ms\n     \
                    75%    2.31ms\n     90%    3.24ms\n     99%  980.00us\n  34215 requests in 2.01s, 5.58MB read\n  \
                    Socket errors: connect 0, read 1, write 0, timeout 2\n  Non-2xx or 3xx responses: 342\nRequests/sec:  \
                    17029.30\n";
        let expected =
            Answers { requests: 34215, seconds: 2.01, p50_us: 1640.0, p99_us: 980.0, refused: 342, broken: 3 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("unable to connect"), None);
    }
}
