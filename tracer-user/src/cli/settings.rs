//! Settings: complete and valid, made once from the options.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::options::{BesideArgs, CaptureArgs, Cli, Subcommand, TargetArgs, TraceArgs, WatchArgs};
use crate::model::cause::Cause;
use crate::sink::filter::UpstreamPattern;
use crate::sink::log::CaptureOptions;
use crate::sink::terminal::{ColorChoice, Verbosity};

/// Where `record` writes without `--log`.
pub(super) const DEFAULT_LOG: &str = "/var/log/why502/why502.jsonl";
/// The programs that are nginx under another name.
pub(super) const DEFAULT_PROCESSES: [&str; 4] = ["nginx", "openresty", "angie", "nginx-debug"];

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
    /// Pids of the host's namespace; a master stands for its workers.
    pub pids: Vec<u32>,
    /// Shown and logged; empty means every one.
    pub upstreams: Vec<UpstreamPattern>,
    /// Shown and logged; empty means every one.
    pub causes: Vec<Cause>,
    /// Where raw wire events go, for replay.
    pub record_events: Option<PathBuf>,
    pub duration: Option<Duration>,
    /// Failures shown before the end.
    pub count: Option<NonZeroU64>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Listen to nginx's own word too.
    pub nginx_witness: bool,
    /// Hooks to force, as typed.
    pub hooks: Vec<String>,
    pub redact_query: bool,
    /// Attempts that succeeded too.
    pub all: bool,
    /// Exit with 1 if a 502 or 504 was seen.
    pub fail: bool,
    pub debug_probes: bool,
}

/// What a cause means; all of them without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainSettings {
    pub cause: Option<Cause>,
}

/// Can it run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorSettings {
    pub processes: Vec<String>,
    pub pids: Vec<u32>,
    pub format: Format,
    pub nginx_witness: bool,
    pub hooks: Vec<String>,
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl From<Cli> for Command {
    fn from(Cli { subcommand, trace }: Cli) -> Self {
        match subcommand {
            None => Self::Trace(trace.into()),
            Some(Subcommand::Trace(trace)) => Self::Trace(trace.into()),
            Some(Subcommand::Record { target, watch, capture: CaptureArgs { log, log_max_size, log_keep } }) => {
                let log = capture(log, log_max_size, log_keep);
                Self::Record(RecordSettings { watch: watch_settings(target, watch), log })
            }
            Some(Subcommand::Explain { cause }) => Self::Explain(ExplainSettings { cause }),
            Some(Subcommand::Doctor { target, format }) => {
                let TargetArgs { process, pid, no_nginx, hooks } = target;
                let processes = process_names(process, &pid);
                Self::Doctor(DoctorSettings { processes, pids: pid, format, nginx_witness: !no_nginx, hooks })
            }
        }
    }
}

impl From<TraceArgs> for TraceSettings {
    fn from(TraceArgs { target, watch, beside, format, verbose, quiet, color }: TraceArgs) -> Self {
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        let BesideArgs { log, log_max_size, log_keep } = beside;
        let log = log.map(|path| capture(path, log_max_size, log_keep));
        Self { watch: watch_settings(target, watch), format, verbosity, color, log }
    }
}

fn capture(path: PathBuf, max_size: u64, keep: u32) -> CaptureOptions {
    let default_path = path.as_os_str() == DEFAULT_LOG;
    CaptureOptions { path, max_size, keep, compress: true, default_path }
}

fn watch_settings(target: TargetArgs, watch: WatchArgs) -> WatchSettings {
    let TargetArgs { process, pid, no_nginx, hooks } = target;
    let WatchArgs { upstream, cause, all, redact_query, duration, count, fail, metrics, record_events, debug_probes } =
        watch;
    WatchSettings {
        processes: process_names(process, &pid),
        pids: pid,
        upstreams: upstream,
        causes: cause,
        record_events,
        duration,
        count,
        metrics,
        nginx_witness: !no_nginx,
        hooks,
        redact_query,
        all,
        fail,
        debug_probes,
    }
}

/// The default names apply where nothing else says whom to trace.
fn process_names(given: Vec<String>, pids: &[u32]) -> Vec<String> {
    if given.is_empty() && pids.is_empty() { DEFAULT_PROCESSES.map(str::to_owned).to_vec() } else { given }
}
