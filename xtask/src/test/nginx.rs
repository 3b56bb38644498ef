//! The lab with other versions of nginx on this host's kernel: one step for each.

use anyhow::Result;

use super::lab;
use super::{Outcome, Report};
use crate::arch::Arch;
use crate::cli::TestOptions;
use crate::nginx::{RELEASES, Release, installed};
use crate::paths::Repository;
use crate::process::is_root;
use crate::setup::Setup;

/// Requests per case: every scenario runs, and a version takes some three minutes.
const REQUESTS: usize = 20;
/// With `--all`: as many as with the installed nginx.
const ALL_REQUESTS: usize = 200;

/// What `--nginx` without a version means.
pub(crate) const EVERY: &str = "every";

pub(super) fn steps(report: &mut Report, repository: &Repository, setup: &Setup<'_>, options: &TestOptions) {
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
        report.step(step.clone(), || run(repository, setup, &step, &version, options.all));
    }
}

fn run(repository: &Repository, setup: &Setup<'_>, step: &str, version: &str, all: bool) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::skipped("loading eBPF programs takes root"));
    }
    let root = Release::named(version)?.obtain(repository, setup, Arch::HOST)?;
    let lab = lab::prepare(repository, setup, step)?;
    let requests = if all { ALL_REQUESTS } else { REQUESTS };
    let lab = lab.args(["--requests", &requests.to_string(), "--nginx-root"]).arg(root);
    lab::counted(&lab, lab::deadline(all), |_| {})
}
