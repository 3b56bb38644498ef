//! The compilers: which one can build the eBPF crate, and how to call it.
//!
//! The BPF target has no prebuilt `core`, so the compiler must be allowed `-Z build-std` and have the library's source.
//! This module only looks; `setup` installs.

use std::env;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{Invocation, which};

/// The nightly that the eBPF crate is known to build with, and the LLVM in it.
pub(crate) const PINNED: &str = "nightly-2026-05-20";
pub(crate) const PINNED_LLVM: u32 = 22;

/// What bpf-linker 0.13 can be built against; older compilers also do not know the edition.
const LINKABLE_LLVM: RangeInclusive<u32> = 21..=23;

/// A compiler for the eBPF crate.
#[derive(Clone, Debug)]
pub(crate) struct EbpfToolchain {
    origin: Origin,
    /// bpf-linker must be built with the same major version.
    pub(crate) llvm: u32,
    sysroot: PathBuf,
}

#[derive(Clone, Debug)]
enum Origin {
    /// A toolchain of rustup's, by name.
    Rustup(String),
    /// Debian's `rustc-web`, a stable release told to accept unstable options.
    Debian,
}

impl EbpfToolchain {
    /// The first usable one of: the pinned nightly, the plain nightly if its LLVM is the pinned one's, Debian's.
    pub(crate) fn find() -> Option<Self> {
        let plain = || Self::rustup("nightly").filter(|found| found.llvm == PINNED_LLVM);
        [Self::rustup(PINNED), plain(), Self::debian()].into_iter().flatten().find(Self::is_usable)
    }

    /// Where no pinned nightly can be had: the plain one, whatever its LLVM.
    pub(crate) fn find_any() -> Option<Self> {
        Self::find().or_else(|| Self::rustup("nightly").filter(Self::is_usable))
    }

    fn rustup(name: &str) -> Option<Self> {
        let rustc = Invocation::new("rustup").args(["run", name, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
        Self::ask(Origin::Rustup(name.into()), &rustc).ok()
    }

    fn debian() -> Option<Self> {
        let rustc = Path::new("/usr/bin/rustc");
        if !rustc.exists() || !Path::new("/usr/bin/cargo").exists() {
            return None;
        }
        Self::ask(Origin::Debian, &Invocation::new(rustc)).ok()
    }

    fn ask(origin: Origin, rustc: &Invocation) -> Result<Self> {
        let verbose = rustc.clone().arg("-vV").output()?;
        let sysroot = rustc.clone().args(["--print", "sysroot"]).output()?;
        Ok(Self { origin, llvm: llvm_major(&verbose)?, sysroot: sysroot.trim().into() })
    }

    fn is_usable(&self) -> bool {
        LINKABLE_LLVM.contains(&self.llvm) && self.sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
    }

    pub(crate) fn has_clippy(&self) -> bool {
        self.sysroot.join("bin/cargo-clippy").exists()
    }

    pub(crate) fn name(&self) -> &str {
        match &self.origin {
            Origin::Rustup(name) => name,
            Origin::Debian => "Debian's rustc",
        }
    }

    /// rustup's name of it, if it is rustup's.
    pub(crate) fn rustup_name(&self) -> Option<&str> {
        match &self.origin {
            Origin::Rustup(name) => Some(name),
            Origin::Debian => None,
        }
    }

    pub(crate) fn cargo(&self) -> Invocation {
        match &self.origin {
            Origin::Rustup(name) => Invocation::new("rustup").args(["run", name, "cargo"]),
            Origin::Debian => {
                Invocation::new("/usr/bin/cargo").env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1")
            }
        }
    }
}

/// cargo for user space: the toolchain that `cargo xtask` itself was started with.
pub(crate) fn host_cargo() -> Invocation {
    Invocation::new("cargo")
}

/// The C compiler to set for a musl target; none where the usual choice works: for other targets, where there is a
/// musl compiler, and where the user has named one.
pub(crate) fn musl_compiler(target: &str) -> Option<String> {
    let arch = target.strip_suffix("-unknown-linux-musl")?;
    let chosen = env::var_os(format!("CC_{}", target.replace('-', "_"))).is_some();
    let musl = which(&format!("{arch}-linux-musl-gcc")).is_some();
    (!chosen && !musl).then(|| format!("{arch}-linux-gnu-gcc"))
}

fn llvm_major(verbose: &str) -> Result<u32> {
    let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next()).context("rustc -vV names no LLVM version")?;
    major.trim().parse().with_context(|| format!("LLVM version `{major}`"))
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn llvm_major_is_read_from_verbose_version() {
        let verbose =
            "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_major(verbose).unwrap(), 22);
        assert!(llvm_major("rustc 1.97.0").is_err());
    }
}
