//! Processors: what Rust, Debian and qemu call each, and which one this is.

use std::env;

use anyhow::{Result, bail};

/// A processor that why502 runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this program was compiled for.
    pub(crate) const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// Of a target triple; of this machine without one.
    pub(crate) fn of_target(triple: Option<&str>) -> Result<Self> {
        let name = triple.map_or(env::consts::ARCH, |triple| triple.split('-').next().unwrap_or(triple));
        match Self::ALL.into_iter().find(|arch| arch.name() == name) {
            Some(arch) => Ok(arch),
            None => bail!("why502 does not know {name}: it runs on {}", Self::ALL.map(Self::name).join(" and ")),
        }
    }

    /// As Rust's triples and qemu's programs have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian's packages have it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What to compile for where it is not this machine's: static, so that it needs nothing of the other's libraries.
    pub(crate) fn foreign_target(self) -> Option<&'static str> {
        match self {
            host if host == Self::HOST => None,
            Self::X86_64 => Some("x86_64-unknown-linux-musl"),
            Self::Aarch64 => Some("aarch64-unknown-linux-musl"),
        }
    }

    /// The name of a directory with things for this processor: `name` where it is this machine's.
    pub(crate) fn tagged(self, name: &str) -> String {
        if self == Self::HOST { name.to_owned() } else { format!("{name}-{}", self.name()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Arch;

    #[test]
    fn a_target_begins_with_its_processor() {
        assert_eq!(Arch::of_target(Some("aarch64-unknown-linux-musl")).unwrap(), Arch::Aarch64);
        assert_eq!(Arch::of_target(Some("x86_64-unknown-linux-gnu")).unwrap(), Arch::X86_64);
        assert_eq!(Arch::of_target(None).unwrap(), Arch::HOST);
        for unknown in ["", "-", "aarch64_be-unknown-linux-gnu", "riscv64gc-unknown-linux-gnu"] {
            assert!(Arch::of_target(Some(unknown)).is_err(), "{unknown}");
        }
    }

    #[test]
    fn what_is_compiled_for_another_machine_is_for_that_machine() {
        for arch in Arch::ALL {
            assert_eq!(Arch::of_target(arch.foreign_target()).unwrap(), arch);
            assert_eq!(arch.tagged("x") == "x", arch == Arch::HOST);
        }
    }
}
