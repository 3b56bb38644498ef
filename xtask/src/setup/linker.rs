//! bpf-linker: built from crates.io against the compiler's LLVM, kept in `target/tools`.
//!
//! A linker of another LLVM major cannot read the compiler's bitcode, and says so in riddles; a stamp beside the
//! binary records what it was built with, so that a mismatch is found before building.

use std::fs;

use anyhow::{Context, Result};

use super::{Installed, Privilege, Setup, apt};
use crate::paths::Repository;
use crate::process::{Invocation, which};
use crate::toolchain::{EbpfToolchain, PINNED_LLVM, host_cargo};

const VERSION: &str = "0.13.0";

/// `toolchain` is `None` where it is itself still to be installed.
pub(super) fn ensure(setup: &Setup<'_>, toolchain: Option<&EbpfToolchain>) -> Result<()> {
    let llvm = toolchain.map_or(PINNED_LLVM, |toolchain| toolchain.llvm);
    let repository = setup.repository;
    let wanted = stamp(llvm);
    let binary = repository.bpf_linker();
    if binary.exists() && built_with(repository).as_deref() == Some(&wanted) && runs(repository) {
        return Ok(());
    }
    ensure_llvm(setup, llvm)?;
    let name = toolchain.map_or("the eBPF compiler", EbpfToolchain::name);
    let why = format!("bpf-linker {VERSION} for LLVM {llvm}, as in {name}, into target/tools (takes about a minute)");
    let install = host_cargo()
        .args(["install", "bpf-linker", "--version", &format!("={VERSION}"), "--locked", "--force"])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--root"])
        .arg(repository.tools())
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
    if setup.install(&why, Privilege::User, &[install])? == Installed::Now {
        fs::write(stamp_path(repository), &wanted).context("writing bpf-linker's stamp")?;
    }
    Ok(())
}

fn ensure_llvm(setup: &Setup<'_>, llvm: u32) -> Result<()> {
    let development = format!("llvm-{llvm}-dev");
    let mut packages = vec![development.as_str(), "libzstd-dev", "zlib1g-dev", "libxml2-dev"];
    if which("c++").is_none() {
        // LLVM is C++, and so is a part of its Rust bindings.
        packages.push("g++");
    }
    apt::ensure(setup, "LLVM for bpf-linker", &packages)
        .with_context(|| format!("LLVM {llvm} is needed because the compiler of the eBPF crate is built on it"))
}

fn stamp(llvm: u32) -> String {
    format!("bpf-linker {VERSION} llvm {llvm}\n")
}

fn stamp_path(repository: &Repository) -> std::path::PathBuf {
    repository.bpf_linker().with_extension("stamp")
}

/// The stamp, or what cargo recorded of its features for a binary without one.
fn built_with(repository: &Repository) -> Option<String> {
    if let Ok(stamp) = fs::read_to_string(stamp_path(repository)) {
        return Some(stamp);
    }
    let record = fs::read_to_string(repository.tools().join(".crates2.json")).ok()?;
    let entry = record.split(&format!("\"bpf-linker {VERSION} ")).nth(1)?;
    let llvm = entry.split("\"llvm-").nth(1)?.split('"').next()?.parse().ok()?;
    let stamp = stamp(llvm);
    fs::write(stamp_path(repository), &stamp).ok()?;
    Some(stamp)
}

/// A cached binary of another machine may miss the shared LLVM.
fn runs(repository: &Repository) -> bool {
    Invocation::new(repository.bpf_linker()).arg("--version").output().is_ok()
}
