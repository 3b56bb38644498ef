//! The kernel programs of a process, and what the kernel counts of each.
//!
//! The counts stand in /proc/PID/fdinfo (bpf_prog_show_fdinfo(), kernel/bpf/syscall.c); the names are asked of bpf(2).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Counts of one program. Times and runs only rise while a [`Clock`] runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) run_time_ns: u64,
    pub(crate) runs: u64,
    /// Runs that the kernel skipped because the program was running already; since Linux 5.12.
    pub(crate) skipped: u64,
    /// Instructions that the verifier walked; since Linux 5.16.
    pub(crate) verified: u64,
}

/// The programs whose descriptors this process holds, by program id.
pub(crate) fn of(pid: u32) -> BTreeMap<u32, Counts> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    entries.filter_map(|entry| parse(&read(&entry.path()))).collect()
}

/// Names by program id, as far as the kernel keeps them (15 characters).
pub(crate) fn names() -> BTreeMap<u32, String> {
    let programs = aya::programs::loaded_programs().flatten();
    programs.map(|program| (program.id(), program.name_as_str().unwrap_or("?").to_owned())).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A link's fdinfo names its program too, but only the program's own begins with `prog_type`.
pub(crate) fn parse(text: &str) -> Option<(u32, Counts)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    field("prog_type")?;
    let counts = Counts {
        run_time_ns: field("run_time_ns").unwrap_or(0),
        runs: field("run_cnt").unwrap_or(0),
        skipped: field("recursion_misses").unwrap_or(0),
        verified: field("verified_insns").unwrap_or(0),
    };
    Some((u32::try_from(field("prog_id")?).ok()?, counts))
}

/// While it lives the kernel times every program run of this host; afterwards the switch is as it was.
#[derive(Debug)]
pub(crate) struct Clock {
    before: String,
}

impl Clock {
    pub(crate) fn start() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).context(SWITCH)?.trim().to_owned();
        fs::write(SWITCH, "1").context(SWITCH)?;
        Ok(Self { before })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            eprintln!("lab: {SWITCH} should be {} again, but: {error}", self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, parse};

    #[test]
    fn reads_a_program_and_not_a_link() {
        let program = "pos:\t0\nflags:\t02000002\nprog_type:\t17\nprog_jited:\t1\nprog_tag:\t57\nmemlock:\t4096\nprog_id:\t128\n\
                       run_time_ns:\t10\nrun_cnt:\t2\nrecursion_misses:\t1\nverified_insns:\t377\n";
        assert_eq!(parse(program), Some((128, Counts { run_time_ns: 10, runs: 2, skipped: 1, verified: 377 })));
        assert_eq!(parse("link_type:\traw_tracepoint\nlink_id:\t3\nprog_id:\t128\ntp_name:\tx\n"), None);
    }
}
