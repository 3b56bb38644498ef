//! The lab with other versions of nginx on this host's kernel: one step for each.

use anyhow::Result;

use super::lab;
use super::{Lab, Work};
use crate::arch::Arch;
use crate::nginx::{RELEASES, Release, installed};
use crate::process::Invocation;

/// Requests per case: a version takes some three minutes. With `--all` as many as with the installed nginx.
const REQUESTS: &str = "20";

/// What `--nginx` without a version means.
pub(crate) const EVERY: &str = "every";

pub(super) fn steps<'a>(lab: &Lab<'a>) -> Vec<(String, Work<'a>)> {
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
    versions.into_iter().map(|version| step(lab, &version)).collect()
}

fn step<'a>(lab: &Lab<'a>, version: &str) -> (String, Work<'a>) {
    let name = format!("nginx {version}");
    let command = prepare(lab, &name, version);
    let (budget, most) = (lab.budget, lab::most(lab));
    (name, Box::new(move || lab::counted(&command?, budget.deadline(most)?, |_| {})))
}

fn prepare(lab: &Lab<'_>, step: &str, version: &str) -> Result<Invocation> {
    let command = lab::prepare(lab, step)?;
    let root = Release::named(version)?.obtain(lab.repository, lab.setup, Arch::HOST)?;
    let command = command.arg("--nginx-root").arg(root);
    Ok(if lab.options.all { command } else { command.args(["--of-nginx", "--requests", REQUESTS]) })
}
