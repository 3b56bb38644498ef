//! Other versions of nginx: Debian's packages with all that they need, unpacked into a root directory under
//! `target/nginx`, where the lab starts them as in a container. Nothing is installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::archive::{Archive, Unavailable};
use crate::paths::Repository;
use crate::process::{Invocation, which};
use crate::setup::Setup;

/// A version of nginx to test with, and where Debian has it.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) name: &'static str,
    suite: &'static str,
    /// The package with the program in it.
    package: &'static str,
}

pub(crate) const RELEASES: [Release; 4] = [
    // There `nginx` is a choice between packages, and nginx-light lacks modules that later ones have.
    Release { name: "1.18", suite: "bullseye", package: "nginx-core" },
    Release { name: "1.22", suite: "bookworm", package: "nginx" },
    Release { name: "1.26", suite: "trixie", package: "nginx" },
    Release { name: "1.30", suite: "sid", package: "nginx" },
];

/// The scenario of the stream module needs it.
const STREAM: &str = "libnginx-mod-stream";

/// What a virtual machine needs besides, where its programs cannot be this machine's.
const MACHINE: [&str; 3] = ["iproute2", "dash", "coreutils"];

const PROGRAM: &str = "usr/sbin/nginx";

/// Users as nginx's workers need them: base-passwd would make these files when it is installed.
const FILES: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// Links that base-files would make where a suite has everything below /usr.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

impl Release {
    /// By its name.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let known = || RELEASES.map(|release| release.name).join(", ");
        let found = RELEASES.iter().find(|release| release.name == name);
        found.with_context(|| format!("no nginx {name}: known are {}", known()))
    }

    /// The one of a suite of Debian's.
    pub(crate) fn of_suite(suite: &str) -> Result<&'static Self> {
        let found = RELEASES.iter().find(|release| release.suite == suite);
        found.with_context(|| format!("which nginx Debian {suite} has is not known here"))
    }

    /// Its root directory for machines of `arch`, fetched if needed.
    pub(crate) fn obtain(&self, repository: &Repository, setup: &Setup<'_>, arch: Arch) -> Result<PathBuf> {
        let Self { name, suite, .. } = self;
        let directory = repository.nginx().join(arch.tagged(name));
        if !directory.join(PROGRAM).is_file() {
            let debian = arch.debian();
            let why =
                format!("nginx {name} from Debian {suite} {debian}, unpacked into target/nginx (nothing is installed)");
            let instead = if arch == Arch::HOST { format!("--nginx {name}") } else { "--vm".to_owned() };
            setup.allow(&why, &format!("cargo xtask test {instead}"))?;
            self.fetch(repository, &directory, arch).context(Unavailable("nginx"))?;
        }
        Ok(directory)
    }

    /// Whole or not at all.
    fn fetch(&self, repository: &Repository, directory: &Path, arch: Arch) -> Result<()> {
        let Self { name, suite, package } = self;
        let lists = repository.nginx().join("apt").join(arch.tagged(suite));
        let archive = Archive::open(&lists, suite, arch)?;
        let partial = repository.nginx().join(format!("{}-partial", arch.tagged(name)));
        for old in [&partial, directory] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
            }
        }
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        let mut packages = vec![*package, STREAM];
        if arch != Arch::HOST {
            packages.extend(MACHINE);
        }
        let files = archive.download_whole(&packages)?;
        self.check(&files)?;
        for file in &files {
            Invocation::new("dpkg-deb").arg("-x").arg(file).arg(&partial).output()?;
        }
        complete(&partial)?;
        fs::remove_dir_all(&lists).with_context(|| format!("removing {}", lists.display()))?;
        fs::rename(&partial, directory).with_context(|| format!("renaming to {}", directory.display()))
    }

    /// That the suite still has this version: sid goes on.
    fn check(&self, files: &[PathBuf]) -> Result<()> {
        let Self { name, suite, package } = self;
        let names = files.iter().filter_map(|file| file.file_name()?.to_str());
        let version = names.filter_map(|file| file.strip_prefix(package)?.strip_prefix('_')).next();
        let version = version.with_context(|| format!("apt fetched no {package}"))?;
        if !version.starts_with(&format!("{name}.")) {
            let version = version.split('_').next().unwrap_or(version);
            bail!("Debian {suite} has nginx {version} by now, not {name}: xtask/src/nginx should name it");
        }
        Ok(())
    }
}

/// What maintainer scripts and packages that nobody depends on would add.
fn complete(root: &Path) -> Result<()> {
    for name in MERGED {
        if !root.join(name).exists() && root.join("usr").join(name).is_dir() {
            symlink(Path::new("usr").join(name), root.join(name)).with_context(|| format!("linking {name}"))?;
        }
    }
    for (file, text) in FILES {
        fs::write(root.join(file), text).with_context(|| format!("writing {file}"))?;
    }
    Ok(())
}

/// The version of the installed nginx: `1.22.1`.
pub(crate) fn installed() -> Option<String> {
    let program = which("nginx")?;
    // It answers on stderr.
    let said = Invocation::new("sh").args(["-c", "exec \"$0\" -v 2>&1"]).arg(program).output().ok()?;
    let version = said.trim().rsplit_once('/')?.1;
    Some(version.split_whitespace().next()?.to_owned())
}
