//! Executes the plan: loads the object, attaches the tracepoints, and the uprobes of each nginx binary found later.

use std::{
    collections::BTreeMap,
    os::{
        fd::{AsFd as _, AsRawFd as _, RawFd},
        unix::fs::MetadataExt as _,
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
};

use aya::{
    BtfError, Ebpf, EbpfError, EbpfLoader,
    maps::{Array, MapError},
    programs::{
        ProgramError, UProbe,
        iter::{Iter, IterLink},
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};
use tracer_common::{
    hooked::{CONN_REQUEST, UNIX_EXIT, UNIX_RELEASE},
    loss::Program,
    settings::Settings,
};

use super::{
    begun::Begun,
    lines::{Hearing, Lines},
    load::{Tried, ahead, load_one},
    maps::{drops_capacity, take},
    plan::{Plan, in_order},
    symbol::{SymbolError, file_offsets},
    table::Otherwise,
};
use crate::model::observation::Observation;

/// The kernel programs, built by `cargo xtask build` and embedded.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/why502.o"));

/// Why the programs are not running.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("this binary was built without its kernel programs: build it with `cargo xtask build --release`")]
    NoObject,
    #[error("this kernel cannot be traced: {0}")]
    Impossible(String),
    #[error("cannot read the kernel's type information: {0}")]
    Btf(#[source] BtfError),
    #[error("cannot load the kernel programs: {0}")]
    Load(#[source] Box<EbpfError>),
    #[error("cannot load or attach {symbol}: {source}")]
    Program { symbol: &'static str, source: Box<ProgramError> },
    #[error("the object has no {0}")]
    Absent(&'static str),
    #[error("cannot open map {name}: {source}")]
    Map { name: &'static str, source: MapError },
}

/// The loaded programs. Dropping it detaches everything: the kernel does the same when the process dies.
#[derive(Debug)]
pub struct Probes {
    pub(super) ebpf: Ebpf,
    /// By device and inode: once per binary, whatever its path or mount namespace.
    binaries: BTreeMap<(u64, u64), NginxBinary>,
    /// Why listeners older than the tracing stay unknown to the kernel programs; None: they do not.
    no_listeners: Option<String>,
    /// In the order of the plan.
    tried: Vec<Tried>,
    drops: Tried,
    ttl: Tried,
    lines: Lines,
}

/// What became of the uprobes on one nginx binary.
#[derive(Clone, Debug)]
pub struct NginxBinary {
    /// As seen in its own mount namespace.
    pub path: PathBuf,
    /// Why `ngx_log_error_core` could not be probed; None: it is.
    pub no_complaints: Option<String>,
    /// Why `ngx_http_special_response_handler` could not be probed; None: it is.
    pub no_status: Option<String>,
}

/// The iterator over a network namespace's sockets.
const LISTENERS: &str = "listeners";

/// The two cold functions: symbol in the eBPF object, function of nginx, the hook's name.
const NGINX_FUNCTIONS: [(&str, &str, &str); 2] = [
    ("log_error_core", "ngx_log_error_core", "uprobe/ngx_log_error_core"),
    ("special_response", "ngx_http_special_response_handler", "uprobe/ngx_http_special_response_handler"),
];

impl Probes {
    /// Loads all programs and attaches those of the plan. `begun` is on its way.
    pub fn load(plan: &Plan, settings: &Settings, begun: Begun) -> Result<Self, AttachError> {
        if OBJECT.is_empty() {
            return Err(AttachError::NoObject);
        }
        if !plan.impossible.is_empty() {
            return Err(AttachError::Impossible(plan.impossible.join("; ")));
        }
        let Begun { types, loader } = begun;
        let mut loader: EbpfLoader<'_> = loader.join().unwrap_or_else(|panic| resume_unwind(panic));
        let mut ebpf = loader
            .override_global("SETTINGS", settings, true)
            .map_max_entries("DROPS", drops_capacity(aya::util::nr_cpus().unwrap_or(1)))
            .load(OBJECT)
            .map_err(|source| AttachError::Load(Box::new(source)))?;
        // Load all before attaching any: what one sees, the others must see too.
        let uprobes: &[_] = if plan.nginx_word { &NGINX_FUNCTIONS.map(|(symbol, ..)| symbol) } else { &[] };
        let btf = ahead(&mut ebpf, plan, uprobes, types).map_err(AttachError::Btf)?;
        for symbol in uprobes {
            let program = ebpf.program_mut(symbol).ok_or(AttachError::Absent(symbol))?;
            load_one(program, "", None).map_err(|source| AttachError::Program { symbol, source: Box::new(source) })?;
        }
        let mut tried: Vec<_> = plan.probes.iter().map(|planned| Tried::load(&mut ebpf, &btf, planned)).collect();
        // Without it nothing but old listeners is missed.
        let listeners = iterator(&mut ebpf)?.load("tcp", &btf).err().map(|error| error_chain(&error));
        let drops = Tried::load(&mut ebpf, &btf, &plan.drops);
        let ttl = Tried::load(&mut ebpf, &btf, &plan.ttl);
        let writers = take(&mut ebpf, "WRITERS")?;
        let lines = Lines::load(&mut ebpf, &btf, writers, &plan.lines);
        for (tried, planned) in tried.iter_mut().zip(&plan.probes) {
            tried.attach(&mut ebpf, Some(&btf));
            if tried.way().is_none() && planned.probe.otherwise == Otherwise::Impossible {
                return Err(AttachError::Impossible(format!(
                    "{}: {}",
                    planned.probe.name.id(),
                    tried.reasons.join("; ")
                )));
            }
        }
        let mut hooked: Array<_, u32> = take(&mut ebpf, "HOOKED")?;
        let places = [
            (CONN_REQUEST, Program::ConnRequest),
            (UNIX_RELEASE, Program::UnixRelease),
            (UNIX_EXIT, Program::UnixExit),
        ];
        for (index, program) in places {
            let set = hooked.set(index, u32::from(attached(&tried, program)), 0);
            set.map_err(|source| AttachError::Map { name: "HOOKED", source })?;
        }
        Ok(Self { ebpf, binaries: BTreeMap::new(), no_listeners: listeners, tried, drops, ttl, lines })
    }

    /// How well each observation is made.
    pub fn observations(&self, plan: &Plan) -> Vec<Observation> {
        let tried = plan.probes.iter().zip(&self.tried);
        let tried = tried.map(|(planned, tried)| planned.observation(tried.way(), &tried.reasons, plan.nginx_word));
        in_order(tried.chain(plan.others()).collect())
    }

    /// Starts the kernel programs' own log (`--debug-probes`).
    pub fn debug_log<L: log::Log>(&mut self, logger: L) -> Result<aya_log::EbpfLogger<L>, aya_log::Error> {
        aya_log::EbpfLogger::init_with_logger(&mut self.ebpf, logger)
    }

    /// Attaches the uprobes to the binary that `pid` runs, once per binary. An error says why the process could not be
    /// looked at (it may just have exited).
    pub fn attach_nginx(&mut self, pid: u32) -> std::io::Result<&NginxBinary> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let metadata = std::fs::metadata(&link)?;
        let identity = (metadata.dev(), metadata.ino());
        if !self.binaries.contains_key(&identity) {
            let binary = self.attach_binary(&link);
            self.binaries.insert(identity, binary);
        }
        self.binaries.get(&identity).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// All binaries looked at so far.
    pub fn binaries(&self) -> impl Iterator<Item = &NginxBinary> {
        self.binaries.values()
    }

    fn attach_binary(&mut self, link: &Path) -> NginxBinary {
        let path = std::fs::read_link(link).unwrap_or_else(|_| link.to_owned());
        match file_offsets(link, NGINX_FUNCTIONS.map(|(_, function, _)| function)) {
            Ok([complaints, status]) => NginxBinary {
                path,
                no_complaints: self.attach_function(NGINX_FUNCTIONS[0].0, complaints, link).err(),
                no_status: self.attach_function(NGINX_FUNCTIONS[1].0, status, link).err(),
            },
            Err(error) => {
                NginxBinary { path, no_complaints: Some(error.to_string()), no_status: Some(error.to_string()) }
            }
        }
    }

    fn attach_function(
        &mut self,
        symbol: &'static str,
        offset: Result<u64, SymbolError>,
        binary: &Path,
    ) -> Result<(), String> {
        let offset = offset.map_err(|error| error.to_string())?;
        uprobe(&mut self.ebpf, symbol)
            .map_err(|error| error.to_string())?
            .attach(UProbeAttachLocation::AbsoluteOffset(offset), binary, UProbeScope::AllProcesses)
            .map(drop)
            .map_err(|error| error_chain(&error))
    }

    /// Takes this process's lines as it writes them, where the kernel has a hook for that.
    pub fn hear_lines(&mut self, pid: u32) -> bool {
        self.lines.hear(&mut self.ebpf, pid)
    }

    /// The process has ended.
    pub fn forget_lines(&mut self, pid: u32) {
        self.lines.forget(pid);
    }

    /// How lines are taken.
    pub fn hearing(&self) -> &Hearing {
        &self.lines.hearing
    }

    /// Descriptors of the programs at work.
    pub fn descriptors(&self) -> Vec<(Program, RawFd)> {
        let descriptor = |symbol: &str| Some(self.ebpf.program(symbol)?.fd().ok()?.as_fd().as_raw_fd());
        let ways = self.tried.iter().filter_map(Tried::way).chain(self.lines.way());
        let hooks = ways.flat_map(|way| way.hooks).map(|hook| (hook.program, hook.symbol));
        let uprobes = NGINX_FUNCTIONS.iter().map(|(symbol, function, _)| (by_hook(function), *symbol));
        let uprobes = uprobes.filter_map(|(program, symbol)| Some((program?, symbol)));
        hooks.chain(uprobes).filter_map(|(program, symbol)| Some((program, descriptor(symbol)?))).collect()
    }

    /// What each program is attached to, as records have it.
    pub fn sources(&self) -> BTreeMap<u16, &'static str> {
        let hooks = self.tried.iter().filter_map(Tried::way).flat_map(|way| way.hooks);
        let uprobes = NGINX_FUNCTIONS.iter().filter_map(|(_, function, name)| Some((by_hook(function)?, *name)));
        hooks
            .map(|hook| (hook.program, hook.name))
            .chain(uprobes)
            .map(|(program, name)| (program as u16, name))
            .collect()
    }

    /// Is this program at work?
    pub fn is_attached(&self, program: Program) -> bool {
        attached(&self.tried, program)
    }

    /// The programs at work, and how many instructions the verifier looked at; None where the kernel does not say (before
    /// 5.16).
    pub fn verified(&self) -> Vec<(&'static str, Option<u32>)> {
        let hooks = self.tried.iter().filter_map(Tried::way).flat_map(|way| way.hooks);
        let uprobes = NGINX_FUNCTIONS.iter().map(|(symbol, _, name)| (*name, *symbol));
        let verified = |symbol: &str| self.ebpf.program(symbol)?.info().ok()?.verified_instruction_count();
        hooks
            .map(|hook| (hook.name, hook.symbol))
            .chain(uprobes)
            .map(|(name, symbol)| (name, verified(symbol)))
            .collect()
    }

    /// Looks at dropped packets, or ceases to. Some, once: it cannot, and why.
    pub fn watch_drops(&mut self, wanted: bool) -> Option<String> {
        self.drops.keep(&mut self.ebpf, wanted)
    }

    /// Looks how far segments have come, or ceases to. Some, once: it cannot, and why.
    pub fn watch_ttl(&mut self, wanted: bool) -> Option<String> {
        self.ttl.keep(&mut self.ebpf, wanted)
    }

    /// Whether dropped packets are looked at now.
    pub const fn watches_drops(&self) -> bool {
        self.drops.is_attached()
    }

    /// One look at the listeners of a network namespace, for a thread that is in it; None: not on this kernel.
    pub fn listeners(&mut self) -> Option<IterLink> {
        if self.no_listeners.is_some() {
            return None;
        }
        let program = iterator(&mut self.ebpf).ok()?;
        let link = program.attach().ok()?;
        program.take_link(link).ok()
    }
}

fn by_hook(hook: &str) -> Option<Program> {
    Program::ALL.into_iter().find(|program| program.hook() == hook)
}

fn uprobe<'a>(ebpf: &'a mut Ebpf, symbol: &'static str) -> Result<&'a mut UProbe, AttachError> {
    ebpf.program_mut(symbol).and_then(|program| program.try_into().ok()).ok_or(AttachError::Absent(symbol))
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter, AttachError> {
    ebpf.program_mut(LISTENERS).and_then(|program| program.try_into().ok()).ok_or(AttachError::Absent(LISTENERS))
}

fn attached(tried: &[Tried], program: Program) -> bool {
    tried.iter().filter_map(Tried::way).flat_map(|way| way.hooks).any(|hook| hook.program == program)
}

/// An error and its sources in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
