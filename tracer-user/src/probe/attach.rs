//! Executes the plan: loads the object, attaches the tracepoints, and the uprobes of each nginx binary found later.

use std::{
    collections::BTreeMap,
    os::{
        fd::{AsFd as _, AsRawFd as _, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf},
    programs::{
        ProgramError, RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};
use tracer_common::{
    loss::Program,
    process::Process,
    settings::Settings,
    upstream::{UpstreamCounts, UpstreamKey},
};

use super::{
    plan::Plan,
    symbol::{SymbolError, file_offsets},
};

/// The kernel programs, built by `cargo xtask build` and embedded.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/why502.o"));

/// Why the programs are not running.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("this binary was built without its kernel programs: build it with `cargo xtask build --release`")]
    NoObject,
    #[error("this kernel cannot be traced: {0}")]
    Impossible(String),
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
    ebpf: Ebpf,
    /// By device and inode: once per binary, whatever its path or mount namespace.
    binaries: BTreeMap<(u64, u64), NginxBinary>,
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

/// The two cold functions: symbol in the eBPF object, function of nginx.
const NGINX_FUNCTIONS: [(&str, &str); 2] =
    [("log_error_core", "ngx_log_error_core"), ("special_response", "ngx_http_special_response_handler")];

impl Probes {
    /// Loads all programs and attaches the tracepoints of the plan.
    pub fn load(plan: &Plan, settings: &Settings) -> Result<Self, AttachError> {
        if OBJECT.is_empty() {
            return Err(AttachError::NoObject);
        }
        if !plan.impossible.is_empty() {
            return Err(AttachError::Impossible(plan.impossible.join("; ")));
        }
        let mut ebpf = EbpfLoader::new()
            // Nothing here is relocated by BTF: offsets come as settings. Parsing the kernel's would cost 10 MB and 100 ms.
            .btf(None)
            .override_global("SETTINGS", settings, true)
            .load(OBJECT)
            .map_err(|source| AttachError::Load(Box::new(source)))?;
        // Load all before attaching any: what one sees, the others must see too.
        if plan.nginx_word {
            for (symbol, _) in NGINX_FUNCTIONS {
                uprobe(&mut ebpf, symbol)?
                    .load()
                    .map_err(|source| AttachError::Program { symbol, source: Box::new(source) })?;
            }
        }
        for hook in &plan.hooks {
            raw_tracepoint(&mut ebpf, hook.symbol)?
                .load()
                .map_err(|source| AttachError::Program { symbol: hook.symbol, source: Box::new(source) })?;
        }
        for hook in &plan.hooks {
            raw_tracepoint(&mut ebpf, hook.symbol)?
                .attach(hook.program.hook())
                .map_err(|source| AttachError::Program { symbol: hook.symbol, source: Box::new(source) })?;
        }
        Ok(Self { ebpf, binaries: BTreeMap::new() })
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
        match file_offsets(link, NGINX_FUNCTIONS.map(|(_, function)| function)) {
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

    /// Descriptors of the loaded programs.
    pub fn descriptors(&self, plan: &Plan) -> Vec<(Program, RawFd)> {
        let descriptor = |symbol: &str| Some(self.ebpf.program(symbol)?.fd().ok()?.as_fd().as_raw_fd());
        let hooks = plan.hooks.iter().map(|hook| (hook.program, hook.symbol));
        let uprobes = NGINX_FUNCTIONS.iter().map(|(symbol, function)| (by_hook(function), *symbol));
        let uprobes = uprobes.filter_map(|(program, symbol)| Some((program?, symbol)));
        hooks.chain(uprobes).filter_map(|(program, symbol)| Some((program, descriptor(symbol)?))).collect()
    }

    /// The ring buffer; once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        self.take("EVENTS")
    }

    /// Processes judged by the kernel programs.
    pub fn take_processes(&mut self) -> Result<HashMap<MapData, u32, Process>, AttachError> {
        self.take("PROCESSES")
    }

    /// Counts per upstream.
    pub fn take_upstreams(&mut self) -> Result<PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>, AttachError> {
        self.take("UPSTREAMS")
    }

    /// Losses, by `tracer_common::loss::counter`.
    pub fn take_losses(&mut self) -> Result<PerCpuArray<MapData, u64>, AttachError> {
        self.take("LOSSES")
    }

    fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<M, AttachError> {
        let map = self.ebpf.take_map(name).ok_or(AttachError::Absent(name))?;
        M::try_from(map).map_err(|source| AttachError::Map { name, source })
    }
}

fn by_hook(hook: &str) -> Option<Program> {
    Program::ALL.into_iter().find(|program| program.hook() == hook)
}

fn uprobe<'a>(ebpf: &'a mut Ebpf, symbol: &'static str) -> Result<&'a mut UProbe, AttachError> {
    ebpf.program_mut(symbol).and_then(|program| program.try_into().ok()).ok_or(AttachError::Absent(symbol))
}

fn raw_tracepoint<'a>(ebpf: &'a mut Ebpf, symbol: &'static str) -> Result<&'a mut RawTracePoint, AttachError> {
    ebpf.program_mut(symbol).and_then(|program| program.try_into().ok()).ok_or(AttachError::Absent(symbol))
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
