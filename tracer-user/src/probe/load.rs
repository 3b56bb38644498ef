//! Programs getting to their places, and leaving them.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use aya::{
    Btf, BtfError, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint},
};

use super::{
    hook::{Facility, Hook, Kind},
    plan::{Plan, Planned},
    table::Way,
};

/// A program at its place; dropping it takes the program away from there.
#[derive(Debug)]
pub(super) struct Attached {
    #[expect(dead_code, reason = "what counts is that it is dropped in time")]
    link: Box<dyn Any>,
}

/// The programs of an observation: loaded in the best way that can be, attached in the best that works.
#[derive(Debug)]
pub(super) struct Tried {
    /// In use, or about to be; None: no way works.
    way: Option<&'static Way>,
    /// Still to be tried, best first.
    rest: std::vec::IntoIter<Result<&'static Way, String>>,
    links: Vec<Attached>,
    /// Why better ways are not in use.
    pub(super) reasons: Vec<String>,
}

impl Tried {
    /// Loads the best way that can be loaded.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, planned: &Planned) -> Self {
        let rest = planned.ways.clone().into_iter();
        let mut tried = Self { way: None, rest, links: Vec::new(), reasons: Vec::new() };
        tried.load_next(ebpf, Some(btf));
        tried
    }

    /// Attaches the best way that works: that a program loads does not mean that it can be attached. The kernel's types are
    /// at hand at the start only; what is tried later goes without.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, btf: Option<&Btf>) {
        while let Some(way) = self.way {
            match attach(ebpf, way) {
                Ok(links) => {
                    self.links = links;
                    return;
                }
                Err(error) => {
                    self.failed(ebpf, way, &error);
                    self.load_next(ebpf, btf);
                }
            }
        }
    }

    pub(super) fn detach(&mut self) {
        self.links.clear();
    }

    /// Is attached while it is wanted. Some, once: it cannot be, and why.
    pub(super) fn keep(&mut self, ebpf: &mut Ebpf, wanted: bool) -> Option<String> {
        match (wanted, self.is_attached()) {
            (true, false) if self.way.is_some() => {
                self.attach(ebpf, None);
                // Asked again, it would fail again: there is no way left.
                self.way.is_none().then(|| self.reasons.join("; "))
            }
            (false, true) => {
                self.detach();
                None
            }
            _ => None,
        }
    }

    pub(super) const fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// The way in use, or about to be; None: none works.
    pub(super) const fn way(&self) -> Option<&'static Way> {
        self.way
    }

    fn load_next(&mut self, ebpf: &mut Ebpf, btf: Option<&Btf>) {
        self.way = None;
        while let Some(next) = self.rest.next() {
            match next {
                Ok(way) => match load(ebpf, btf, way) {
                    Ok(()) => {
                        self.way = Some(way);
                        return;
                    }
                    Err(error) => self.failed(ebpf, way, &error),
                },
                Err(reason) => self.reasons.push(reason),
            }
        }
    }

    fn failed(&mut self, ebpf: &mut Ebpf, way: &Way, error: &ProgramError) {
        way.hooks.iter().for_each(|hook| unload(ebpf, hook));
        let facility = way.facility().map_or("tracepoint", Facility::name);
        self.reasons.push(format!("{facility}: {}", innermost(error)));
    }
}

