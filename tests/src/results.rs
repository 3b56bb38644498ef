//! What a run came to, as JSON for other programs (`--json`); [`crate::accuracy`] makes a document of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::oracle::Access;
use crate::run::{Outcome, Totals};
use crate::scenario::{Case, Reply};
use crate::scenarios::Entry;
use crate::stage::Options;
use crate::tally::Tally;

/// The numbers of a scenario that traffic was sent for.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Requests sent.
    pub requests: usize,
    /// Requests that nginx logged with status 502.
    pub status_502: usize,
    /// Requests that nginx logged with status 504.
    pub status_504: usize,
    /// What was said about them; `None` without a tracer.
    pub tally: Option<Tally>,
}

impl Numbers {
    /// Of nginx's access log.
    pub fn new(requests: usize, access: &HashMap<String, Access>, tally: Option<Tally>) -> Self {
        let count = |status| access.values().filter(|line| line.status == status).count();
        Self { requests, status_502: count(502), status_504: count(504), tally }
    }
}

/// What one scenario came to.
#[derive(Debug)]
pub struct Ran {
    /// The verdict.
    pub outcome: Outcome,
    /// Whether nginx met the faults that were injected, as far as its logs were compared.
    pub met: bool,
    /// It was given up while something was waited for.
    pub gave_up: bool,
    /// Its numbers, where traffic was sent to the end.
    pub numbers: Option<Numbers>,
}

impl From<Outcome> for Ran {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, met: true, gave_up: false, numbers: None }
    }
}

/// The scenarios of a run, as they end.
#[derive(Debug, Default)]
pub struct Results {
    scenarios: Vec<Value>,
}

impl Results {
    /// Notes a scenario that has ended.
    pub fn note(&mut self, entry: &Entry, name: &str, ran: &Ran, seconds: f64) {
        let (verdict, words) = match &ran.outcome {
            Outcome::Passed(seen) => ("pass", vec![seen.trim().to_owned()]),
            Outcome::Failed(differences) => ("fail", differences.clone()),
            Outcome::Skipped(reason) => ("skip", vec![reason.clone()]),
        };
        let mut noted = json!({
            "name": name, "verdict": verdict, "words": words, "seconds": (seconds * 10.0).round() / 10.0,
        });
        if let Entry::Traffic(scenario) = entry {
            noted["cases"] = scenario.cases.iter().map(case).collect();
        }
        if let Some(Numbers { requests, status_502, status_504, tally }) = &ran.numbers {
            noted["requests"] = json!(requests);
            noted["status_502"] = json!(status_502);
            noted["status_504"] = json!(status_504);
            noted["tally"] = tally.as_ref().map_or(Value::Null, Tally::json);
        }
        self.scenarios.push(noted);
    }

    /// Writes all of it, with the circumstances.
    pub fn write(&self, path: &Path, options: &Options, totals: Totals) -> Result<()> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
        let said = options.why502.as_ref().map(|why502| Command::new(why502).arg("--version").output());
        let why502 = said.transpose().context("why502 --version")?;
        let why502 = why502.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
        let written = json!({
            "date": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "kernel": kernel.trim(),
            "nginx": options.nginx.version().to_string(),
            "own_root": options.nginx.root().is_some(),
            "why502": why502,
            "requests_per_case": options.requests,
            "passed": totals.passed, "failed": totals.failed, "skipped": totals.skipped,
            "scenarios": self.scenarios,
        });
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        }
        fs::write(path, format!("{written:#}\n")).with_context(|| format!("writing {}", path.display()))
    }
}

/// What a case expects. `cause` holds for each attempt the causes of which any is right.
fn case(case: &Case) -> Value {
    let causes: Vec<_> = case.attempts.iter().map(|attempt| attempt.cause).collect();
    let outcomes: Vec<_> = case.attempts.iter().map(|attempt| attempt.outcome).collect();
    let (response, origin) = match case.reply {
        Reply::Follows => (None, Some("nginx")),
        Reply::Is(cause, _, origin) => (Some(cause), Some(origin)),
        Reply::None => (None, None),
        Reply::Maybe(origin) => (None, Some(origin)),
    };
    json!({
        "path": case.path, "method": case.method, "status": case.status, "cause": causes, "outcome": outcomes,
        "response": response, "origin": origin,
    })
}
