//! The compiler for the eBPF crate: a nightly of rustup's with the library's source, else Debian's.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::{Installed, Privilege, Setup, apt};
use crate::arch::Arch;
use crate::archive::Unavailable;
use crate::process::{Invocation, which};
use crate::toolchain::{EbpfToolchain, PINNED, musl_compiler};

const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The compiler, or `None` if it is missing and may not be installed.
pub(super) fn ensure(setup: &Setup<'_>) -> Result<Option<EbpfToolchain>> {
    if let Some(found) = EbpfToolchain::find() {
        return Ok(Some(found));
    }
    if which("rustup").is_some() {
        if let Some(outcome) = from_rustup(setup)? {
            return Ok(outcome);
        }
        eprintln!("setup: rustup cannot give a nightly with rust-src; falling back to Debian's compiler");
    }
    apt::ensure(setup, "a compiler for the eBPF crate, as rustup has none", &DEBIAN)?;
    if !setup.missing.borrow().is_empty() {
        return Ok(None);
    }
    EbpfToolchain::find()
        .context("Debian's rustc-web is installed, but rustc or its library source is not found")
        .map(Some)
}

/// The outer `None`: rustup could not. The inner one: it may not.
fn from_rustup(setup: &Setup<'_>) -> Result<Option<Option<EbpfToolchain>>> {
    let why = format!("{PINNED} with rust-src (the BPF target's `core` is compiled from source), by rustup");
    match setup.install(&why, Privilege::User, &[toolchain_install(PINNED)]) {
        Ok(Installed::No) => return Ok(Some(None)),
        Ok(Installed::Now) => return Ok(EbpfToolchain::find().map(Some)),
        Err(error) => eprintln!("setup: {error:#}; trying the nightly of today"),
    }
    if let Err(error) =
        setup.install("nightly with rust-src, by rustup", Privilege::User, &[toolchain_install("nightly")])
    {
        eprintln!("setup: {error:#}");
    }
    Ok(EbpfToolchain::find_any().map(Some))
}

fn toolchain_install(name: &str) -> Invocation {
    Invocation::new("rustup").args(["toolchain", "install", name, "--profile", "minimal"]).args([
        "--component",
        "rust-src",
        "--component",
        "clippy",
        "--no-self-update",
    ])
}

/// The standard library for `target`, and a C compiler for what is C among the dependencies.
pub(super) fn ensure_target(setup: &Setup<'_>, target: &str) -> Result<()> {
    let installed = Invocation::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    if !installed.is_ok_and(|directory| Path::new(directory.trim()).is_dir()) {
        let unavailable = Unavailable("Rust's standard library for another target");
        if which("rustup").is_none() {
            return Err(anyhow!("there is none for {target}, and no rustup to install it").context(unavailable));
        }
        let command = Invocation::new("rustup").args(["target", "add", target]);
        let why = format!("the standard library for {target}, by rustup");
        setup.install(&why, Privilege::User, &[command]).context(unavailable)?;
    }
    let Some(compiler) = musl_compiler(target) else { return Ok(()) };
    if which(&compiler).is_some() {
        return Ok(());
    }
    let arch = Arch::of_target(Some(target))?;
    let (package, headers) = if arch == Arch::HOST {
        ("gcc".to_owned(), "libc6-dev".to_owned())
    } else {
        (format!("gcc-{}-linux-gnu", arch.name().replace('_', "-")), format!("libc6-dev-{}-cross", arch.debian()))
    };
    let why = format!("to compile the C parts of the dependencies for {}", arch.name());
    apt::ensure(setup, &why, &[&package, &headers])
}
