//! A running `why502` and the records that it wrote.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::child::{self, Guarded};
use crate::wait;

/// How long attaching may take: the kernel verifies every program.
const ATTACH: Duration = Duration::from_secs(30);
/// Detaching waits for every CPU to have left the programs.
const END: Duration = Duration::from_secs(30);

/// `why502 trace --format json`, or whatever the options say, with its output collected.
#[derive(Debug)]
pub struct Tracer {
    process: Guarded,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    stderr: PathBuf,
}

impl Tracer {
    /// Starts it with these arguments; does not wait for anything.
    pub fn start(binary: &Path, arguments: &[String], directory: &Path) -> Result<Self> {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let stderr = directory.join(format!("why502-{number}.stderr"));
        let mut command = Command::new(binary);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&stderr)?);
        let mut process = child::start("why502", &mut command, None)?;
        let stdout = process.take_stdout().context("why502's stdout")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap_or_else(|error| format!("unreadable: {error}"));
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { process, lines, reader: Some(reader), stderr })
    }

    /// Starts it on `master` and waits until its hooks are attached.
    pub fn attach(binary: &Path, master: u32, options: &[&str], directory: &Path) -> Result<Self> {
        let mut arguments: Vec<String> = ["trace", "--format", "json", "--pid"].map(str::to_owned).into();
        arguments.push(master.to_string());
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let mut tracer = Self::start(binary, &arguments, directory)?;
        tracer.ready()?;
        Ok(tracer)
    }

    /// Waits for the `session` record.
    pub fn ready(&mut self) -> Result<()> {
        let found = wait::until("why502's session record", ATTACH, || {
            self.process.ended().is_some() || self.lines().iter().any(|line| line.contains("\"session\""))
        });
        let attached = found.is_ok() && self.process.ended().is_none();
        found.with_context(|| format!("{}{}", self.complaints(), child::standing(self.pid())))?;
        ensure!(attached, "why502 ended before it was ready: {}", self.complaints());
        Ok(())
    }

    /// What it wrote to stdout so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it wrote to stderr.
    pub fn complaints(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default().trim().to_owned()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether one of its threads has this name.
    pub fn has_thread(&self, name: &str) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok()).any(|comm| comm.trim() == name)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for its end; gives the exit status and every line of stdout.
    pub fn wait(mut self, limit: Duration) -> Result<Finished> {
        let status = self.process.wait(limit).with_context(|| self.complaints())?;
        if let Some(reader) = self.reader.take() {
            reader.join().ok().context("the reader of why502's output")?;
        }
        Ok(Finished { status, lines: self.lines(), complaints: self.complaints() })
    }

    /// Asks it to end with SIGINT and waits.
    pub fn finish(self) -> Result<Finished> {
        self.signal(libc::SIGINT)?;
        self.wait(END)
    }
}

/// A `why502` that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub lines: Vec<String>,
    /// Its standard error.
    pub complaints: String,
}

/// The records of JSON Lines, and what is wrong with the lines that are none.
pub fn records<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<Value>, Vec<String>) {
    let mut records = Vec::new();
    let mut problems = Vec::new();
    for line in lines {
        match serde_json::from_str::<Value>(line) {
            Ok(record) if record["type"].is_string() => records.push(record),
            Ok(_) => problems.push(format!("a record without type: {line}")),
            Err(error) => problems.push(format!("no JSON ({error}): {line}")),
        }
    }
    (records, problems)
}

/// The records of one type.
pub fn of_type<'a>(records: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["type"] == kind)
}
