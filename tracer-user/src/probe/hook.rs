//! One kernel program and the place it goes to.

use tracer_common::loss::Program;

use crate::kernel::prototype::{Argument, Arity};

/// How a program gets to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A tracepoint, whose arguments the verifier knows the types of.
    TpBtf,
    /// A tracepoint.
    RawTp,
    /// The entry of a function, through ftrace.
    Fentry,
    /// Its return.
    Fexit,
    /// The entry of a function, through a breakpoint.
    Kprobe,
    /// Its return.
    Kretprobe,
}

impl Kind {
    /// As in `hook` of an observation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
        }
    }

    pub const fn is_tracepoint(self) -> bool {
        matches!(self, Self::TpBtf | Self::RawTp)
    }

    /// What the kernel must be able to do for it.
    pub const fn needs(self) -> Option<Facility> {
        match self {
            Self::TpBtf | Self::RawTp => None,
            Self::Fentry | Self::Fexit => Some(Facility::Fentry),
            Self::Kprobe | Self::Kretprobe => Some(Facility::Kprobe),
        }
    }

    pub const fn arity(self) -> Arity {
        if matches!(self, Self::Fexit) { Arity::Exactly } else { Arity::AtLeast }
    }
}

/// What not every kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facility {
    Fentry,
    Kprobe,
}

impl Facility {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

/// A facility that is not used, whatever the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Avoided {
    NoFentry,
    NoKprobe,
}

impl Avoided {
    pub const fn facility(self) -> Facility {
        match self {
            Self::NoFentry => Facility::Fentry,
            Self::NoKprobe => Facility::Kprobe,
        }
    }
}

/// A program of the object and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub program: Program,
    pub kind: Kind,
    /// As records have it: `fentry/unix_release_sock`.
    pub name: &'static str,
    /// The program's name in the eBPF object.
    pub symbol: &'static str,
    /// What the place is called with, as far as the program reads it.
    pub arguments: &'static [Argument],
}

impl Hook {
    /// The tracepoint or function.
    pub const fn place(&self) -> &'static str {
        self.program.hook()
    }
}
