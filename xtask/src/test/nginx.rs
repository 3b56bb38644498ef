//! The lab with other versions of nginx on this host's kernel: one step for each.

use anyhow::Result;

use super::budget::Budget;
use super::lab;
use super::{Outcome, Report};
use crate::arch::Arch;
use crate::cli::TestOptions;
use crate::nginx::{RELEASES, Release, installed};
use crate::paths::Repository;
use crate::process::is_root;
use crate::setup::Setup;

/// Requests per case: a version takes some three minutes. With `--all` as many as with the installed nginx.
const REQUESTS: &str = "20";

/// What `--nginx` without a version means.
pub(crate) const EVERY: &str = "every";

pub(super) fn steps(
    report: &mut Report,
    repository: &Repository,
    setup: &Setup<'_>,
    options: &TestOptions,
    budget: &Budget,
) {
    let every = options.nginx.is_empty() || options.nginx.iter().any(|version| version == EVERY);
    let versions: Vec<String> = if every {
        // The step `host` had the installed one.
        let installed = installed().unwrap_or_default();
        let other = |release: &&Release| !installed.starts_with(&format!("{}.", release.name));
        RELEASES.iter().filter(other).map(|release| release.name.to_owned()).collect()
    } else {
        options.nginx.clone()
    };
    for version in versions {
        let step = format!("nginx {version}");
        report.step(step.clone(), || run(repository, setup, &step, &version, options.all, budget));
    }
}

fn run(
    repository: &Repository,
    setup: &Setup<'_>,
    step: &str,
    version: &str,
    all: bool,
    budget: &Budget,
) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::skipped("loading eBPF programs takes root"));
    }
    budget.deadline(lab::most(all))?;
    let root = Release::named(version)?.obtain(repository, setup, Arch::HOST)?;
    let lab = lab::prepare(repository, setup, step)?;
    let lab = lab.arg("--nginx-root").arg(root).args(budget.options().into_iter().flatten());
    let lab = if all { lab } else { lab.args(["--of-nginx", "--requests", REQUESTS]) };
    lab::counted(&lab, budget.deadline(lab::most(all))?, |_| {})
}
