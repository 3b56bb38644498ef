//! Debian packages: which are installed, and installing the others.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Installed, Privilege, Setup};
use crate::process::{Invocation, is_root, which};

/// Installs those of `packages` that are missing, because of `why`.
pub(super) fn ensure(setup: &Setup<'_>, why: &str, packages: &[&str]) -> Result<()> {
    install(setup, why, packages).map(|_| ())
}

/// The same; tells which packages were installed just now.
pub(super) fn install<'p>(setup: &Setup<'_>, why: &str, packages: &[&'p str]) -> Result<Vec<&'p str>> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(missing);
    }
    if which("apt-get").is_none() {
        bail!("{why}, this needs what Debian calls {}, and there is no apt-get here to install it", missing.join(", "));
    }
    let why = format!("Debian packages {} ({why})", missing.join(", "));
    let install = apt_get().args(["install", "-y", "--no-install-recommends", "--no-remove"]).args(missing.clone());
    let fresh = missing.iter().all(|package| has_candidate(package));
    let commands = if fresh { vec![install.clone()] } else { vec![update(), install.clone()] };
    let done = match setup.install(&why, Privilege::Root, &commands) {
        Ok(done) => done,
        Err(_) if fresh => {
            eprintln!("setup: the package lists may be out of date: once more with new ones");
            setup.install(&why, Privilege::Root, &[update(), install])?
        }
        Err(error) => return Err(error),
    };
    Ok(if done == Installed::Now { missing } else { Vec::new() })
}

/// Stops a service that a package has just started; `otherwise` does it where there is no systemd.
pub(super) fn stop(service: &str, otherwise: &Invocation) -> Result<()> {
    if Path::new("/run/systemd/system").is_dir() && which("systemctl").is_some() {
        eprintln!("setup: it stays enabled at boot; `systemctl disable {service}` changes that");
        return Invocation::new("systemctl").args(["stop", service]).run();
    }
    otherwise.run()
}

/// Those of `packages` that are not installed. One question for all of them, to be quick.
fn missing<'p>(packages: &[&'p str]) -> Vec<&'p str> {
    // dpkg-query fails if it does not know one of them, but still lists the others.
    let query = Invocation::new("sh").args([
        "-c",
        r#"dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null; true"#,
        "dpkg-query",
    ]);
    let listed = query.args(packages.iter().copied()).output().unwrap_or_default();
    let installed = |package: &str| listed.lines().any(|line| line == format!("{package} installed"));
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Whether apt's lists know a version of it that can be installed.
fn has_candidate(package: &str) -> bool {
    Invocation::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output().is_ok_and(|policy| {
        policy.lines().any(|line| line.trim().starts_with("Candidate: ") && !line.contains("(none)"))
    })
}

/// New package lists if apt does not know `package`.
pub(super) fn refresh_if_unknown(package: &str) -> Result<()> {
    if has_candidate(package) {
        return Ok(());
    }
    if !is_root() {
        bail!("apt does not know {package}, and fetching its lists takes root: {}", update().for_root());
    }
    update().run()
}

fn update() -> Invocation {
    apt_get().arg("update")
}

pub(super) fn apt_get() -> Invocation {
    Invocation::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=120"])
}
