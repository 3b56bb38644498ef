//! What the kernel says of a process: time used, memory held.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Resident memory in KiB, by what is behind it (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Resident {
    pub(crate) anonymous_kib: u64,
    pub(crate) file_kib: u64,
}

impl Resident {
    pub(crate) fn total_kib(self) -> u64 {
        self.anonymous_kib + self.file_kib
    }
}

/// Time on a processor so far, in ns, of all threads: the first number of schedstat. It includes interrupts taken
/// meanwhile.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))?;
    let mut total = 0;
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        total += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// The same for several processes.
pub(crate) fn cpu_ns_of(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|&pid| cpu_ns(pid)).sum()
}

/// Its resident memory now.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Ok(Resident {
        anonymous_kib: field("RssAnon:").context("RssAnon")?,
        file_kib: field("RssFile:").context("RssFile")? + field("RssShmem:").context("RssShmem")?,
    })
}

/// Raises this process's limit of open files to what it may have; gives the new one.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one live rlimit is given to both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur
}
