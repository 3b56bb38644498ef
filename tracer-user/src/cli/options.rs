//! The command line: every option with its help.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use super::convert::DEFAULT_LOG;
use super::value;
use crate::explain::Subject;
use crate::model::cause::Cause;
use crate::probe::hook::Avoided;
use crate::settings::Format;
use crate::sink::filter::UpstreamPattern;
use crate::sink::terminal::ColorChoice;

const ABOUT: &str = "\
Says why nginx answered 502 or 504.

Watches every upstream connection of every nginx worker from inside the kernel, listens to nginx's own word, and gives \
one verdict per failure, with its evidence. Needs root.";

const EXAMPLES: &str = "\
Examples:
  sudo why502                                  explain every 502 and 504 as it happens
  sudo why502 --upstream 10.0.0.7:8080 -v      one upstream, with the evidence
  sudo why502 --format json --duration 1m      JSON Lines for a minute
  sudo why502 record                           capture to /var/log/why502/why502.jsonl
  why502 explain stale_keepalive               what a cause means and what to change

Exit status: 0 fine, 1 with --fail when a 502 or 504 was seen, 2 usage or could not do its job.";

#[derive(Debug, Parser)]
#[command(name = "why502", version, about = ABOUT, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(super) trace: TraceArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Live verdicts until ctrl-c, then a summary with what to do (the default)
    Trace(TraceArgs),
    /// Capture to a file, without terminal output; for services
    Record {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        watch: WatchArgs,
        #[command(flatten)]
        capture: CaptureArgs,
    },
    /// What a cause or a reason means, what to check and what to change; a list without one
    Explain {
        /// The id of a cause, as connect_refused, or of a reason, as accept_queue_full
        #[arg(value_name = "ID", value_parser = value::subject)]
        subject: Option<Subject>,
    },
    /// Can it run here: what is observed, by which hook, and what is missing
    Doctor {
        #[command(flatten)]
        target: TargetArgs,
        /// Output for people or for programs
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) watch: WatchArgs,
    #[command(flatten)]
    pub(super) beside: BesideArgs,
    /// Verdicts for people, or JSON Lines for programs
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    pub(super) format: Format,
    /// Show the evidence of every verdict
    #[arg(short, long, help_heading = "Output")]
    pub(super) verbose: bool,
    /// Show the summary alone
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(super) quiet: bool,
    /// When to colour; auto means on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub(super) color: ColorChoice,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to trace")]
pub(super) struct TargetArgs {
    /// Trace programs of this name (of the process or of its executable); repeatable
    /// [default: nginx, openresty, angie, nginx-debug]
    #[arg(long, value_name = "NAME", value_parser = value::process_name)]
    pub(super) process: Vec<String>,
    /// Trace this process, as the host numbers it; a master stands for its workers, a container's init for its nginx;
    /// repeatable
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Vec<u32>,
    /// Use the kernel's word alone: do not look into nginx or its logs
    #[arg(long)]
    pub(super) no_nginx: bool,
    /// Do without a kind of hook that this kernel has, for tests; repeatable
    #[arg(long, value_enum, value_name = "HOOKS", value_delimiter = ',')]
    pub(super) hooks: Vec<Avoided>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What to show and log")]
pub(super) struct WatchArgs {
    /// Only this upstream: an address with or without port, a network, unix:PATH or unix:@NAME; repeatable
    #[arg(long, value_name = "ADDR")]
    pub(super) upstream: Vec<UpstreamPattern>,
    /// Only this cause; `why502 explain` lists them; repeatable
    #[arg(long, value_name = "CAUSE", value_parser = value::cause)]
    pub(super) cause: Vec<Cause>,
    /// Hide what follows the ? in URLs
    #[arg(long)]
    pub(super) redact_query: bool,
    /// Stop after this time, as 30s, 5m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = value::duration, help_heading = "When to stop")]
    pub(super) duration: Option<Duration>,
    /// Stop after so many failures, of those shown
    #[arg(long, value_name = "N", help_heading = "When to stop")]
    pub(super) count: Option<NonZeroU64>,
    /// Exit with 1 if any 502 or 504 was seen
    #[arg(long, help_heading = "When to stop")]
    pub(super) fail: bool,
    /// Say what the kernel programs are doing, on standard error
    #[arg(long, help_heading = "Debugging")]
    pub(super) debug_probes: bool,
}

/// A capture beside the display.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capture file")]
pub(super) struct BesideArgs {
    /// Write a capture to this file too
    #[arg(long, value_name = "FILE", value_parser = value::log_path)]
    pub(super) log: Option<PathBuf>,
    /// Rotate before a file outgrows this, as 512KiB, 64MiB or 1GB
    #[arg(long, value_name = "SIZE", default_value = value::DEFAULT_LOG_SIZE, value_parser = value::log_size, requires = "log")]
    pub(super) log_max_size: u64,
    /// How many rotated files to keep, compressed
    #[arg(long, value_name = "N", default_value_t = value::DEFAULT_LOG_KEEP, value_parser = value::log_keep, requires = "log")]
    pub(super) log_keep: u32,
}

/// A capture and nothing else.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capture file")]
pub(super) struct CaptureArgs {
    /// The capture file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_LOG, value_parser = value::log_path)]
    pub(super) log: PathBuf,
    /// Rotate before a file outgrows this, as 512KiB, 64MiB or 1GB
    #[arg(long, value_name = "SIZE", default_value = value::DEFAULT_LOG_SIZE, value_parser = value::log_size)]
    pub(super) log_max_size: u64,
    /// How many rotated files to keep, compressed
    #[arg(long, value_name = "N", default_value_t = value::DEFAULT_LOG_KEEP, value_parser = value::log_keep)]
    pub(super) log_keep: u32,
}
