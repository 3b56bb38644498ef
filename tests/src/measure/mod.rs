//! What why502 costs: nginx's throughput and latency with and without it and with other tools, kernel time by program,
//! storms of failures, memory. Everything is a ratio or a figure of one run on one machine.
//!
//! [`run`] is the order of the measurements; each is a module.

mod churn;
mod connector;
mod cost;
mod document;
mod empty;
mod host;
mod paced;
mod pairs;
mod process;
mod programs;
mod report;
mod site;
mod stats;
mod storm;
mod table;
mod tool;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use connector::serve;

use connector::Connector;
use host::Host;
use pairs::{Effort, Pairs};
use report::{Agreement, KERNEL_ONLY, Report, WHY502};
use site::{NEW, REFUSED, SCENARIOS, Site};
use storm::Storm;
use tool::Tool;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary to measure.
    pub why502: PathBuf,
    /// The nginx binary.
    pub nginx: PathBuf,
    /// Fewer and shorter.
    pub quick: bool,
    /// Measure other tools as well.
    pub peers: bool,
    /// Upstream connections that stay open while memory is watched.
    pub open: usize,
    /// How long it is watched.
    pub churn: Duration,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// Where the document goes.
    pub docs: Option<PathBuf>,
}

/// How much of each measurement.
#[derive(Clone, Copy, Debug)]
struct Plan {
    why502: Effort,
    /// For other tools, and for why502 without nginx's word.
    others: Effort,
    /// Kernel time, per load.
    clock_seconds: u64,
    /// Rates of the storms, each for a second.
    rates: &'static [u64],
    burst: u64,
}

const FULL: Plan = Plan {
    why502: Effort { pairs: 9, seconds: 2, paced: Duration::from_millis(700) },
    others: Effort { pairs: 3, seconds: 1, paced: Duration::ZERO },
    clock_seconds: 2,
    rates: &[1000, 5000, 10_000, 20_000, 40_000],
    burst: 100_000,
};

const QUICK: Plan = Plan {
    why502: Effort { pairs: 3, seconds: 1, paced: Duration::from_millis(300) },
    others: Effort { pairs: 1, seconds: 1, paced: Duration::ZERO },
    clock_seconds: 1,
    rates: &[1000, 10_000],
    burst: 100_000,
};

/// Measures everything, prints the tables, writes what was asked for.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let plan = if options.quick { QUICK } else { FULL };
    let host = Host::look(&options.nginx, &options.why502);
    let open_files = process::raise_open_files();
    let site = Site::start(&options.nginx, options.open, open_files)?;
    let full = Tool::why502(WHY502, &options.why502, &site, &[]);
    let kernel_only = Tool::why502(KERNEL_ONLY, &options.why502, &site, &["--no-nginx"]);
    let peers = if options.peers { Tool::peers(&site) } else { Vec::new() };

    let pairs = throughput(&site, &plan, options.quick, &full, &kernel_only, &peers)?;
    say("kernel time");
    let empty_program_ns = cost::of_nothing(&site)?;
    let clock =
        |tool: &Tool, loads: &[site::Scenario]| cost::measure(&site, loads, tool, plan.clock_seconds, empty_program_ns);
    let (mut costs, verified_instructions) = clock(&full, &SCENARIOS)?;
    costs.extend(clock(&kernel_only, &[NEW, REFUSED])?.0);
    for peer in &peers {
        costs.extend(clock(peer, &[NEW])?.0);
    }
    say("nginx failing as fast as it can");
    let agreement = agreement(&site, &full, plan.clock_seconds)?;
    let storms = storms(&site, &plan, &options.why502)?;
    say("memory");
    let memory = churn::measure(&site, &full, options.open, options.churn)?;

    let report = Report {
        host,
        quick: options.quick,
        seconds: start.elapsed().as_secs_f64(),
        pairs,
        empty_program_ns,
        costs,
        storms,
        agreement,
        memory,
        binary_bytes: fs::metadata(&options.why502)?.len(),
        verified_instructions,
    };
    for (title, table) in document::tables(&report) {
        println!("{title}\n\n{table}");
    }
    if let Some(path) = &options.json {
        write(path, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &options.docs {
        write(path, &document::markdown(&report))?;
    }
    Ok(())
}

/// Throughput and latency, under every load.
fn throughput(
    site: &Site,
    plan: &Plan,
    quick: bool,
    full: &Tool,
    kernel_only: &Tool,
    peers: &[Tool],
) -> Result<Vec<Pairs>> {
    let mut all: Vec<Pairs> = Vec::new();
    for scenario in &SCENARIOS {
        say(scenario.name);
        all.push(pairs::measure(site, scenario, full, &plan.why502)?);
        if [NEW.name, REFUSED.name].contains(&scenario.name) {
            all.push(pairs::measure(site, scenario, kernel_only, &plan.others)?);
        }
        if quick && scenario.name != NEW.name {
            continue;
        }
        for peer in peers {
            let known_to_fail = all.iter().any(|pairs| pairs.tool == peer.name && pairs.cannot.is_some());
            if !known_to_fail {
                all.push(pairs::measure(site, scenario, peer, &plan.others)?);
            }
        }
    }
    Ok(all)
}

/// One run with every request failing, counted by nginx and by why502.
fn agreement(site: &Site, tool: &Tool, seconds: u64) -> Result<Agreement> {
    let running = tool.must_start(site.directory())?;
    let window = site.load(&REFUSED, seconds, None)?;
    let capture = running.stop()?;
    let logged = site.logged(502);
    let text = fs::read_to_string(&capture).context("the capture")?;
    let last = text.lines().last().context("an empty capture")?;
    let end: serde_json::Value = serde_json::from_str(last).context("the last record")?;
    let number = |name: &str| end[name].as_u64().with_context(|| format!("no {name} in {last}"));
    let agreement = Agreement {
        logged,
        responses: number("responses")?,
        failures: number("failures")?,
        lost: number("lost")?,
        rate: window.rate(),
    };
    tool::remove(&capture);
    Ok(agreement)
}

/// Storms at rising rates, then all at once.
fn storms(site: &Site, plan: &Plan, why502: &Path) -> Result<Vec<Storm>> {
    let mut connector = Connector::start(site.directory())?;
    let mut storms = Vec::new();
    for (count, rate) in plan.rates.iter().map(|&rate| (rate, rate)).chain([(plan.burst, 0)]) {
        say(&format!("a storm of {count}"));
        storms.push(storm::measure(why502, &mut connector, site.closed(), count, rate)?);
    }
    Ok(storms)
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
