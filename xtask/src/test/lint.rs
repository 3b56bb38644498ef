//! Format and lints: one test each.

use anyhow::Result;

use super::{Outcome, Report};
use crate::arch::Arch;
use crate::build::ebpf_cargo;
use crate::paths::Repository;
use crate::process::Invocation;
use crate::setup::Setup;
use crate::toolchain::host_cargo;

pub(super) fn steps(report: &mut Report, repository: &Repository, setup: &Setup<'_>) {
    let cargo = || host_cargo().current_dir(&repository.root);
    report.step("format", || verdict(&cargo().args(["fmt", "--all", "--check"])));
    report.step("lints, user space", || {
        let clippy = cargo().args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"]);
        verdict(&clippy.args(["--", "-Dwarnings"]))
    });
    report.step("lints, eBPF", || {
        let toolchain = setup.ebpf_toolchain()?;
        if !toolchain.has_clippy() {
            let remedy =
                toolchain.rustup_name().map(|name| format!(": rustup component add clippy --toolchain {name}"));
            return Ok(Outcome::skipped(format!("{} has no clippy{}", toolchain.name(), remedy.unwrap_or_default())));
        }
        let clippy = ebpf_cargo(repository, &toolchain, Arch::HOST, "clippy");
        verdict(&clippy.args(["--release", "--", "-Dwarnings"]))
    });
}

fn verdict(command: &Invocation) -> Result<Outcome> {
    let status = command.status()?;
    Ok(if status.success() { Outcome::passed() } else { Outcome::failed(status.to_string()) })
}
