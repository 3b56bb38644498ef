//! `run` and `demo`: set up, build, and hand over to the program as root.

use std::path::PathBuf;

use anyhow::Result;

use crate::build::{build, build_binary};
use crate::cli::BuildOptions;
use crate::paths::{Profile, Repository};
use crate::process::Invocation;
use crate::setup::{Need, Setup};

/// Becomes `why502 arguments…`; returns only if that fails.
pub(crate) fn run(repository: &Repository, setup: &Setup<'_>, arguments: &[String]) -> Result<u8> {
    let why502 = build(repository, setup, &release())?;
    Err(Invocation::new(why502).args(arguments).for_root().exec())
}

/// The lab's demonstration; its exit code is ours.
pub(crate) fn demo(repository: &Repository, setup: &Setup<'_>, arguments: &[String]) -> Result<u8> {
    setup.ensure(&[Need::Ebpf, Need::Lab])?;
    let why502 = build(repository, setup, &release())?;
    let lab = Invocation::new(build_lab(repository, setup, None)?);
    Err(lab.args(["demo", "--why502"]).arg(why502).args(arguments).for_root().exec())
}

/// Builds the lab, for `target` or for this machine, and returns its path.
pub(crate) fn build_lab(repository: &Repository, setup: &Setup<'_>, target: Option<&str>) -> Result<PathBuf> {
    build_binary(repository, setup, "lab", "lab", Profile::Release, target)
}

pub(crate) fn release() -> BuildOptions {
    BuildOptions { release: true, ..BuildOptions::default() }
}
