//! The lab on this host's kernel: real nginx, injected faults, `why502` on top.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::accuracy::file_name;
use super::budget::Budget;
use super::kernels::Reports;
use super::{Count, Failures, HOST, Outcome};
use crate::build::build;
use crate::paths::Repository;
use crate::process::{Invocation, is_root};
use crate::run::{build_lab, release};
use crate::setup::{Need, Setup};

const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// With `--all`.
const LONG_DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

pub(super) fn host(repository: &Repository, setup: &Setup<'_>, all: bool, budget: &Budget) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::skipped("loading eBPF programs takes root"));
    }
    let mut reports = Reports::default();
    budget.deadline(DEADLINE)?;
    let lab = prepare(repository, setup, HOST)?.arg("--doctor").args(budget.options().into_iter().flatten());
    let outcome = counted(&lab, budget.deadline(most(all))?, |line| reports.read(line))?;
    reports.write(repository, HOST)?;
    Ok(outcome)
}

/// Builds all that it takes; the command that runs the lab for this step and leaves its results.
pub(super) fn prepare(repository: &Repository, setup: &Setup<'_>, step: &str) -> Result<Invocation> {
    let results = repository.results().join(file_name(step));
    if results.exists() {
        // Whatever comes, it is not the result of this run.
        fs::remove_file(&results).with_context(|| format!("removing {}", results.display()))?;
    }
    setup.ensure(&[Need::Ebpf, Need::Lab])?;
    setup.servers();
    let why502 = build(repository, setup, &release())?;
    let lab = Invocation::new(build_lab(repository, setup, None)?);
    let lab = lab.current_dir(&repository.root).args(["run", "--why502"]).arg(why502);
    Ok(lab.arg("--json").arg(results))
}

/// How long a run may take.
pub(super) fn most(all: bool) -> Duration {
    if all { LONG_DEADLINE } else { DEADLINE }
}

/// Runs a command that ends with a line of counts.
pub(super) fn counted(command: &Invocation, deadline: Duration, mut also: impl FnMut(&str)) -> Result<Outcome> {
    let mut last = String::new();
    let mut failures = Failures::default();
    let status = command.stream(deadline, |line| {
        failures.read(line);
        also(line);
        if !line.trim().is_empty() {
            line.clone_into(&mut last);
        }
    })?;
    let Some(count) = Count::from_summary(&last) else {
        let outcome = Outcome::failed(format!("{status}, without a last line of counts"));
        return Ok(outcome.because(failures.into_lines()));
    };
    let outcome = Outcome::of(count).because(failures.into_lines());
    if !status.success() && count.failed == 0 {
        return Ok(outcome.and_failed(format!("{status}, though it counted no failure")));
    }
    Ok(outcome)
}
