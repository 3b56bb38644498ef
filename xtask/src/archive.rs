//! A suite of Debian's archive beside the machine's own: private lists and cache, the machine's mirror, Debian's
//! signatures. Nothing here changes what is installed or configured.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::process::Invocation;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive does not have something, or cannot be reached: nothing that a test could be blamed for.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) &'static str);

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} cannot be fetched", self.0)
    }
}

#[derive(Debug)]
pub(crate) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Fetches the lists of `suite` for machines of `arch` into `directory`.
    pub(crate) fn open(directory: &Path, suite: &str, arch: Arch) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!(
                "{KEYRING} is missing, without which no download can be trusted: apt-get install debian-archive-keyring"
            );
        }
        let archive = Self { directory: directory.into() };
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let mirror = mirror()?;
        // Only package lists: the machine may be configured to want more.
        let source = format!("deb [signed-by={KEYRING} target=Packages] {mirror} {suite} main\n");
        fs::write(directory.join("sources.list"), source).context("writing the private sources.list")?;
        archive.configure(arch)?;
        archive.apt("apt-get").args(["-qq", "update"]).run().with_context(|| format!("the lists of Debian {suite}"))?;
        Ok(archive)
    }

    /// The names of packages that begin with `prefix`.
    pub(crate) fn packages(&self, prefix: &str) -> Result<Vec<String>> {
        let names = self.apt("apt-cache").args(["pkgnames", prefix]).output()?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Downloads `packages`; they are verified against the signed lists.
    pub(crate) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let directory = self.directory.join("cache/archives");
        self.apt("apt-get").args(["-qq", "download"]).args(packages).current_dir(&directory).run()?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if packages.iter().any(|package| file.starts_with(&format!("{package}_"))) {
                files.push(path);
            }
        }
        if files.len() != packages.len() {
            bail!("asked apt for {} packages, found {} in {}", packages.len(), files.len(), directory.display());
        }
        Ok(files)
    }

    /// Downloads `packages` and all that they depend on, whatever this machine has installed.
    pub(crate) fn download_whole(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = ["-qq", "--yes", "--no-install-recommends", "--download-only", "install"];
        self.apt("apt-get").args(install).args(packages).run()?;
        let directory = self.directory.join("cache/archives");
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn apt(&self, program: &str) -> Invocation {
        Invocation::new(program).env("APT_CONFIG", self.directory.join("apt.conf"))
    }

    /// What makes apt leave the machine's own lists, cache and locks alone. Proxies and the like stay as configured.
    fn configure(&self, arch: Arch) -> Result<()> {
        let path = |name: &str| self.directory.join(name).display().to_string();
        // For apt nothing is installed here.
        fs::write(path("status"), "").context("writing the private status")?;
        let settings = [
            ("APT::Architecture", arch.debian().into()),
            ("APT::Architectures", arch.debian().into()),
            ("Dir::State::Status", path("status")),
            ("Dir::Etc::SourceList", path("sources.list")),
            ("Dir::Etc::SourceParts", "/dev/null".into()),
            ("Dir::State::Lists", path("lists")),
            ("Dir::Cache", path("cache")),
            ("Acquire::Languages", "none".into()),
            ("Debug::NoLocking", "true".into()),
            ("APT::Sandbox::User", "root".into()),
        ];
        let content: String = settings.iter().map(|(name, value)| format!("{name} \"{value}\";\n")).collect();
        fs::write(path("apt.conf"), content).context("writing the private apt.conf")
    }
}

/// The archive that the machine itself uses for Debian.
fn mirror() -> Result<String> {
    let format = "$(LABEL)|$(COMPONENT)|$(REPO_URI)";
    let targets =
        Invocation::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]).output()?;
    let uri = targets.lines().find_map(|line| line.strip_prefix("Debian|main|"));
    uri.map(str::to_owned).context("apt knows no Debian archive; if it should, its lists are empty: apt-get update")
}
