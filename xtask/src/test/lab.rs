//! The lab on this host's kernel: real nginx, injected faults, `why502` on top.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use super::accuracy::file_name;
use super::kernels::Reports;
use super::{Count, Failures, HOST, Lab, NotRoot, Outcome, Work};
use crate::build::build;
use crate::process::{Event, Invocation, Limits, is_root};
use crate::run::{build_lab, release};
use crate::setup::Need;

/// Two run side by side.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// With `--all`.
const LONG_DEADLINE: Duration = Duration::from_secs(2 * 60 * 60);

pub(super) fn host<'a>(lab: &Lab<'a>) -> (String, Work<'a>) {
    let command = prepare(lab, HOST).map(|command| command.arg("--doctor"));
    let (repository, budget, most) = (lab.repository, lab.budget, most(lab));
    let work = move || {
        let mut reports = Reports::default();
        let outcome = counted(&command?, budget.deadline(most)?, |line| reports.read(line))?;
        reports.write(repository, HOST)?;
        Ok(outcome)
    };
    (HOST.into(), Box::new(work))
}

/// Builds all that it takes, if there is time left and it can run here; the command that runs the lab for this step and leaves
/// its results.
pub(super) fn prepare(lab: &Lab<'_>, step: &str) -> Result<Invocation> {
    let Lab { repository, setup, budget, .. } = lab;
    if !is_root() {
        return Err(NotRoot.into());
    }
    budget.deadline(most(lab))?;
    let results = repository.results().join(file_name(step));
    if results.exists() {
        // Whatever comes, it is not the result of this run.
        fs::remove_file(&results).with_context(|| format!("removing {}", results.display()))?;
    }
    setup.ensure(&[Need::Ebpf, Need::Lab])?;
    setup.servers();
    let why502 = build(repository, setup, &release())?;
    let command = Invocation::new(build_lab(repository, setup, None)?).labelled(step);
    let command = command.current_dir(&repository.root).args(["run", "--why502"]).arg(why502);
    Ok(command.arg("--json").arg(results).args(budget.options().into_iter().flatten()))
}

/// How long a run may take.
pub(super) const fn most(lab: &Lab<'_>) -> Duration {
    if lab.options.all { LONG_DEADLINE } else { DEADLINE }
}

/// Runs a command that ends with a line of counts.
pub(super) fn counted(command: &Invocation, deadline: Duration, mut also: impl FnMut(&str)) -> Result<Outcome> {
    let mut last = String::new();
    let mut failures = Failures::default();
    let status = command.stream(Limits::of(deadline), |event| {
        let Event::Line(line) = event else { return };
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
