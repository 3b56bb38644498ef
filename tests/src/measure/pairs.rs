//! Runs with a tool between runs without it, so that what the machine does meanwhile meets both.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::paced;
use super::site::{Scenario, Site, Window};
use super::stats::{self, Summary};
use super::tool::{self, Started, Tool};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) pairs: usize,
    pub(crate) seconds: u64,
    /// How long the paced client measures in each window; none of it where zero.
    pub(crate) paced: Duration,
}

/// A tool under a load, against the same load without it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pairs {
    pub(crate) scenario: &'static str,
    pub(crate) tool: &'static str,
    /// Requests per second with the tool ÷ the mean of the runs before and after.
    pub(crate) throughput: Option<Summary>,
    /// A run without ÷ the mean of the runs without before and after: the noise.
    pub(crate) noise: Option<Summary>,
    /// Processor time of nginx per request, as a ratio in the same way.
    pub(crate) nginx_cpu: Option<Summary>,
    /// The same of runs without the tool.
    pub(crate) nginx_cpu_noise: Option<Summary>,
    /// Requests per second, medians.
    pub(crate) plain_rate: f64,
    pub(crate) tool_rate: f64,
    /// wrk's latency under full load, medians.
    pub(crate) plain_full_us: (f64, f64),
    pub(crate) tool_full_us: (f64, f64),
    /// The paced client's latency (p50, p99), medians, and its rate.
    pub(crate) plain_paced_us: Option<(f64, f64)>,
    pub(crate) tool_paced_us: Option<(f64, f64)>,
    pub(crate) paced_rate: f64,
    /// The tool's own processes, as a share of one processor.
    pub(crate) tool_share: f64,
    pub(crate) ready_ms: Vec<f64>,
    /// Why it could not run.
    pub(crate) cannot: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    window: Window,
    paced: Option<paced::Latency>,
}

/// A load on which tools are measured one after the other.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    site: &'a Site,
    scenario: &'a Scenario,
    /// Requests per second of the paced client.
    paced_rate: f64,
    /// The last window without a tool, and its seconds: the next tool's first.
    last: Option<(u64, Measured)>,
}

impl<'a> Ground<'a> {
    /// The first window warms up both nginxes and sets the pace: a fifth of what nginx can do.
    pub(crate) fn warm(site: &'a Site, scenario: &'a Scenario) -> Result<Self> {
        let paced_rate = site.load(scenario, 1, None)?.rate() / 5.0;
        Ok(Self { site, scenario, paced_rate, last: None })
    }

    /// Measures `tool`.
    pub(crate) fn measure(&mut self, tool: &Tool, effort: &Effort) -> Result<Pairs> {
        let Self { site, scenario, paced_rate: rate, .. } = *self;
        let window = |watched: Option<u32>| -> Result<Measured> {
            let window = site.load(scenario, effort.seconds, watched)?;
            let paced = (!effort.paced.is_zero()).then(|| site.pace(scenario, rate, effort.paced)).transpose()?;
            Ok(Measured { window, paced })
        };
        let mut plain = vec![match self.last.take() {
            Some((seconds, measured)) if seconds == effort.seconds => measured,
            _ => window(None)?,
        }];
        let (mut watched, mut ready_ms) = (Vec::new(), Vec::new());
        for _ in 0..effort.pairs {
            let running = match tool.start(site.directory())? {
                Started::Running(running) => running,
                Started::Cannot(why) => return Ok(summary(scenario, tool, rate, &plain, &[], ready_ms, Some(why))),
            };
            ready_ms.push(running.ready.as_secs_f64() * 1e3);
            watched.push(window(Some(running.pid()))?);
            tool::remove(&running.stop()?);
            plain.push(window(None)?);
        }
        self.last = plain.last().map(|&measured| (effort.seconds, measured));
        Ok(summary(scenario, tool, rate, &plain, &watched, ready_ms, None))
    }
}

fn summary(
    scenario: &Scenario,
    tool: &Tool,
    paced_rate: f64,
    plain: &[Measured],
    watched: &[Measured],
    ready_ms: Vec<f64>,
    cannot: Option<String>,
) -> Pairs {
    let rate = |measured: &Measured| measured.window.rate();
    let cpu = |measured: &Measured| measured.window.nginx_us;
    let medians =
        |of: &[Measured], value: &dyn Fn(&Measured) -> f64| stats::median(&of.iter().map(value).collect::<Vec<_>>());
    let full = |of: &[Measured]| {
        (
            medians(of, &|measured| measured.window.answers.p50_us),
            medians(of, &|measured| measured.window.answers.p99_us),
        )
    };
    let paced = |of: &[Measured]| {
        let latencies: Vec<paced::Latency> = of.iter().filter_map(|measured| measured.paced).collect();
        let median =
            |value: fn(&paced::Latency) -> f64| stats::median(&latencies.iter().map(value).collect::<Vec<_>>());
        (!latencies.is_empty()).then(|| (median(|latency| latency.p50_us), median(|latency| latency.p99_us)))
    };
    let plain_rates: Vec<f64> = plain.iter().map(rate).collect();
    let plain_cpu: Vec<f64> = plain.iter().map(cpu).collect();
    Pairs {
        scenario: scenario.name,
        tool: tool.name,
        throughput: Summary::of(&between(&watched.iter().map(rate).collect::<Vec<_>>(), &plain_rates)),
        noise: Summary::of(&among(&plain_rates)),
        nginx_cpu: Summary::of(&between(&watched.iter().map(cpu).collect::<Vec<_>>(), &plain_cpu)),
        nginx_cpu_noise: Summary::of(&among(&plain_cpu)),
        plain_rate: stats::median(&plain_rates),
        tool_rate: medians(watched, &rate),
        plain_full_us: full(plain),
        tool_full_us: full(watched),
        plain_paced_us: paced(plain),
        tool_paced_us: paced(watched),
        paced_rate,
        tool_share: medians(watched, &|measured| measured.window.tool_share),
        ready_ms,
        cannot,
    }
}

/// Each value ÷ the mean of its two neighbours among those without the tool.
fn between(watched: &[f64], plain: &[f64]) -> Vec<f64> {
    watched.iter().zip(plain.windows(2)).map(|(value, around)| value / f64::midpoint(around[0], around[1])).collect()
}

/// The same of the runs without the tool among themselves.
fn among(plain: &[f64]) -> Vec<f64> {
    plain.windows(3).map(|three| three[1] / f64::midpoint(three[0], three[2])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_steady_drift_is_no_difference() {
        // The machine slows down by one a step; the tool costs nothing.
        assert_eq!(super::between(&[9.0, 7.0], &[10.0, 8.0, 6.0]), [1.0, 1.0]);
        assert_eq!(super::among(&[10.0, 8.0, 6.0]), [1.0]);
    }
}
