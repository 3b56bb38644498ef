//! Lines taken as nginx writes them: hooks at the write paths, attached when the first process needs them.

use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData},
    programs::{FEntry, KProbe, Program, ProgramError},
};

/// A kind of hook that is not used, whatever the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Avoided {
    NoFentry,
    NoKprobe,
}

/// What the programs are attached to.
const FUNCTIONS: [&str; 2] = ["vfs_write", "__sys_sendto"];

/// How a program gets there, best first.
#[derive(Clone, Copy, Debug)]
enum Way {
    Fentry,
    Kprobe,
}

impl Way {
    const ALL: [Self; 2] = [Self::Fentry, Self::Kprobe];

    /// The programs for [`FUNCTIONS`].
    const fn symbols(self) -> [&'static str; 2] {
        match self {
            Self::Fentry => ["write_line", "send_line"],
            Self::Kprobe => ["write_line_kprobe", "send_line_kprobe"],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }

    const fn hooks(self) -> &'static str {
        match self {
            Self::Fentry => "fentry/vfs_write, fentry/__sys_sendto",
            Self::Kprobe => "kprobe/vfs_write, kprobe/__sys_sendto",
        }
    }

    fn is_avoided(self, avoided: &[Avoided]) -> bool {
        avoided.contains(match self {
            Self::Fentry => &Avoided::NoFentry,
            Self::Kprobe => &Avoided::NoKprobe,
        })
    }

    fn load(self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), ProgramError> {
        self.symbols().into_iter().zip(FUNCTIONS).try_for_each(|(symbol, function)| match self {
            Self::Fentry => program::<FEntry>(ebpf, symbol)?.load(function, btf),
            Self::Kprobe => program::<KProbe>(ebpf, symbol)?.load(),
        })
    }

    /// All of it, or nothing.
    fn attach(self, ebpf: &mut Ebpf) -> Result<(), ProgramError> {
        let attached = self.symbols().into_iter().zip(FUNCTIONS).try_for_each(|(symbol, function)| match self {
            Self::Fentry => program::<FEntry>(ebpf, symbol)?.attach().map(drop),
            Self::Kprobe => program::<KProbe>(ebpf, symbol)?.attach(function, 0).map(drop),
        });
        if attached.is_err() {
            for symbol in self.symbols() {
                let _ = match self {
                    Self::Fentry => program::<FEntry>(ebpf, symbol).and_then(FEntry::unload),
                    Self::Kprobe => program::<KProbe>(ebpf, symbol).and_then(KProbe::unload),
                };
            }
        }
        attached
    }
}

const AVOIDED: &str = "switched off by --hooks";

/// How lines are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hearing {
    /// Nobody needed it.
    #[default]
    Unwanted,
    /// By this hook.
    By(&'static str),
    /// Not on this kernel, and why.
    Impossible(String),
}

impl Hearing {
    /// The hooks that are attached.
    pub const fn hook(&self) -> Option<&'static str> {
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
    /// Whose programs are loaded.
    ways: Vec<Way>,
    /// Why the others are not.
    reasons: Vec<String>,
}

impl Lines {
    /// Loads what can be loaded; nothing is attached before it is needed.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, writers: HashMap<MapData, u32, u8>, avoided: &[Avoided]) -> Self {
        let mut lines = Self { hearing: Hearing::default(), writers, ways: Vec::new(), reasons: Vec::new() };
        for way in Way::ALL {
            if way.is_avoided(avoided) {
                lines.reasons.push(format!("{}: {AVOIDED}", way.name()));
            } else if let Err(error) = way.load(ebpf, btf) {
                lines.reasons.push(format!("{}: {}", way.name(), innermost(&error)));
            } else {
                lines.ways.push(way);
            }
        }
        lines
    }

    /// Takes the lines of this process from now on; false: that is not possible here.
    pub(super) fn hear(&mut self, ebpf: &mut Ebpf, pid: u32) -> bool {
        if self.hearing == Hearing::Unwanted {
            self.hearing = self.attach(ebpf);
        }
        matches!(self.hearing, Hearing::By(_)) && self.writers.insert(pid, 1, 0).is_ok()
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, pid: u32) {
        let _ = self.writers.remove(&pid);
    }

    /// The best that works: that a program loads does not mean that it can be attached.
    fn attach(&mut self, ebpf: &mut Ebpf) -> Hearing {
        for way in &self.ways {
            match way.attach(ebpf) {
                Ok(()) => return Hearing::By(way.hooks()),
                Err(error) => self.reasons.push(format!("{}: {}", way.name(), innermost(&error))),
            }
        }
        Hearing::Impossible(self.reasons.join("; "))
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, symbol: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(symbol).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// What the kernel said in the end; the verifier has nothing to add.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
