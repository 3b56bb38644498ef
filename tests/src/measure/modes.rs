//! Kernel time by hook mode, in multiples of a program that does nothing: figures that hold in an emulated machine, too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cost::{self, Cost};
use super::process;
use super::report::WHY502;
use super::site::{NEW, REFUSED, SCENARIOS, Scenario, Site};
use super::table::Table;
use super::tool::Tool;

/// How a line begins that carries one.
const MARK: &str = "MODE ";

/// Values of `--hooks`, and what is left then.
const MODES: [(&str, &str); 3] =
    [("", "the best"), ("no-fentry", "no fentry"), ("no-fentry,no-kprobe", "neither fentry nor kprobes")];

/// All programs under one load, in one mode of one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mode {
    pub(crate) kernel: String,
    pub(crate) hooks: String,
    pub(crate) load: String,
    pub(crate) runs_per_request: f64,
    /// The empty program's own time is not in it.
    pub(crate) empty_runs_per_request: f64,
    /// The dearest program, and its share.
    pub(crate) dearest: String,
    pub(crate) dearest_empty_runs: f64,
}

/// Measures in every mode, and says it in lines for [`read`].
pub fn say(why502: &Path, nginx: &Path) -> Result<()> {
    let site = Site::start(nginx, 1, process::raise_open_files())?;
    let nothing_ns = cost::of_nothing(&site)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let kept = SCENARIOS.into_iter().find(|load| load.path == "/kept").context("a load with keepalive")?;
    let loads: [Scenario; 3] = [NEW, kept, REFUSED];
    for (option, hooks) in MODES {
        let options: &[&str] = if option.is_empty() { &[] } else { &["--hooks", option] };
        let tool = Tool::why502(WHY502, why502, &site, options);
        for cost in cost::measure(&site, &loads, &tool, 1, nothing_ns)?.0 {
            println!("{MARK}{}", serde_json::to_string(&mode(&kernel, hooks, &cost, nothing_ns))?);
        }
    }
    Ok(())
}

fn mode(kernel: &str, hooks: &str, cost: &Cost, nothing_ns: f64) -> Mode {
    let dearest = cost.programs.first();
    Mode {
        kernel: kernel.to_owned(),
        hooks: hooks.to_owned(),
        load: cost.scenario.to_owned(),
        runs_per_request: cost.programs.iter().map(|program| program.runs_per_request).sum(),
        empty_runs_per_request: cost.ns_per_request / nothing_ns,
        dearest: dearest.map_or_else(String::new, |program| program.name.clone()),
        dearest_empty_runs: dearest.map_or(0.0, |program| program.ns_per_request / nothing_ns),
    }
}

/// What [`say`] said, in files of its lines.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Mode>> {
    let mut modes = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        for line in text.lines().filter_map(|line| line.strip_prefix(MARK)) {
            modes.push(serde_json::from_str(line).with_context(|| format!("a line of {}", file.display()))?);
        }
    }
    Ok(modes)
}

pub(crate) fn table(modes: &[Mode]) -> Table {
    let mut table =
        Table::new(&["Kernel", "Hooks", "Load", "Runs per request", "Empty runs per request", "Dearest", "of it"]);
    for mode in modes {
        table.row([
            mode.kernel.clone(),
            mode.hooks.clone(),
            mode.load.clone(),
            format!("{:.2}", mode.runs_per_request),
            format!("{:.1}", mode.empty_runs_per_request),
            mode.dearest.clone(),
            format!("{:.1}", mode.dearest_empty_runs),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Cost, MARK, mode, read, table};
    use crate::measure::cost::Program;

    #[test]
    fn lines_come_back_as_multiples() {
        let program = |name: &str, ns: f64| Program {
            name: name.into(),
            runs_per_request: 2.0,
            ns_per_run: ns / 2.0,
            ns_per_request: ns,
            skipped: 0,
        };
        let programs = vec![program("set_state", 600.0), program("destroy_sock", 200.0)];
        let cost = Cost { scenario: "a load", ns_per_request: 800.0, programs, ..Cost::default() };
        let line = serde_json::to_string(&mode("6.1.0", "the best", &cost, 100.0)).expect("it can be written");
        let path = std::env::temp_dir().join(format!("lab-modes-{}", std::process::id()));
        std::fs::write(&path, format!("something else\n{MARK}{line}\n")).expect("writable");
        let modes = read(std::slice::from_ref(&path)).expect("its own lines");
        std::fs::write(&path, format!("{MARK}{{}}\n")).expect("writable");
        assert!(read(std::slice::from_ref(&path)).is_err());
        std::fs::remove_file(path).expect("ours");
        let [mode] = modes.as_slice() else { panic!("one line") };
        assert!((mode.empty_runs_per_request - 8.0).abs() < 1e-9 && (mode.dearest_empty_runs - 6.0).abs() < 1e-9);
        assert!(table(&modes).to_string().contains("set_state"));
    }
}
