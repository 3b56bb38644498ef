//! The lab with other versions of nginx on this host's kernel: one step for each.

use anyhow::Result;

use super::lab;
use super::{Lab, Outcome, Report};
use crate::arch::Arch;
use crate::nginx::{RELEASES, Release, installed};
use crate::process::is_root;

/// Requests per case: a version takes some three minutes. With `--all` as many as with the installed nginx.
const REQUESTS: &str = "20";

/// What `--nginx` without a version means.
pub(crate) const EVERY: &str = "every";

pub(super) fn steps(report: &mut Report, lab: &Lab<'_>) {
    let options = lab.options;
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
        report.step(step.clone(), || run(lab, &step, &version));
    }
}

fn run(lab: &Lab<'_>, step: &str, version: &str) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::skipped("loading eBPF programs takes root"));
    }
    let command = lab::prepare(lab, step)?;
    let root = Release::named(version)?.obtain(lab.repository, lab.setup, Arch::HOST)?;
    let command = command.arg("--nginx-root").arg(root);
    let command = if lab.options.all { command } else { command.args(["--of-nginx", "--requests", REQUESTS]) };
    lab::counted(&command, lab::deadline(lab)?, |_| {})
}
