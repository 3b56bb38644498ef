//! From options to settings.

use std::path::PathBuf;

use super::options::{BesideArgs, CaptureArgs, Cli, Subcommand, TargetArgs, TraceArgs, WatchArgs};
use crate::context::process::NGINX;
use crate::settings::{Command, DoctorSettings, ExplainSettings, RecordSettings, TraceSettings, WatchSettings};
use crate::sink::log::CaptureOptions;
use crate::sink::terminal::Verbosity;

/// Where `record` writes without `--log`.
pub(super) const DEFAULT_LOG: &str = "/var/log/why502/why502.jsonl";

impl From<Cli> for Command {
    fn from(Cli { subcommand, trace }: Cli) -> Self {
        match subcommand {
            None => Self::Trace(trace.into()),
            Some(Subcommand::Trace(trace)) => Self::Trace(trace.into()),
            Some(Subcommand::Record { target, watch, capture: CaptureArgs { log, log_max_size, log_keep } }) => {
                let log = capture(log, log_max_size, log_keep);
                Self::Record(RecordSettings { watch: watch_settings(target, watch), log })
            }
            Some(Subcommand::Explain { subject }) => Self::Explain(ExplainSettings { subject }),
            Some(Subcommand::Doctor { target, format }) => {
                let TargetArgs { process, pid, no_nginx, hooks } = target;
                let processes = process_names(process, &pid);
                Self::Doctor(DoctorSettings { processes, pids: pid, format, nginx_witness: !no_nginx, avoided: hooks })
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
    let WatchArgs { upstream, cause, redact_query, duration, count, fail, debug_probes } = watch;
    WatchSettings {
        processes: process_names(process, &pid),
        pids: pid,
        upstreams: upstream,
        causes: cause,
        duration,
        count,
        nginx_witness: !no_nginx,
        avoided: hooks,
        redact_query,
        fail,
        debug_probes,
    }
}

/// The default names apply where nothing else says whom to trace.
fn process_names(given: Vec<String>, pids: &[u32]) -> Vec<String> {
    if given.is_empty() && pids.is_empty() { NGINX.map(str::to_owned).to_vec() } else { given }
}
