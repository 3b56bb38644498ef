//! Child processes that cannot be left behind: they end with their guard, and with the lab itself.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// A running child. Dropping it ends it: first politely, then by force.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    name: String,
}

/// Starts `command`, in the network namespace `namespace` where given.
///
/// The child gets SIGTERM when the calling thread ends, so call it from a thread that outlives the child.
pub fn start(name: &str, command: &mut Command, namespace: Option<&Arc<OwnedFd>>) -> Result<Guarded> {
    let namespace = namespace.map(|fd| fd.as_raw_fd());
    // SAFETY: between fork and exec only async-signal-safe calls are made; the descriptor stays open in the parent.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            match namespace {
                Some(fd) if libc::setns(fd, libc::CLONE_NEWNET) != 0 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let child = command.spawn().with_context(|| format!("starting {name}"))?;
    Ok(Guarded { child, name: name.to_owned() })
}

impl Guarded {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's standard output, once, where it was piped.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The child's standard input, once, where it was piped.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        signal_pid(self.pid(), signal).with_context(|| format!("signalling {}", self.name))
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until_some(&what, limit, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // A stopped process would never see the SIGTERM.
        for pid in children(self.pid()).into_iter().chain([self.pid()]) {
            let _ = signal_pid(pid, libc::SIGCONT);
        }
        let workers = children(self.pid());
        let _ = self.signal(libc::SIGTERM);
        for _ in 0..1500 {
            if self.ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in workers {
            let _ = signal_pid(pid, libc::SIGKILL);
        }
    }
}

/// Sends `signal` to `pid`, a process that the lab started.
pub fn signal_pid(pid: u32, signal: libc::c_int) -> Result<()> {
    let pid = i32::try_from(pid).context("pid out of range")?;
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let code = unsafe { libc::kill(pid, signal) };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context(format!("kill({pid}, {signal})")) }
}

/// The direct children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    if let Ok(listed) = listed {
        return listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    }
    // CONFIG_PROC_CHILDREN may be off in a small kernel.
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&candidate| stat_field(candidate, 1).and_then(|parent| parent.parse().ok()) == Some(pid)).collect()
}

/// Where each thread of a process stands, in the kernel's words: of one that does not do what it should.
pub fn standing(pid: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default().trim().to_owned();
        let frames = read("stack").replace('\n', " < ");
        format!("thread {} in {}: system call {}; {frames}", read("comm"), read("wchan"), read("syscall"))
    };
    threads.map(of_thread).collect::<Vec<_>>().join("; ")
}

/// A field of /proc/PID/stat counted from after the command: 0 is the state, 1 the parent.
fn stat_field(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(index).map(str::to_owned)
}

/// Stops a process and waits until the kernel says that it stands still.
pub fn stop(pid: u32) -> Result<()> {
    signal_pid(pid, libc::SIGSTOP)?;
    wait::until("a process to stand still", wait::SOON, || stat_field(pid, 0).as_deref() == Some("T"))
}

/// Lets a stopped process go on.
pub fn go_on(pid: u32) -> Result<()> {
    signal_pid(pid, libc::SIGCONT)
}
