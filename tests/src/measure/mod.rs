//! What why502 costs: nginx's throughput and latency with and without it and with other tools, kernel time by program,
//! storms of failures, memory. Everything is a ratio or a figure of one run on one machine.
//!
//! [`run`] is the order of the measurements; each is a module.

mod churn;
pub(crate) mod connector;
mod cost;
mod document;
mod empty;
mod host;
mod modes;
mod paced;
mod pairs;
mod priority;
mod process;
mod programs;
mod report;
mod site;
mod stats;
pub(crate) mod storm;
mod table;
mod tool;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use connector::serve;
pub use modes::say as say_modes;
pub use priority::{is_apart, run_apart};
pub(crate) use process::{raise_open_files, resident};

use connector::Connector;
use cost::{Cost, Verified};
use host::Host;
use pairs::{Effort, Ground, Pairs};
use report::{Agreement, KERNEL_ONLY, Report, WHY502};
use site::{NEW, REFUSED, SCENARIOS, Scenario, Site};
use storm::Storm;
use tool::Tool;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary to measure.
    pub why502: PathBuf,
    /// The nginx binary.
    pub nginx: PathBuf,
    /// Fewer and shorter runs.
    pub quick: bool,
    /// Measure other tools as well.
    pub peers: bool,
    /// Upstream connections that stay open while memory is watched.
    pub open: usize,
    /// How long it is watched.
    pub churn: Duration,
    /// Only loads whose name contains this.
    pub load: String,
    /// Only these parts; all where empty.
    pub parts: Vec<Part>,
    /// Lines of [`say_modes`] from other machines.
    pub modes: Vec<PathBuf>,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// Where the document goes.
    pub docs: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// nginx with and without, and with other tools.
    Throughput,
    /// Time in kernel programs.
    Kernel,
    /// More failures than anybody reads.
    Storm,
    /// Resident memory while connections come and go.
    Memory,
}

/// How much of each measurement.
#[derive(Clone, Copy, Debug)]
struct Plan {
    why502: Effort,
    /// For other tools, and for why502 without nginx's word.
    others: Effort,
    /// Windows of kernel time, of a second each, per load.
    clock_windows: usize,
    /// Rates of the storms, each for a second.
    rates: &'static [u64],
    burst: u64,
    /// Other tools under every load, not just one.
    peers_everywhere: bool,
    /// The same of the paced client.
    paced_everywhere: bool,
}

impl Plan {
    /// Whether other tools are measured under this load too.
    fn compares(&self, load: &Scenario) -> bool {
        load.tcp && (self.peers_everywhere || load.name == NEW.name)
    }
}

const FULL: Plan = Plan {
    why502: Effort { pairs: 9, seconds: 2, paced: Duration::from_millis(700) },
    others: Effort { pairs: 3, seconds: 1, paced: Duration::ZERO },
    clock_windows: 3,
    rates: &[1000, 5000, 10_000, 20_000, 40_000],
    burst: 100_000,
    peers_everywhere: true,
    paced_everywhere: true,
};

const QUICK: Plan = Plan {
    why502: Effort { pairs: 3, seconds: 1, paced: Duration::from_millis(300) },
    others: Effort { pairs: 1, seconds: 1, paced: Duration::ZERO },
    clock_windows: 1,
    rates: &[10_000],
    burst: 100_000,
    peers_everywhere: false,
    paced_everywhere: false,
};

/// Measures everything, prints the tables, writes what was asked for.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let plan = if options.quick { QUICK } else { FULL };
    let host = Host::look(&options.nginx, &options.why502);
    priority::go_first();
    let open_files = raise_open_files();
    let site = Site::start(&options.nginx, options.open, open_files)?;
    let tools = Tools {
        full: Tool::why502(WHY502, &options.why502, &site, &[]),
        kernel_only: Tool::why502(KERNEL_ONLY, &options.why502, &site, &["--no-nginx"]),
        peers: if options.peers { Tool::peers(&site) } else { Vec::new() },
    };
    let loads: Vec<Scenario> = SCENARIOS.into_iter().filter(|load| load.name.contains(&options.load)).collect();
    ensure!(!loads.is_empty(), "no load has {:?} in its name", options.load);
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);

    let mut pairs = Vec::new();
    if wanted(Part::Throughput) {
        for load in &loads {
            say(start, load.name);
            under(&site, load, &plan, &tools, &mut pairs)?;
        }
    }
    let mut clocked = Clocked::default();
    if wanted(Part::Kernel) {
        say(start, "kernel time");
        clocked = kernel_time(&site, &loads, &plan, &tools)?;
    }
    let (mut agreed, mut storms) = (None, Vec::new());
    if wanted(Part::Storm) {
        say(start, "nginx failing as fast as it can, and storms");
        agreed = Some(agreement(&site, &tools.full)?);
        storms = all_storms(&site, &plan, &options.why502)?;
    }
    let mut memory = None;
    if wanted(Part::Memory) {
        say(start, "memory");
        memory = Some(churn::measure(&site, &tools.full, options.open, options.churn)?);
    }

    show(
        &Report {
            host,
            quick: options.quick,
            seconds: start.elapsed().as_secs_f64(),
            pairs,
            empty_program_ns: clocked.empty_program_ns,
            costs: clocked.costs,
            storms,
            agreement: agreed,
            memory,
            binary_bytes: fs::metadata(&options.why502)?.len(),
            verified_instructions: clocked.verified,
            modes: modes::read(&options.modes)?,
        },
        options,
    )
}

