//! `run` and `demo`: set up, build, and hand over to the program as root.

use anyhow::{Context, Result};

use crate::build::build;
use crate::cli::BuildOptions;
use crate::paths::{Profile, Repository};
use crate::process::Invocation;
use crate::setup::{Need, Setup};
use crate::toolchain::host_cargo;

/// Becomes `why502 arguments…`; returns only if that fails.
pub(crate) fn run(repository: &Repository, setup: &Setup<'_>, arguments: &[String]) -> Result<u8> {
    let why502 = build(repository, setup, &release())?;
    Err(Invocation::new(why502).args(arguments).for_root().exec())
}

/// The lab's demonstration; its exit code is ours.
pub(crate) fn demo(repository: &Repository, setup: &Setup<'_>, arguments: &[String]) -> Result<u8> {
    setup.ensure(&[Need::Ebpf, Need::Lab])?;
    let why502 = build(repository, setup, &release())?;
    build_lab(repository)?;
    let lab = Invocation::new(repository.binary("lab", Profile::Release, None));
    Err(lab.args(["demo", "--why502"]).arg(why502).args(arguments).for_root().exec())
}

pub(crate) fn build_lab(repository: &Repository) -> Result<()> {
    let cargo = host_cargo().current_dir(&repository.root);
    cargo.args(["build", "--release", "--package", "lab"]).run().context("building the lab")
}

pub(crate) fn release() -> BuildOptions {
    BuildOptions { release: true, ..BuildOptions::default() }
}
