//! Makes sure that what a command needs is on the machine; says what it installs and why, before it does.
//!
//! Each need is a module with one function: look, and if something is missing, hand the commands to `Setup::install`.
//! That either runs them or, where installing is forbidden or takes root, collects them for `Missing`.

mod apt;
mod bench;
mod lab;
mod linker;
mod qemu;
mod rust;
mod servers;

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File};

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::paths::Repository;
use crate::process::{Invocation, is_root};
use crate::toolchain::EbpfToolchain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Install,
    Forbid,
}

/// What a command may need beyond the Rust that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A compiler and linker for the eBPF crate.
    Ebpf,
    /// nginx and what the scenarios use around it.
    Lab,
    /// What loads nginx for the benchmark.
    Bench,
    /// qemu for such machines, and what unpacks kernels.
    Vm(Arch),
}

impl Need {
    pub(crate) const ALL: [Self; 5] =
        [Self::Ebpf, Self::Lab, Self::Bench, Self::Vm(Arch::X86_64), Self::Vm(Arch::Aarch64)];
}

#[derive(Debug)]
pub(crate) struct Setup<'a> {
    repository: &'a Repository,
    policy: Policy,
    missing: RefCell<Vec<Remedy>>,
}

/// Something is missing and was not installed: what to run instead.
#[derive(Debug)]
pub(crate) struct Missing {
    remedies: Vec<Remedy>,
    forbidden: bool,
}

#[derive(Debug)]
struct Remedy {
    why: String,
    commands: Vec<String>,
}

/// Whether a command of `install` works for an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    User,
    Root,
}

/// What became of an attempt to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installed {
    Now,
    /// Not allowed to: the commands are part of the message at the end.
    No,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(repository: &'a Repository, policy: Policy) -> Self {
        Self { repository, policy, missing: RefCell::default() }
    }

    /// All of `needs`, or an error: `Missing` if something may not be installed, others if installing failed.
    pub(crate) fn ensure(&self, needs: &[Need]) -> Result<()> {
        let _alone = self.alone()?;
        for need in needs {
            match need {
                Need::Ebpf => {
                    let toolchain = rust::ensure(self)?;
                    linker::ensure(self, toolchain.as_ref())?;
                }
                Need::Lab => lab::ensure(self)?,
                Need::Bench => bench::ensure(self)?,
                Need::Vm(arch) => qemu::ensure(self, *arch)?,
            }
        }
        self.complete()
    }

    /// One at a time: commands that run side by side would unpack into the same directories. Until the file is dropped.
    fn alone(&self) -> Result<File> {
        let path = self.repository.setup_lock();
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        file.lock().with_context(|| format!("locking {}", path.display()))?;
        Ok(file)
    }

    /// The tools that the benchmark compares with. It works without: what cannot be had is said.
    pub(crate) fn peers(&self) {
        let installed = bench::ensure_peers(self);
        let forbidden = self.complete();
        if let Err(error) = installed.and(forbidden) {
            eprintln!("setup: going on without the tools to compare with: {error:#}");
        }
    }

    /// The servers that some scenarios start. The others work without: what cannot be had is said.
    pub(crate) fn servers(&self) {
        let installed = servers::ensure(self);
        let forbidden = self.complete();
        if let Err(error) = installed.and(forbidden) {
            eprintln!("setup: going on without servers whose scenarios are skipped then: {error:#}");
        }
    }

    /// The compiler for the eBPF crate, with its linker.
    pub(crate) fn ebpf_toolchain(&self) -> Result<EbpfToolchain> {
        let toolchain = rust::ensure(self)?;
        linker::ensure(self, toolchain.as_ref())?;
        self.complete()?;
        toolchain.ok_or_else(|| anyhow::anyhow!("no compiler for the eBPF crate, and no reason why"))
    }

    /// The standard library for `target`, to cross-compile user space.
    pub(crate) fn ensure_target(&self, target: &str) -> Result<()> {
        rust::ensure_target(self, target)?;
        self.complete()
    }

    fn complete(&self) -> Result<()> {
        let remedies = self.missing.take();
        if remedies.is_empty() {
            return Ok(());
        }
        Err(Missing { remedies, forbidden: self.policy == Policy::Forbid }.into())
    }

    fn may_install(&self, privilege: Privilege) -> bool {
        self.policy == Policy::Install && (privilege == Privilege::User || is_root())
    }

    /// Whether something may be fetched by other means than `install`. If not, `instead` is collected; if so, `why` is
    /// said.
    fn offer(&self, why: &str, instead: &str) -> bool {
        if !self.may_install(Privilege::User) {
            self.missing.borrow_mut().push(Remedy { why: why.into(), commands: vec![instead.into()] });
            return false;
        }
        eprintln!("setup: {why}");
        true
    }

    /// The same, with an error if not.
    pub(crate) fn allow(&self, why: &str, instead: &str) -> Result<()> {
        self.offer(why, instead);
        self.complete()
    }

    /// Runs `commands` in order because of `why`, or collects them.
    fn install(&self, why: &str, privilege: Privilege, commands: &[Invocation]) -> Result<Installed> {
        if !self.may_install(privilege) {
            let shown = |command: &Invocation| match privilege {
                Privilege::User => command.to_string(),
                Privilege::Root => command.clone().for_root().to_string(),
            };
            let commands = commands.iter().map(shown).collect();
            self.missing.borrow_mut().push(Remedy { why: why.into(), commands });
            return Ok(Installed::No);
        }
        eprintln!("setup: {why}");
        for command in commands {
            command.run()?;
        }
        Ok(Installed::Now)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = if self.forbidden { "--offline forbids installing" } else { "installing takes root" };
        writeln!(formatter, "xtask: something is missing, and {reason}. Run this, then try again:")?;
        for Remedy { why, commands } in &self.remedies {
            write!(formatter, "\n  # {why}")?;
            for command in commands {
                write!(formatter, "\n  {command}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// The reason in one line, for a list of skipped tests.
    pub(crate) fn summary(&self) -> String {
        let why: Vec<&str> = self.remedies.iter().map(|remedy| remedy.why.as_str()).collect();
        let reason = if self.forbidden { "--offline forbids it" } else { "it takes root" };
        format!("not installed ({reason}): {}", why.join("; "))
    }
}