/// What watches nginx.
#[derive(Debug)]
struct Tools {
    full: Tool,
    kernel_only: Tool,
    peers: Vec<Tool>,
}

/// What the kernel's clock says.
#[derive(Debug, Default)]
struct Clocked {
    empty_program_ns: f64,
    costs: Vec<Cost>,
    verified: Verified,
}

/// Throughput and latency with each tool under one load. nginx's word costs where something fails, so why502 without it
/// is measured where all fails, and where nothing does.
fn under(site: &Site, load: &Scenario, plan: &Plan, tools: &Tools, all: &mut Vec<Pairs>) -> Result<()> {
    let mut ground = Ground::warm(site, load)?;
    let paced = if plan.paced_everywhere || load.name == NEW.name { plan.why502.paced } else { Duration::ZERO };
    all.push(ground.measure(&tools.full, &Effort { paced, ..plan.why502 })?);
    if [NEW.name, REFUSED.name].contains(&load.name) {
        all.push(ground.measure(&tools.kernel_only, &plan.others)?);
    }
    if !plan.compares(load) {
        return Ok(());
    }
    for peer in &tools.peers {
        let cannot = all.iter().any(|pairs| pairs.tool == peer.name && pairs.cannot.is_some());
        if !cannot {
            all.push(ground.measure(peer, &plan.others)?);
        }
    }
    Ok(())
}

/// Kernel time with each tool, under all loads.
fn kernel_time(site: &Site, loads: &[Scenario], plan: &Plan, tools: &Tools) -> Result<Clocked> {
    let empty_program_ns = cost::of_nothing(site)?;
    let some =
        |names: &[&str]| -> Vec<Scenario> { loads.iter().filter(|load| names.contains(&load.name)).copied().collect() };
    let (mut costs, verified) = cost::measure(site, loads, &tools.full, plan.clock_windows, empty_program_ns)?;
    let failing = some(&[NEW.name, REFUSED.name]);
    costs.extend(cost::measure(site, &failing, &tools.kernel_only, plan.clock_windows, empty_program_ns)?.0);
    let compared: Vec<Scenario> = loads.iter().filter(|load| plan.compares(load)).copied().collect();
    for peer in &tools.peers {
        costs.extend(cost::measure(site, &compared, peer, 1, empty_program_ns)?.0);
    }
    Ok(Clocked { empty_program_ns, costs, verified })
}

/// Prints the tables and writes the files.
fn show(report: &Report, options: &Options) -> Result<()> {
    for (title, table) in document::tables(report) {
        if !table.is_empty() {
            println!("{title}\n\n{table}");
        }
    }
    if !report.pairs.is_empty() {
        println!("{}", document::unable(report));
    }
    if let Some(path) = &options.json {
        let mut figures = serde_json::to_value(report)?;
        figures["budgets"] = serde_json::to_value(report.budgets())?;
        write(path, &serde_json::to_string_pretty(&figures)?)?;
    }
    if let Some(path) = &options.docs {
        write(path, &document::markdown(report))?;
    }
    Ok(())
}

/// One run with every request failing, counted by nginx and by why502.
fn agreement(site: &Site, tool: &Tool) -> Result<Agreement> {
    let running = tool.must_start(site.directory())?;
    let window = site.load(&REFUSED, 1, None)?;
    let capture = running.stop()?;
    let logged = site.logged(502);
    let text = fs::read_to_string(&capture).context("the capture")?;
    let (mut told, mut counted, mut end) = (0, 0, serde_json::Value::Null);
    for line in text.lines() {
        end = serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
        told += u64::from(end["type"] == "response");
        counted += end["counted"]["responses"].as_u64().unwrap_or(0);
    }
    let number = |name: &str| end[name].as_u64().with_context(|| format!("no {name} in {end}"));
    let agreement = Agreement {
        logged,
        told,
        counted,
        responses: number("responses")?,
        failures: number("failures")?,
        lost: number("lost")?,
        rate: window.rate(),
    };
    tool::remove(&capture);
    Ok(agreement)
}

/// Storms at rising rates, then all at once.
fn all_storms(site: &Site, plan: &Plan, why502: &Path) -> Result<Vec<Storm>> {
    let mut connector = Connector::start(site.directory())?;
    let mut storms = Vec::new();
    for (count, rate) in plan.rates.iter().map(|&rate| (rate, rate)).chain([(plan.burst, 0)]) {
        storms.push(storm::measure(why502, &mut connector, site.closed(), count, rate)?);
    }
    Ok(storms)
}

fn say(start: Instant, what: &str) {
    eprintln!("bench: {:>4.0} s  {what}", start.elapsed().as_secs_f64());
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
