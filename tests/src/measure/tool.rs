//! What can watch nginx while it is measured: `why502`, and tools that people use today.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::programs;
use super::site::Site;
use crate::child::{self, Guarded};
use crate::wait;

/// How long attaching may take: bpftrace compiles first.
const ATTACH: Duration = Duration::from_secs(30);
/// A peer's programs are attached when their number has not changed for so long.
const SETTLED: Duration = Duration::from_millis(300);

/// Tracepoints are mounted for this process alone: the host stays as it is.
const WITH_TRACEPOINTS: &str = "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; \
                                mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null; exec \"$@\"";

/// A way to watch nginx.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    command: Vec<String>,
    /// `why502`: says when it is attached, and may not fail.
    own: bool,
}

/// A tool at work; it ends with its guard.
#[derive(Debug)]
pub(crate) struct Running {
    process: Guarded,
    /// From its start to all hooks being attached.
    pub(crate) ready: Duration,
    /// Its standard output, or the capture.
    pub(crate) output: PathBuf,
    stderr: PathBuf,
}

/// What became of starting it.
#[derive(Debug)]
pub(crate) enum Started {
    Running(Running),
    /// It does not run here, in its own words.
    Cannot(String),
}

impl Tool {
    /// `why502 record`, with more options.
    pub(crate) fn why502(name: &'static str, binary: &Path, site: &Site, options: &[&str]) -> Self {
        let mut command =
            vec![binary.display().to_string(), "record".into(), "--pid".into(), site.master().to_string()];
        command.extend(options.iter().map(|&option| option.to_owned()));
        Self { name, command, own: true }
    }

    /// The others, each told to watch only this nginx's upstreams where it can be.
    pub(crate) fn peers(site: &Site) -> Vec<Self> {
        let ports = site.upstream_ports();
        let filter: Vec<String> = ports.split(',').map(|port| format!("args->dport == {port}")).collect();
        let count = "tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); }".to_owned();
        let print = format!(
            "tracepoint:sock:inet_sock_set_state /{}/ {{ printf(\"%d %d %d\\n\", args->dport, args->oldstate, args->newstate); }}",
            filter.join(" || ")
        );
        let tool = |name, words: &[&str]| {
            let words = ["unshare", "--mount", "sh", "-c", WITH_TRACEPOINTS, "sh"].iter().chain(words);
            Self { name, command: words.map(|&word| word.to_owned()).collect(), own: false }
        };
        vec![
            tool("bpftrace, counting state changes", &["bpftrace", "-e", &count]),
            tool("bpftrace, printing upstream state changes", &["bpftrace", "-e", &print]),
            tool("tcplife -D", &["tcplife", "-D", &ports]),
            tool("tcpstates -D", &["tcpstates", "-D", &ports]),
            tool("tcpconnlat -p", &["tcpconnlat", "-p", &site.master().to_string()]),
            tool("tcptracer", &["tcptracer"]),
        ]
    }

    /// Starts it and waits until its hooks are attached.
    pub(crate) fn start(&self, directory: &Path) -> Result<Started> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let output = directory.join(format!("tool-{number}.out"));
        let stderr = directory.join(format!("tool-{number}.err"));
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null()).stderr(File::create(&stderr)?);
        if self.own {
            command.arg("--log").arg(&output).stdout(Stdio::null());
        } else {
            command.stdout(File::create(&output)?);
        }
        let start = Instant::now();
        let process = child::start(self.name, &mut command, None)?;
        let mut running = Running { process, ready: Duration::ZERO, output, stderr };
        let attached = if self.own { running.says_so() } else { running.settles() };
        running.ready = start.elapsed();
        if running.process.ended().is_some() {
            ensure!(!self.own, "{} ended: {}", self.name, running.complaint());
            return Ok(Started::Cannot(running.complaint()));
        }
        attached.with_context(|| format!("{}: {}", self.name, running.complaint()))?;
        Ok(Started::Running(running))
    }

    /// The same for a tool that has to run.
    pub(crate) fn must_start(&self, directory: &Path) -> Result<Running> {
        match self.start(directory)? {
            Started::Running(running) => Ok(running),
            Started::Cannot(why) => anyhow::bail!("{}: {why}", self.name),
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn says_so(&mut self) -> Result<()> {
        wait::until("its session record", ATTACH, || {
            let written = fs::metadata(&self.output).is_ok_and(|data| data.len() > 0);
            written || self.process.ended().is_some()
        })
    }

    fn settles(&mut self) -> Result<()> {
        let mut last = (0, Instant::now());
        wait::until("its programs", ATTACH, || {
            let loaded = programs::of(self.process.pid()).len();
            if loaded != last.0 {
                last = (loaded, Instant::now());
            }
            self.process.ended().is_some() || (loaded > 0 && last.1.elapsed() >= SETTLED)
        })
    }

    /// The last thing it said on standard error.
    fn complaint(&self) -> String {
        let said = fs::read(&self.stderr).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        line.chars().filter(|letter| !letter.is_control()).take(120).collect()
    }

    /// Ends it as a user would; gives its output file.
    pub(crate) fn stop(mut self) -> Result<PathBuf> {
        ensure!(self.process.ended().is_none(), "it ended by itself: {}", self.complaint());
        self.process.signal(libc::SIGINT)?;
        self.process.wait(wait::SOON)?;
        Ok(self.output.clone())
    }
}

/// Removes a tool's output and its rotated parts.
pub(crate) fn remove(output: &Path) {
    let Some((directory, name)) = output.parent().zip(output.file_stem()) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes()) {
            // What stays goes with the directory.
            let _ = fs::remove_file(entry.path());
        }
    }
}
