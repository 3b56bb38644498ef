//! The command line of the lab.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lab::program::Program;
use lab::results::Results;
use lab::stage::Options;
use lab::{accuracy, demo, kernels, measure, run, scenarios, selection, wait};

/// Real nginx, upstreams that fail on purpose, and why502 held against nginx's own logs.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the scenarios.
    Run(Run),
    /// Show why502 at work on a private nginx whose upstreams fail in turn.
    Demo(Demo),
    /// Make a document of the results of runs, on stdout.
    Accuracy(Accuracy),
    /// Make a document of what hooks there are on which kernel, on stdout.
    Kernels(Kernels),
    /// Measure what why502 costs nginx, and how it takes a storm.
    Bench(Bench),
    /// Measure kernel time in each hook mode, for machines without a true clock (part of bench).
    #[command(hide = true)]
    Modes(Modes),
    /// Connect where nobody listens, on orders from standard input (part of bench).
    #[command(hide = true)]
    Connector,
    /// Do nothing, so many times (part of a scenario).
    #[command(hide = true)]
    Crowd { count: usize },
}

#[derive(Debug, Args)]
struct Run {
    /// The why502 binary to test.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["oracle_only", "list"])]
    why502: Option<PathBuf>,
    /// Check with nginx's logs alone that each fault happens as intended.
    #[arg(long, conflicts_with = "why502")]
    oracle_only: bool,
    /// Only scenarios whose name contains this (repeatable: this or that).
    #[arg(long, value_name = "SUBSTR")]
    filter: Vec<String>,
    /// Requests per case [default: 200, with --vm 5].
    #[arg(long)]
    requests: Option<usize>,
    /// How long steady load lasts, in seconds [default: 10, with --vm 2].
    #[arg(long)]
    seconds: Option<u32>,
    /// nginx workers, where the scenario does not need a certain number.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// The nginx binary.
    #[arg(long, default_value = "nginx", value_name = "PATH")]
    nginx: PathBuf,
    /// The nginx of another root directory, started in it as in a container.
    #[arg(long, value_name = "DIR", conflicts_with = "nginx")]
    nginx_root: Option<PathBuf>,
    /// The JSON Schema of the records [default: docs/schema.json, if it exists].
    #[arg(long, value_name = "PATH")]
    schema: Option<PathBuf>,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Few requests, nothing that takes long.
    #[arg(long)]
    vm: bool,
    /// Only what another nginx could do differently.
    #[arg(long)]
    of_nginx: bool,
    /// Skip what has not begun by this time, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    until: Option<u64>,
    /// Passed on to why502: kinds of hook to do without. With --vm, what depends on hooks is run in every mode unless this is
    /// given.
    #[arg(long, value_name = "HOOKS")]
    hooks: Option<String>,
    /// Before each hook mode, say in a line what `why502 doctor` says of it.
    #[arg(long, hide = true)]
    doctor: bool,
    /// Write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep logs, configurations and records in the temporary directory.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct Accuracy {
    /// What `run --json` wrote.
    #[arg(required = true, value_name = "FILE")]
    results: Vec<PathBuf>,
    /// A line about something else that was tested (repeatable).
    #[arg(long, value_name = "TEXT")]
    also: Vec<String>,
}

#[derive(Debug, Args)]
struct Kernels {
    /// Lines of `run --doctor`.
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Demo {
    /// The why502 binary to show.
    #[arg(long, value_name = "PATH")]
    why502: PathBuf,
    /// The nginx binary.
    #[arg(long, default_value = "nginx", value_name = "PATH")]
    nginx: PathBuf,
    /// How long, in seconds.
    #[arg(long, default_value_t = 15)]
    duration: u64,
}

#[derive(Debug, Args)]
struct Modes {
    /// The why502 binary to measure.
    #[arg(long, value_name = "PATH")]
    why502: PathBuf,
    /// The nginx binary.
    #[arg(long, default_value = "nginx", value_name = "PATH")]
    nginx: PathBuf,
}

#[derive(Debug, Args)]
struct Bench {
    /// The why502 binary to measure.
    #[arg(long, value_name = "PATH")]
    why502: PathBuf,
    /// The nginx binary.
    #[arg(long, default_value = "nginx", value_name = "PATH")]
    nginx: PathBuf,
    /// Two minutes instead of fifteen, with less certain figures.
    #[arg(long)]
    quick: bool,
    /// Measure no other tools.
    #[arg(long)]
    no_peers: bool,
    /// Only loads whose name contains this.
    #[arg(long, default_value = "", value_name = "SUBSTR", conflicts_with = "write_docs")]
    load: String,
    /// Only this part (repeatable).
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "write_docs")]
    part: Vec<measure::Part>,
    /// How many upstream connections stay open while memory is watched [default: 10000, with --quick 1000].
    #[arg(long, value_name = "N")]
    open: Option<usize>,
    /// How long memory is watched, in seconds [default: 90, with --quick 5].
    #[arg(long, value_name = "SECONDS")]
    churn: Option<u64>,
    /// Lines of `modes`, as other machines said them (repeatable).
    #[arg(long, value_name = "FILE")]
    modes: Vec<PathBuf>,
    /// Write the figures here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the document here.
    #[arg(long, value_name = "FILE")]
    write_docs: Option<PathBuf>,
}

