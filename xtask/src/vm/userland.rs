//! What a machine has of its own: programs of this host, or where its processor is another, Debian's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::initramfs::Image;
use super::kernel::Kernel;
use crate::arch::Arch;
use crate::paths::Repository;
use crate::process::which;
use crate::setup::Setup;

/// Programs that a machine of this host's kind has, as far as the host has them.
const PROGRAMS: [&str; 15] =
    ["sh", "cat", "ls", "env", "head", "grep", "sleep", "kill", "uname", "mount", "dmesg", "ss", "ip", "nft", "nginx"];

/// Files that those programs read.
const FILES: [&str; 9] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/nginx/mime.types",
    "/etc/nginx/fastcgi_params",
    "/etc/nginx/uwsgi_params",
    "/etc/ssl/openssl.cnf",
];

/// Where nginx loads its modules from.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";

/// Where programs are in a root directory of Debian's.
const BINARIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

#[derive(Debug)]
pub(super) enum Userland {
    Host,
    /// A root directory, the whole of it: nginx and what it needs.
    Unpacked(PathBuf),
}

impl Userland {
    /// For machines that boot `kernel`, fetched if needed.
    pub(super) fn of(repository: &Repository, setup: &Setup<'_>, kernel: &Kernel) -> Result<Self> {
        let arch = kernel.arch();
        if arch == Arch::HOST {
            return Ok(Self::Host);
        }
        let release = kernel.release.context("a kernel for another processor is one of Debian's")?;
        Ok(Self::Unpacked(release.nginx()?.obtain(repository, setup, arch)?))
    }

    /// Puts all of it into the machine.
    pub(super) fn add(&self, image: &mut Image) -> Result<()> {
        let Self::Unpacked(root) = self else { return add_host(image) };
        image.tree(root)
    }

    /// Where a program is in the machine; None: nowhere.
    pub(super) fn which(&self, program: &str) -> Option<PathBuf> {
        let Self::Unpacked(_) = self else { return which(program) };
        BINARIES.iter().map(|directory| Path::new(directory).join(program)).find(|path| self.has(path))
    }

    /// Whether the machine has a file that this host may have as well, but for another processor.
    pub(super) fn has(&self, path: &Path) -> bool {
        let Self::Unpacked(root) = self else { return false };
        path.strip_prefix("/").is_ok_and(|path| root.join(path).is_file())
    }
}

fn add_host(image: &mut Image) -> Result<()> {
    for program in PROGRAMS {
        if let Some(path) = which(program) {
            image.program(&path)?;
        }
    }
    for file in FILES.map(Path::new).into_iter().filter(|file| file.exists()) {
        image.file(file)?;
    }
    if Path::new(NGINX_MODULES).is_dir() {
        image.directory(Path::new(NGINX_MODULES))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::Userland;

    #[test]
    fn programs_are_looked_for_where_the_machine_has_them() {
        let root = std::env::temp_dir().join(format!("userland-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(root.join("usr/bin/sh"), "").unwrap();
        let unpacked = Userland::Unpacked(root.clone());
        assert_eq!(unpacked.which("sh"), Some(PathBuf::from("/usr/bin/sh")));
        assert!(unpacked.has(Path::new("/usr/bin/sh")));
        assert_eq!(unpacked.which("ls"), None);
        assert!(Userland::Host.which("ls").is_some());
        assert!(!Userland::Host.has(Path::new("/usr/bin/ls")), "the host's own is what the machine gets");
        fs::remove_dir_all(root).unwrap();
    }
}