/// Loads what will be wanted first: these uprobes and the best way of each observation, two at a time. The kernel verifies each
/// program on its own, and that is most of the start. `btf` is on its way; it is waited for, and given back.
///
/// What does not load is left to [`Tried`] and to who needs the uprobe: they try it again, and have the error.
pub(super) fn ahead(
    ebpf: &mut Ebpf,
    plan: &Plan,
    uprobes: &[&str],
    btf: JoinHandle<Result<Btf, BtfError>>,
) -> Result<Btf, BtfError> {
    let planned = plan.probes.iter().chain([&plan.drops, &plan.ttl, &plan.lines]);
    let best = planned.filter_map(|planned| planned.ways.iter().flatten().next());
    let hooks: HashMap<&str, &Hook> = best.flat_map(|way| way.hooks).map(|hook| (hook.symbol, hook)).collect();
    let (mut typed, mut rest) = (Vec::new(), VecDeque::new());
    for (name, program) in ebpf.programs_mut() {
        match hooks.get(name) {
            Some(hook) if matches!(hook.kind, Kind::TpBtf | Kind::Fentry | Kind::Fexit) => typed.push((*hook, program)),
            Some(_) => rest.push_back(program),
            // They take longest.
            None if uprobes.contains(&name) => rest.push_front(program),
            None => {}
        }
    }
    let rest = Mutex::new(rest);
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let load_rest = || {
        while let Some(program) = next() {
            let _ = load_one(program, "", None);
        }
    };
    thread::scope(|scope| {
        scope.spawn(load_rest);
        let btf = btf.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        for (hook, program) in typed {
            let _ = load_one(program, hook.place(), Some(&btf));
        }
        load_rest();
        Ok(btf)
    })
}

/// Loads a program, if it is not yet. The place and the kernel's types count where its arguments have types.
pub(super) fn load_one(program: &mut Program, place: &str, btf: Option<&Btf>) -> Result<(), ProgramError> {
    let typed = || btf.ok_or(ProgramError::NotLoaded);
    let loaded = match program {
        Program::BtfTracePoint(program) => program.load(place, typed()?),
        Program::FEntry(program) => program.load(place, typed()?),
        Program::FExit(program) => program.load(place, typed()?),
        Program::RawTracePoint(program) => program.load(),
        Program::KProbe(program) => program.load(),
        Program::UProbe(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        loaded => loaded,
    }
}

fn load(ebpf: &mut Ebpf, btf: Option<&Btf>, way: &Way) -> Result<(), ProgramError> {
    way.hooks
        .iter()
        .try_for_each(|hook| load_one(ebpf.program_mut(hook.symbol).ok_or(ProgramError::NotLoaded)?, hook.place(), btf))
}

/// All of them, or nothing.
fn attach(ebpf: &mut Ebpf, way: &Way) -> Result<Vec<Attached>, ProgramError> {
    /// Attaches, and takes the link out of the program's own keeping.
    macro_rules! link {
        ($program:expr, $($argument:expr),*) => {{
            let program = $program;
            let id = program.attach($($argument),*)?;
            Box::new(program.take_link(id)?) as Box<dyn Any>
        }};
    }
    let links = way.hooks.iter().map(|hook| {
        let link = match hook.kind {
            Kind::TpBtf => link!(program::<BtfTracePoint>(ebpf, hook)?,),
            Kind::RawTp => link!(program::<RawTracePoint>(ebpf, hook)?, hook.place()),
            Kind::Fentry => link!(program::<FEntry>(ebpf, hook)?,),
            Kind::Fexit => link!(program::<FExit>(ebpf, hook)?,),
            Kind::Kprobe | Kind::Kretprobe => link!(program::<KProbe>(ebpf, hook)?, hook.place(), 0),
        };
        Ok(Attached { link })
    });
    links.collect()
}

/// Gives the program back to the kernel; one that was not loaded stays as it is.
fn unload(ebpf: &mut Ebpf, hook: &Hook) {
    let _ = match hook.kind {
        Kind::TpBtf => program::<BtfTracePoint>(ebpf, hook).and_then(BtfTracePoint::unload),
        Kind::RawTp => program::<RawTracePoint>(ebpf, hook).and_then(RawTracePoint::unload),
        Kind::Fentry => program::<FEntry>(ebpf, hook).and_then(FEntry::unload),
        Kind::Fexit => program::<FExit>(ebpf, hook).and_then(FExit::unload),
        Kind::Kprobe | Kind::Kretprobe => program::<KProbe>(ebpf, hook).and_then(KProbe::unload),
    };
}

fn program<'a, P>(ebpf: &'a mut Ebpf, hook: &Hook) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(hook.symbol).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// What the kernel said in the end; the verifier has nothing to add.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
