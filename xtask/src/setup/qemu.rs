//! qemu, to boot other kernels. If the system has none, Debian's packages are unpacked into `target/vm`: installing
//! them takes root and, on a machine with a newer qemu-utils, would remove that.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{Setup, apt};
use crate::arch::Arch;
use crate::process::Invocation;
use crate::vm::Qemu;

/// Debian's package with the program for such machines.
fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86",
        Arch::Aarch64 => "qemu-system-arm",
    }
}

pub(super) fn ensure(setup: &Setup<'_>, arch: Arch) -> Result<()> {
    apt::ensure(setup, "to unpack kernel modules, and to bring interfaces up", &["xz-utils", "iproute2"])?;
    if Qemu::find(setup.repository, arch).is_some() {
        return Ok(());
    }
    let package = package(arch);
    let why = format!("{package} and the libraries it needs, unpacked into target/vm to boot other kernels");
    let instead = format!("apt-get install --no-install-recommends {package}");
    if !setup.offer(&why, &instead) {
        return Ok(());
    }
    apt::refresh_if_unknown(package)?;
    let root = setup.repository.private_qemu(arch);
    let packages = setup.repository.vm().join("qemu-packages");
    for directory in [&root, &packages] {
        if directory.exists() {
            fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))?;
        }
    }
    fs::create_dir_all(packages.join("partial")).with_context(|| format!("creating {}", packages.display()))?;
    // Only downloads; what apt says it would remove or install stays as it is.
    apt::apt_get()
        .args(["-y", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o"])
        .arg(format!("Dir::Cache::Archives={}", packages.display()))
        .args(["--no-install-recommends", "--download-only", "install", package])
        .run()?;
    for entry in fs::read_dir(&packages).with_context(|| format!("reading {}", packages.display()))? {
        let file = entry.with_context(|| format!("reading {}", packages.display()))?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            Invocation::new("dpkg-deb").arg("-x").arg(file).arg(&root).output()?;
        }
    }
    fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))?;
    if Qemu::find(setup.repository, arch).is_none() {
        bail!("the qemu unpacked into {} does not start; instead: {instead}", root.display());
    }
    Ok(())
}
