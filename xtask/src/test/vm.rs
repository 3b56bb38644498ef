//! The lab on other kernels: one step for each, and each with its own counts.

use std::time::Duration;

use anyhow::Result;

use super::{Count, Failures, Outcome, Report};
use crate::build::build;
use crate::cli::TestOptions;
use crate::paths::{Profile, Repository};
use crate::run::{build_lab, release};
use crate::setup::{Need, Setup};
use crate::vm::{RELEASES, Task, boot};

/// An emulated machine is some twenty times slower than this one.
const DEADLINE: Duration = Duration::from_secs(30 * 60);
/// With `--all`.
const LONG_DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);
const MEMORY_MIB: u32 = 1536;

pub(super) fn steps(report: &mut Report, repository: &Repository, setup: &Setup<'_>, options: &TestOptions) {
    let kernels: Vec<String> = match options.kernel.as_slice() {
        [] => RELEASES.iter().map(|release| release.name.to_owned()).collect(),
        chosen => chosen.to_vec(),
    };
    let mut ready = None;
    for kernel in kernels {
        report.step(format!("vm {kernel}"), || {
            let command = match &ready {
                Some(command) => command,
                None => ready.insert(prepare(repository, setup, options.all)?),
            };
            run(repository, setup, &kernel, command, options.all)
        });
    }
}

/// Builds what runs in the machines: the command.
fn prepare(repository: &Repository, setup: &Setup<'_>, all: bool) -> Result<Vec<String>> {
    setup.ensure(&[Need::Ebpf, Need::Lab, Need::Vm])?;
    let why502 = build(repository, setup, &release())?;
    build_lab(repository)?;
    let lab = repository.binary("lab", Profile::Release, None);
    let mut command = vec![lab.to_string_lossy().into_owned(), "run".into(), "--why502".into()];
    command.push(why502.to_string_lossy().into_owned());
    if !all {
        // Few requests: an emulated machine is slow.
        command.push("--vm".into());
    }
    Ok(command)
}

fn run(repository: &Repository, setup: &Setup<'_>, kernel: &str, command: &[String], all: bool) -> Result<Outcome> {
    let deadline = if all { LONG_DEADLINE } else { DEADLINE };
    // What the lab reads at run time.
    let include: Vec<_> = [repository.root.join("docs")].into_iter().filter(|path| path.is_dir()).collect();
    let directory = &repository.root;
    let task = Task { kernel, command, directory, include: &include, modules: &[], memory_mib: MEMORY_MIB, deadline };
    let mut count = None;
    let mut failures = Failures::default();
    let code = boot(repository, setup, &task, |line| {
        failures.read(line);
        count = Count::from_summary(line).or(count);
    })?;
    let outcome = match count {
        Some(count) if code == 0 || count.failed > 0 => Outcome::of(count),
        Some(count) => Outcome::of(count).and_failed(format!("exit code {code}, though it counted no failure")),
        None => Outcome::failed(format!("exit code {code}, without a line of counts")),
    };
    Ok(outcome.because(failures.into_lines()))
}
