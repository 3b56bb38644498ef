//! Settings: complete and valid, made once from the options (`cli`).

use std::{num::NonZeroU64, time::Duration};

use crate::{
    explain::Subject,
    model::cause::Cause,
    probe::hook::Avoided,
    sink::{
        filter::UpstreamPattern,
        log::CaptureOptions,
        terminal::{ColorChoice, Verbosity},
    },
};

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Trace(TraceSettings),
    Record(RecordSettings),
    Explain(ExplainSettings),
    Doctor(DoctorSettings),
}

/// Live verdicts.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    pub watch: WatchSettings,
    pub format: Format,
    pub verbosity: Verbosity,
    pub color: ColorChoice,
    /// A capture beside the display.
    pub log: Option<CaptureOptions>,
}

/// A capture and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSettings {
    pub watch: WatchSettings,
    pub log: CaptureOptions,
}

/// What tracing and recording share.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchSettings {
    /// Names of programs to trace; empty when only pids were given.
    pub processes: Vec<String>,
    /// Pids of the host's namespace; a master stands for its workers, a container's init for its nginx.
    pub pids: Vec<u32>,
    /// Shown and logged; empty means every one.
    pub upstreams: Vec<UpstreamPattern>,
    /// Shown and logged; empty means every one.
    pub causes: Vec<Cause>,
    pub duration: Option<Duration>,
    /// Failures shown before the end.
    pub count: Option<NonZeroU64>,
    /// Listen to nginx's own word too.
    pub nginx_witness: bool,
    pub avoided: Vec<Avoided>,
    pub redact_query: bool,
    /// Exit with 1 if a 502 or 504 was seen.
    pub fail: bool,
    pub debug_probes: bool,
}

/// What a cause or a reason means; all of them without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainSettings {
    pub subject: Option<Subject>,
}

/// Can it run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorSettings {
    pub processes: Vec<String>,
    pub pids: Vec<u32>,
    pub format: Format,
    pub nginx_witness: bool,
    pub avoided: Vec<Avoided>,
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}