fn main() -> ExitCode {
    wait::catch_signals();
    let done = match Cli::parse().command {
        Command::Run(run) => execute(&run),
        Command::Accuracy(Accuracy { results, also }) => accuracy::document(&results, &also).map(|page| {
            print!("{page}");
            ExitCode::SUCCESS
        }),
        Command::Kernels(Kernels { reports }) => kernels::document(&reports).map(|page| {
            print!("{page}");
            ExitCode::SUCCESS
        }),
        Command::Demo(demo) => {
            let duration = Duration::from_secs(demo.duration);
            Program::on_host(&demo.nginx).and_then(|nginx| demo::show(&demo.why502, nginx, duration))
        }
        Command::Bench(_) if !measure::is_apart() => measure::run_apart(),
        Command::Bench(bench) => measured(&bench).map(|()| ExitCode::SUCCESS),
        Command::Modes(Modes { why502, nginx }) => {
            as_root().and_then(|()| measure::say_modes(&why502, &nginx)).map(|()| ExitCode::SUCCESS)
        }
        Command::Connector => measure::serve().map(|()| ExitCode::SUCCESS),
        Command::Crowd { count } => scenarios::stand(count).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::from(2)
    })
}

fn measured(bench: &Bench) -> Result<()> {
    as_root()?;
    let short = |long: u64, quick: u64| if bench.quick { quick } else { long };
    measure::run(&measure::Options {
        why502: bench.why502.canonicalize().with_context(|| bench.why502.display().to_string())?,
        nginx: bench.nginx.clone(),
        quick: bench.quick,
        peers: !bench.no_peers,
        open: bench.open.unwrap_or(if bench.quick { 1000 } else { 10_000 }),
        churn: Duration::from_secs(bench.churn.unwrap_or_else(|| short(90, 5))),
        load: bench.load.clone(),
        parts: bench.part.clone(),
        modes: bench.modes.clone(),
        json: bench.json.clone(),
        docs: bench.write_docs.clone(),
    })
}

fn as_root() -> Result<()> {
    // SAFETY: geteuid() has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("the lab needs root: it starts nginx, makes network namespaces and loads eBPF; run it as root");
    }
    Ok(())
}

fn execute(run: &Run) -> Result<ExitCode> {
    if run.list {
        for entry in selection::chosen(&run.filter) {
            println!("{}", entry.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    as_root()?;
    let why502 = run.why502.as_ref().map(|path| path.canonicalize().with_context(|| path.display().to_string()));
    let published = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema.json"));
    let options = Options {
        nginx: match &run.nginx_root {
            Some(root) => Program::in_root(root)?,
            None => Program::on_host(&run.nginx)?,
        },
        why502: why502.transpose()?,
        requests: run.requests.unwrap_or(if run.vm { 5 } else { 200 }),
        seconds: run.seconds.unwrap_or(if run.vm { 2 } else { 10 }),
        workers: run.workers,
        keep: run.keep,
        vm: run.vm,
        of_nginx: run.of_nginx,
        until: run.until.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        hooks: run.hooks.clone(),
        doctor: OnceLock::new(),
        schema: run.schema.clone().or_else(|| published.exists().then_some(published)),
    };
    for filter in &run.filter {
        if !scenarios::all().any(|entry| entry.name().contains(filter)) {
            bail!("no scenario has {filter:?} in its name; `lab run --list` shows them");
        }
    }
    let mut results = Results::default();
    let totals = run::all(&options, &run.filter, run.doctor, &mut results);
    if let Some(path) = &run.json {
        results.write(path, &options, totals)?;
    }
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
