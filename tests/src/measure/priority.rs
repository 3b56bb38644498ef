//! Going before the other programs of the host, so that what they do disturbs the figures less.
//!
//! Everything that is measured, with a tool or without, shares the priority; nothing changes between them.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child;

/// The niceness of everything that is measured.
const NICE: i32 = -10;

/// Where the kernel shares processors among sessions first (sched(7), autogroup), the session has a niceness of its own.
const SESSION: &str = "/proc/self/autogroup";

/// No benchmark takes longer.
const LIMIT: Duration = Duration::from_secs(3600);

/// Whether this process leads a session: then nobody else's work shares its priority.
pub fn is_apart() -> bool {
    // SAFETY: both calls take and touch nothing of ours.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Runs this program again, with the same arguments, in a session of its own; gives its exit code.
pub fn run_apart() -> Result<ExitCode> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    // SAFETY: setsid(2) is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
    let mut process = child::start("the benchmark", &mut command, None)?;
    let code = process.wait(LIMIT)?.code().context("the benchmark was killed")?;
    Ok(ExitCode::from(u8::try_from(code)?))
}

/// From here on this process, and those that it starts, go first. Without the right to that, things stay as they are.
pub(crate) fn go_first() {
    // SAFETY: setpriority(2) takes three numbers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if is_apart() {
        // Not every kernel groups by session.
        let _ = std::fs::write(SESSION, NICE.to_string());
    }
}
