//! Where things are in the repository and its target directory.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Arch;

#[derive(Debug)]
pub(crate) struct Repository {
    /// The workspace root, absolute.
    pub(crate) root: PathBuf,
    /// Where cargo puts user-space artefacts: `CARGO_TARGET_DIR`, or `target` in the root.
    pub(crate) target: PathBuf,
}

impl Repository {
    pub(crate) fn find() -> Result<Self> {
        // Set by `cargo run`; a binary started by hand falls back to where it was compiled.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest.parent().context("xtask has no parent directory")?.to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => env::current_dir().context("current directory")?.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Tools and downloads stay under `target` in the root, whatever `CARGO_TARGET_DIR` says: they are worth keeping.
    fn cache(&self, name: &str) -> PathBuf {
        self.root.join("target").join(name)
    }

    /// Locked by whoever puts something there.
    pub(crate) fn setup_lock(&self) -> PathBuf {
        self.cache("setup.lock")
    }

    pub(crate) fn tools(&self) -> PathBuf {
        self.cache("tools")
    }

    pub(crate) fn bpf_linker(&self) -> PathBuf {
        self.tools().join("bin/bpf-linker")
    }

    /// What `bench` measured last.
    pub(crate) fn bench_figures(&self) -> PathBuf {
        self.cache("bench.json")
    }

    /// Kernels, qemu and machines.
    pub(crate) fn vm(&self) -> PathBuf {
        self.cache("vm")
    }

    /// Root directories of other versions of nginx.
    pub(crate) fn nginx(&self) -> PathBuf {
        self.cache("nginx")
    }

    /// What the runs of the lab came to, from the last `test`.
    pub(crate) fn results(&self) -> PathBuf {
        self.cache("lab")
    }

    pub(crate) fn private_qemu(&self, arch: Arch) -> PathBuf {
        self.vm().join(arch.tagged("qemu"))
    }

    /// cargo's target directory for the eBPF crate: its flags differ, and would rebuild everything in a shared one.
    pub(crate) fn ebpf_build(&self, arch: Arch) -> PathBuf {
        self.cache(&arch.tagged("ebpf-build"))
    }

    /// The object that tracer-user/build.rs embeds; the same names are known there.
    pub(crate) fn ebpf_object(&self, arch: Arch) -> PathBuf {
        self.cache("ebpf").join(format!("{}.o", arch.tagged("why502")))
    }

    /// A binary built by cargo for user space.
    pub(crate) fn binary(&self, name: &str, profile: Profile, target: Option<&str>) -> PathBuf {
        let base = target.map_or_else(|| self.target.clone(), |triple| self.target.join(triple));
        base.join(profile.directory()).join(name)
    }

    /// `path` as someone standing in the repository would write it.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}
