//! `build`: the eBPF object, then the `why502` binary with the object inside.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::cli::BuildOptions;
use crate::paths::{Profile, Repository};
use crate::process::Invocation;
use crate::setup::Setup;
use crate::toolchain::{EbpfToolchain, host_cargo, musl_compiler};

const BPF_TARGET: &str = "bpfel-unknown-none";
const EBPF_BINARY: &str = "why502-ebpf";

/// Builds what `options` say, and returns the path of `why502` (of the object, with `ebpf_only`).
pub(crate) fn build(repository: &Repository, setup: &Setup<'_>, options: &BuildOptions) -> Result<PathBuf> {
    let toolchain = setup.ebpf_toolchain()?;
    let target = options.target.as_deref();
    let arch = Arch::of_target(target)?;
    let object = build_ebpf(repository, &toolchain, arch)?;
    if options.ebpf_only {
        return Ok(object);
    }
    let profile = if options.release { Profile::Release } else { Profile::Debug };
    build_binary(repository, setup, "tracer-user", "why502", profile, target)
}

/// Builds a binary of user space, for `target` or for this machine, and returns its path.
pub(crate) fn build_binary(
    repository: &Repository,
    setup: &Setup<'_>,
    package: &str,
    name: &str,
    profile: Profile,
    target: Option<&str>,
) -> Result<PathBuf> {
    let cargo = host_cargo().current_dir(&repository.root).args(["build", "--package", package, "--bin", name]);
    let cargo = match profile {
        Profile::Release => cargo.arg("--release"),
        Profile::Debug => cargo,
    };
    let cargo = match target {
        Some(triple) => {
            setup.ensure_target(triple)?;
            cross(cargo, triple).args(["--target", triple])
        }
        None => cargo,
    };
    cargo.run().with_context(|| format!("building {name}"))?;
    Ok(repository.binary(name, profile, target))
}

/// Compiles the eBPF crate for machines of `arch` and puts the object where tracer-user/build.rs looks for it.
fn build_ebpf(repository: &Repository, toolchain: &EbpfToolchain, arch: Arch) -> Result<PathBuf> {
    ebpf_cargo(repository, toolchain, arch, "build").arg("--release").run().context("building the eBPF programs")?;
    let built = repository.ebpf_build(arch).join(BPF_TARGET).join("release").join(EBPF_BINARY);
    let object = repository.ebpf_object(arch);
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// `cargo COMMAND` for the eBPF crate with everything its target needs.
pub(crate) fn ebpf_cargo(repository: &Repository, toolchain: &EbpfToolchain, arch: Arch, command: &str) -> Invocation {
    let flags = format!("-Cdebuginfo=2 -Clink-arg=--btf --cfg=bpf_target_arch=\"{}\"", arch.name());
    toolchain
        .cargo()
        .current_dir(&repository.root)
        .args([command, "--package", "tracer-ebpf", "--target", BPF_TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(repository.relative(&repository.ebpf_build(arch)))
        .env("RUSTFLAGS", flags)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", repository.bpf_linker())
}

/// An unchanged object keeps its time, so that user space is not rebuilt for nothing.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let directory = to.parent().context("the object has a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    // Whole or not at all: a build in another terminal may be reading it.
    let partial = to.with_extension("o.partial");
    fs::write(&partial, new).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("renaming to {}", to.display()))
}

/// The linker and C compiler for `triple`, where they are not the usual ones.
fn cross(cargo: Invocation, triple: &str) -> Invocation {
    if !triple.ends_with("-unknown-linux-musl") {
        return cargo;
    }
    let name = triple.replace('-', "_");
    let linker = format!("CARGO_TARGET_{}_LINKER", name.to_uppercase());
    // rustc's own linker and start files are enough for musl; no cross gcc is needed to link.
    let cargo = if env::var_os(&linker).is_none() { cargo.env(linker, "rust-lld") } else { cargo };
    match musl_compiler(triple) {
        // glibc's compiler does for musl as long as it makes no calls that only glibc has.
        Some(compiler) => cargo
            .env(format!("CC_{name}"), compiler)
            .env(format!("CFLAGS_{name}"), "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 -fno-stack-protector"),
        None => cargo,
    }
}
