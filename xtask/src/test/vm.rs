//! The lab on other kernels: one step for each, and each with its own counts. As many at once as there are processors: most of
//! the time an emulated machine keeps one busy, however many it has itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::kernels::Reports;
use super::{Count, Failures, Lab, Outcome, Report, processors};
use crate::arch::Arch;
use crate::build::build;
use crate::cli::BuildOptions;
use crate::paths::Repository;
use crate::process::{Invocation, Limits};
use crate::run::{build_lab, release};
use crate::setup::Need;
use crate::vm::{RELEASES, Ready, Task, arch_of, ready};

/// An emulated machine is some twenty times slower than this one.
const DEADLINE: Duration = Duration::from_secs(45 * 60);
/// With `--all`.
const LONG_DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);
/// The lab says something of each scenario, and after five minutes that one does not end: by a timer of the machine's.
const SILENCE: Duration = Duration::from_secs(7 * 60);
const MEMORY_MIB: u32 = 1536;

/// What runs on another processor unless its kernel was asked for by name: one or some of each family, where registers,
/// alignment or the compiler could tell.
const ABROAD: [&str; 9] = [
    "connect/refused",
    "connect/rejected_by_icmp_port",
    "unix/",
    "tls/",
    "response/",
    "keepalive/",
    "witness/log_to_stderr",
    "kernel_only/",
    "negative/shapes_of_answers",
];

pub(super) fn steps(report: &mut Report, lab: &Lab<'_>) {
    let kernels: Vec<String> = match lab.options.kernel.as_slice() {
        [] => RELEASES.iter().map(|release| release.name.to_owned()).collect(),
        chosen => chosen.to_vec(),
    };
    // One processor after the other: what runs on the first is built before the rest.
    let mut of_arch: BTreeMap<Option<Arch>, Vec<String>> = BTreeMap::new();
    for kernel in kernels {
        of_arch.entry(arch_of(&kernel).ok()).or_default().push(kernel);
    }
    for kernels in of_arch.into_values() {
        at_once(report, lab, kernels);
    }
}

/// The steps of kernels for one processor.
fn at_once(report: &mut Report, lab: &Lab<'_>, kernels: Vec<String>) {
    let Lab { repository, options, budget, .. } = *lab;
    let most = if options.all { LONG_DEADLINE } else { DEADLINE };
    let mut command = None;
    let machines: Vec<_> = kernels.into_iter().map(|kernel| (machine(lab, &kernel, &mut command), kernel)).collect();
    let steps = machines.into_iter().map(|(machine, kernel)| {
        let name = format!("vm {kernel}");
        let step = move || run(repository, &kernel, machine?, budget.deadline(most)?);
        (name, step)
    });
    report.steps_at_once(processors(), steps.collect());
}

/// A machine with the lab in it; `command` is what runs in all of these, once it is built.
fn machine(lab: &Lab<'_>, kernel: &str, command: &mut Option<Vec<String>>) -> Result<Ready> {
    let Lab { repository, setup, budget, .. } = lab;
    budget.deadline(DEADLINE)?;
    let arch = arch_of(kernel)?;
    let command = match command {
        Some(command) => command,
        None => command.insert(prepare(lab, arch)?),
    };
    // What the lab reads at run time.
    let mut include: Vec<_> = [repository.root.join("docs")].into_iter().filter(|path| path.is_dir()).collect();
    if arch.foreign_target().is_none() {
        include.extend(python());
    }
    let directory = &repository.root;
    ready(
        repository,
        setup,
        &Task { kernel, command, directory, include: &include, modules: &[], memory_mib: MEMORY_MIB },
    )
}

/// Builds what runs in machines of `arch`: the command.
fn prepare(lab: &Lab<'_>, arch: Arch) -> Result<Vec<String>> {
    let Lab { repository, setup, options, budget } = lab;
    setup.ensure(&[Need::Ebpf, Need::Vm(arch)])?;
    let target = arch.foreign_target();
    if target.is_none() {
        // Other machines come with Debian's.
        setup.ensure(&[Need::Lab])?;
    }
    let why502 = build(repository, setup, &BuildOptions { target: target.map(str::to_owned), ..release() })?;
    let program = build_lab(repository, setup, target)?;
    let mut command = vec![program.to_string_lossy().into_owned(), "run".into(), "--why502".into()];
    command.push(why502.to_string_lossy().into_owned());
    if !options.all {
        // Few requests: an emulated machine is slow.
        command.push("--vm".into());
    }
    command.push("--doctor".into());
    command.extend(budget.options().into_iter().flatten());
    if target.is_some() && options.kernel.is_empty() && !options.all {
        command.extend(ABROAD.iter().flat_map(|name| ["--filter".to_owned(), (*name).to_owned()]));
    }
    Ok(command)
}

fn run(repository: &Repository, kernel: &str, machine: Ready, deadline: Duration) -> Result<Outcome> {
    let limits = Limits { silence: Some(SILENCE), ..Limits::of(deadline) };
    let mut count = None;
    let mut failures = Failures::default();
    let mut reports = Reports::default();
    let code = machine.run(repository, Some(kernel), limits, |line| {
        failures.read(line);
        reports.read(line);
        count = Count::from_summary(line).or(count);
    })?;
    reports.write(repository, kernel)?;
    let outcome = match count {
        Some(count) if code == 0 || count.failed > 0 => Outcome::of(count),
        Some(count) => Outcome::of(count).and_failed(format!("exit code {code}, though it counted no failure")),
        None => Outcome::failed(format!("exit code {code}, without a line of counts")),
    };
    Ok(outcome.because(failures.into_lines()))
}

/// Debian's python with its library, for servers that fail; without it those scenarios are skipped.
fn python() -> Vec<PathBuf> {
    let python = PathBuf::from("/usr/bin/python3");
    let ask = ["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"];
    let library = Invocation::new(&python).args(ask).output();
    let library = library.ok().map(|path| PathBuf::from(path.trim())).filter(|path| path.is_dir());
    library.map_or_else(Vec::new, |library| vec![python, library])
}
