//! Lines taken as nginx writes them: the hooks at the write paths, attached when the first process needs them.

use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData},
};

use super::{load::Tried, plan::Planned, table::Way};

/// How lines are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    /// Nobody needed it.
    #[default]
    Unwanted,
    /// By these hooks.
    By(String),
    /// Not on this kernel, and why.
    Impossible(String),
}

impl Hearing {
    /// The hooks that are attached.
    pub fn hook(&self) -> Option<&str> {
        match self {
            Self::By(hook) => Some(hook),
            _ => None,
        }
    }

    /// Why there are none, where they were needed.
    pub fn impossible(&self) -> Option<&str> {
        match self {
            Self::Impossible(why) => Some(why),
            _ => None,
        }
    }
}

/// The hooks, and whose lines they take.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) hearing: Hearing,
    writers: HashMap<MapData, u32, u8>,
    tried: Tried,
}

impl Lines {
    /// Loads the programs; nothing is attached before it is needed.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, writers: HashMap<MapData, u32, u8>, planned: &Planned) -> Self {
        Self { hearing: Hearing::default(), writers, tried: Tried::load(ebpf, btf, planned) }
    }

    /// Takes the lines of this process from now on; false: that is not possible here.
    pub(super) fn hear(&mut self, ebpf: &mut Ebpf, pid: u32) -> bool {
        if self.hearing == Hearing::Unwanted {
            self.tried.attach(ebpf, None);
            self.hearing = match self.tried.way() {
                Some(way) => Hearing::By(way.names()),
                None => Hearing::Impossible(self.tried.reasons.join("; ")),
            };
        }
        matches!(self.hearing, Hearing::By(_)) && self.writers.insert(pid, 1, 0).is_ok()
    }

    /// The way in use, or about to be.
    pub(super) const fn way(&self) -> Option<&'static Way> {
        self.tried.way()
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        let _ = self.writers.remove(&pid);
    }
}
