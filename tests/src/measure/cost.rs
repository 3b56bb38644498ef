//! Time in kernel programs, by the kernel's own clock.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::empty::Empty;
use super::programs::{self, Clock, Counts};
use super::site::{NEW, Scenario, Site};
use super::tool::{self, Started, Tool};

/// One program under one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) runs_per_request: f64,
    /// The mean of one run, without what the empty program takes.
    pub(crate) ns_per_run: f64,
    pub(crate) ns_per_request: f64,
    /// Runs that the kernel skipped.
    pub(crate) skipped: u64,
}

/// All programs of a tool under one load, dearest first.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cost {
    pub(crate) scenario: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) ns_per_request: f64,
    /// The same with the clock's own time in it.
    pub(crate) raw_ns_per_request: f64,
    pub(crate) programs: Vec<Program>,
}

/// Instructions walked by the verifier, by program.
pub(crate) type Verified = BTreeMap<String, u64>;

/// What the kernel's clock says of a program that does nothing, in ns per run.
pub(crate) fn of_nothing(site: &Site) -> Result<f64> {
    let _clock = Clock::start()?;
    let empty = Empty::attach()?;
    site.load(&NEW, 1, None)?;
    let counts = empty.counts()?;
    anyhow::ensure!(counts.runs > 0, "the empty program did not run");
    Ok(counts.run_time_ns as f64 / counts.runs as f64)
}

/// Measures `tool` under each of `scenarios`, in `windows` of a second of which the middle one counts; nothing where it
/// does not run here.
pub(crate) fn measure(
    site: &Site,
    scenarios: &[Scenario],
    tool: &Tool,
    windows: usize,
    nothing_ns: f64,
) -> Result<(Vec<Cost>, Verified)> {
    let _clock = Clock::start()?;
    let Started::Running(running) = tool.start(site.directory())? else { return Ok(Default::default()) };
    let names = programs::names();
    let name = |id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let mut costs = Vec::new();
    for scenario in scenarios {
        let mut seen = Vec::new();
        for _ in 0..windows {
            let before = programs::of(running.pid());
            let requests = site.load(scenario, 1, None)?.answers.requests;
            seen.push(between(&before, &programs::of(running.pid()), requests as f64, nothing_ns, &name));
        }
        seen.sort_by(|one, other| one.ns_per_request.total_cmp(&other.ns_per_request));
        let middle = seen.len() / 2;
        let counted = seen.into_iter().nth(middle);
        costs.extend(counted.map(|cost| Cost { scenario: scenario.name, tool: tool.name, ..cost }));
    }
    let verified = programs::of(running.pid()).iter().map(|(&id, counts)| (name(id), counts.verified)).collect();
    tool::remove(&running.stop()?);
    Ok((costs, verified))
}

/// What the programs did between two looks; of which load and tool is for the caller to say.
fn between(
    before: &BTreeMap<u32, Counts>,
    after: &BTreeMap<u32, Counts>,
    requests: f64,
    nothing_ns: f64,
    name: &dyn Fn(u32) -> String,
) -> Cost {
    let mut programs = Vec::new();
    let mut raw = 0.0;
    for (&id, counts) in after {
        let earlier = before.get(&id).copied().unwrap_or_default();
        let (ns, runs) = (counts.run_time_ns - earlier.run_time_ns, counts.runs - earlier.runs);
        if runs == 0 {
            continue;
        }
        let net = (ns as f64 - runs as f64 * nothing_ns).max(0.0);
        raw += ns as f64;
        programs.push(Program {
            name: name(id),
            runs_per_request: runs as f64 / requests,
            ns_per_run: net / runs as f64,
            ns_per_request: net / requests,
            skipped: counts.skipped - earlier.skipped,
        });
    }
    programs.sort_by(|one, other| other.ns_per_request.total_cmp(&one.ns_per_request));
    let ns_per_request = programs.iter().map(|program| program.ns_per_request).sum();
    Cost { ns_per_request, raw_ns_per_request: raw / requests, programs, ..Cost::default() }
}
