//! Kernels: Debian's cloud kernels by version, kept in `target/vm/kernel`, or an image by path.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::archive::{Archive, Unavailable};
use crate::nginx;
use crate::paths::Repository;
use crate::process::Invocation;
use crate::setup::Setup;

/// A kernel version to test on, and where Debian has it.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) name: &'static str,
    pub(crate) arch: Arch,
    suite: &'static str,
    /// What the package's name begins with.
    package: &'static str,
}

pub(crate) const RELEASES: [Release; 5] = [
    Release { name: "5.10", arch: Arch::X86_64, suite: "bullseye", package: "linux-image-5.10." },
    Release { name: "6.1", arch: Arch::X86_64, suite: "bookworm", package: "linux-image-6.1." },
    Release { name: "6.12", arch: Arch::X86_64, suite: "trixie", package: "linux-image-6.12." },
    // From 7 on the image and its modules are packages of their own.
    Release { name: "7.2", arch: Arch::X86_64, suite: "sid", package: "linux-binary-7.2." },
    Release { name: "6.12-arm64", arch: Arch::Aarch64, suite: "trixie", package: "linux-image-6.12." },
];

/// What the machine that boots it must have.
pub(crate) fn arch_of(name: &str) -> Result<Arch> {
    Ok(Release::named(name)?.map_or(Arch::HOST, |release| release.arch))
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) name: String,
    /// Where Debian has it; None: an image by path, which is for this machine's processor.
    pub(super) release: Option<&'static Release>,
    pub(super) image: PathBuf,
    /// The directory `lib/modules/VERSION`, if there is one.
    pub(super) modules: Option<PathBuf>,
}

impl Kernel {
    /// By version, fetched if needed, or by the path of an image.
    pub(super) fn obtain(repository: &Repository, setup: &Setup<'_>, name: &str) -> Result<Self> {
        let Some(release) = Release::named(name)? else {
            let image = Path::new(name).canonicalize().with_context(|| format!("kernel {name}"))?;
            return Ok(Self { name: name.into(), release: None, image, modules: None });
        };
        let directory = repository.vm().join("kernel").join(name);
        if !directory.is_dir() {
            let Release { suite, arch, .. } = release;
            let debian = arch.debian();
            let why =
                format!("kernel {name} from Debian {suite} {debian}, unpacked into target/vm (nothing is installed)");
            setup.allow(&why, &format!("cargo xtask vm --kernel {name} -- true"))?;
            release.fetch(repository, &directory).context(Unavailable("the kernel"))?;
        }
        Self::unpacked(release, &directory)
    }

    /// What the machine that it boots must have.
    pub(super) fn arch(&self) -> Arch {
        self.release.map_or(Arch::HOST, |release| release.arch)
    }

    fn unpacked(release: &'static Release, directory: &Path) -> Result<Self> {
        // Old packages keep modules in /lib, newer ones in /usr/lib.
        let modules = ["lib/modules", "usr/lib/modules"]
            .iter()
            .flat_map(|tree| entries(&directory.join(tree)))
            .find(|modules| modules.join("kernel").is_dir());
        let beside = modules.iter().map(|modules| modules.join("vmlinuz")).filter(|image| image.exists());
        let image = entries(&directory.join("boot"))
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
            .chain(beside)
            .next()
            .with_context(|| format!("no kernel image in {0}; remove it to fetch it again", directory.display()))?;
        Ok(Self { name: release.name.into(), release: Some(release), image, modules })
    }
}

impl Release {
    /// By its name; None: that is the path of an image.
    fn named(name: &str) -> Result<Option<&'static Self>> {
        if name.contains('/') || Path::new(name).is_file() {
            return Ok(None);
        }
        let Some(release) = RELEASES.iter().find(|release| release.name == name) else {
            let known = RELEASES.map(|release| release.name).join(", ");
            bail!("no kernel {name}: known are {known}; any other by the path of its image");
        };
        Ok(Some(release))
    }

    /// The nginx that Debian has beside it.
    pub(super) fn nginx(&self) -> Result<&'static nginx::Release> {
        nginx::Release::of_suite(self.suite)
    }

    /// The newest package of this version, unpacked into `directory`; whole or not at all.
    fn fetch(&self, repository: &Repository, directory: &Path) -> Result<()> {
        let Self { name, arch, suite, package } = self;
        let lists = repository.vm().join("apt").join(name);
        let archive = Archive::open(&lists, suite, *arch)?;
        let flavour = format!("-cloud-{}", arch.debian());
        let mut candidates = archive.packages(package)?;
        candidates.retain(|candidate| candidate.ends_with(&flavour));
        candidates.sort_by(|one, other| natural(one, other));
        let image = candidates.last().with_context(|| format!("Debian {suite} has no {package}*{flavour} any more"))?;
        let mut packages = vec![image.clone()];
        if let Some(version) = image.strip_prefix("linux-binary-") {
            packages.push(format!("linux-modules-{version}"));
        }
        let parent = directory.parent().context("kernels have a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let partial = parent.join(format!("{name}-partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
        }
        for package in archive.download(&packages)? {
            Invocation::new("dpkg-deb").arg("-x").arg(&package).arg(&partial).run()?;
            fs::remove_file(&package).with_context(|| format!("removing {}", package.display()))?;
        }
        fs::remove_dir_all(&lists).with_context(|| format!("removing {}", lists.display()))?;
        fs::rename(&partial, directory).with_context(|| format!("renaming to {}", directory.display()))
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Compares runs of digits as numbers, the rest as text.
fn natural(one: &str, other: &str) -> Ordering {
    parts(one).cmp(&parts(other))
}

fn parts(text: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = Vec::new();
    let mut digits = false;
    for character in text.chars() {
        let is_digit = character.is_ascii_digit();
        if parts.is_empty() || (is_digit && !digits) {
            parts.push((0, String::new()));
        }
        if let Some((number, words)) = parts.last_mut() {
            match character.to_digit(10) {
                Some(digit) => *number = number.saturating_mul(10).saturating_add(digit.into()),
                None => words.push(character),
            }
        }
        digits = is_digit;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn the_newest_package_sorts_last() {
        for (older, newer) in [
            ("linux-image-5.10.0-9-cloud-amd64", "linux-image-5.10.0-32-cloud-amd64"),
            ("linux-image-6.12.94+deb13-cloud-amd64", "linux-image-6.12.107+deb13-cloud-amd64"),
        ] {
            assert!(natural(older, newer).is_lt(), "{older} {newer}");
        }
    }
}
