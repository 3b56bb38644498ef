//! qemu, to boot other kernels. If the system has none, Debian's packages are unpacked into `target/vm/qemu`: installing
//! them takes root and, on a machine with a newer qemu-utils, would remove that.

use std::fs;

use anyhow::{Context, Result, bail};

use super::{Setup, apt};
use crate::process::Invocation;
use crate::vm::Qemu;

const PACKAGE: &str = "qemu-system-x86";

pub(super) fn ensure(setup: &Setup<'_>) -> Result<()> {
    apt::ensure(setup, "to unpack kernel modules, and to bring interfaces up", &["xz-utils", "iproute2"])?;
    if Qemu::find(setup.repository).is_some() {
        return Ok(());
    }
    let why = format!("{PACKAGE} and the libraries it needs, unpacked into target/vm/qemu to boot other kernels");
    let instead = format!("apt-get install --no-install-recommends {PACKAGE}");
    if !setup.offer(&why, &instead) {
        return Ok(());
    }
    apt::refresh_if_unknown(PACKAGE)?;
    let root = setup.repository.private_qemu();
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
        .args(["--no-install-recommends", "--download-only", "install", PACKAGE])
        .run()?;
    for entry in fs::read_dir(&packages).with_context(|| format!("reading {}", packages.display()))? {
        let package = entry.with_context(|| format!("reading {}", packages.display()))?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            Invocation::new("dpkg-deb").arg("-x").arg(package).arg(&root).output()?;
        }
    }
    fs::remove_dir_all(&packages).with_context(|| format!("removing {}", packages.display()))?;
    if Qemu::find(setup.repository).is_none() {
        bail!("the qemu unpacked into {} does not start; instead: {instead}", root.display());
    }
    Ok(())
}
