//! Where and when it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// The machine and the programs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    pub(crate) hypervisor: bool,
    pub(crate) nginx: String,
    pub(crate) why502: String,
    /// Load average of the minute before: what else the machine was doing.
    pub(crate) load_before: f64,
}

impl Host {
    pub(crate) fn look(nginx: &Path, why502: &Path) -> Self {
        let cpuinfo = text("/proc/cpuinfo");
        let of = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or_else(|| "unknown".into(), |line| line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        let memory = of(&text("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
        let load = text("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: of(&cpuinfo, "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            hypervisor: cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")),
            nginx: version(nginx, "-v"),
            why502: version(why502, "--version"),
            load_before: load.unwrap_or(f64::NAN),
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// nginx says it on standard error.
fn version(program: &Path, option: &str) -> String {
    let said = Command::new(program).arg(option).output();
    let said = said.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().trim_start_matches("nginx version: ").to_owned()
}
