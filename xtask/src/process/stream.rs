//! A child whose output is passed on line by line, and that is ended when it takes too long or does nothing any more.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

use super::Invocation;

/// How long a child has to end once it was told to.
const GRACE: Duration = Duration::from_secs(5);
/// How often its processor time is looked at.
const GLANCE: Duration = Duration::from_secs(10);
/// Of a second, as /proc tells processor time (USER_HZ, proc(5)).
const TICKS: u128 = 100;

/// How long a child may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) deadline: Duration,
    /// It stands still that uses less than a thousandth of a processor for so long; None: it may wait for others.
    pub(crate) standstill: Option<Duration>,
}

impl Limits {
    /// It may wait for others as long as it ends by then.
    pub(crate) fn of(deadline: Duration) -> Self {
        Self { deadline, standstill: None }
    }
}

/// It stood still.
#[derive(Debug)]
pub(crate) struct StoodStill;

impl fmt::Display for StoodStill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("stood still")
    }
}

impl std::error::Error for StoodStill {}

enum Stage {
    Running,
    Terminated(Instant),
    Killed(Instant),
}

impl Invocation {
    /// Runs it with no stdin; each line of its stdout is passed on to ours as it comes, and to `line`.
    /// At the limit it gets a SIGTERM, five seconds later a SIGKILL, and the run is an error: [`StoodStill`] if it did.
    pub(crate) fn stream(&self, limits: Limits, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
        self.echo();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{}`", self.name()))?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || read_lines(stdout, &sender));
        let end = Instant::now() + limits.deadline;
        let mut idleness = limits.standstill.map(Idleness::of);
        let mut stood_still = false;
        let mut stage = Stage::Running;
        loop {
            let next = match stage {
                Stage::Running if idleness.is_some() => end.min(Instant::now() + GLANCE),
                Stage::Running => end,
                Stage::Terminated(since) | Stage::Killed(since) => since + GRACE,
            };
            match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    line(&text);
                    relay(self.label.as_deref(), &text);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => match stage {
                    Stage::Running => {
                        stood_still = idleness.as_mut().is_some_and(|idleness| idleness.is_over(child.id()));
                        if !stood_still && Instant::now() < end {
                            continue;
                        }
                        let why = if stood_still { "it does nothing any more" } else { "it takes too long" };
                        eprintln!("xtask: {why}: terminating `{}`", self.name());
                        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).context("SIGTERM")?;
                        stage = Stage::Terminated(Instant::now());
                    }
                    Stage::Terminated(_) => {
                        child.kill().context("SIGKILL")?;
                        stage = Stage::Killed(Instant::now());
                    }
                    // A grandchild holds the pipe: leave it, and the reader thread with it.
                    Stage::Killed(_) => return Err(self.not_ended(limits, stood_still)),
                },
            }
        }
        let status = child.wait().with_context(|| format!("waiting for `{}`", self.name()))?;
        reader.join().map_err(|_| anyhow!("the reader of `{}` panicked", self.name()))?;
        if !matches!(stage, Stage::Running) {
            return Err(self.not_ended(limits, stood_still));
        }
        Ok(status)
    }

    fn not_ended(&self, limits: Limits, stood_still: bool) -> anyhow::Error {
        let name = self.name();
        match stood_still {
            true => anyhow!(StoodStill).context(format!("`{name}`")),
            false => anyhow!("`{name}` did not end in {} s", limits.deadline.as_secs()),
        }
    }
}

/// For how long a process has done nothing worth mentioning.
struct Idleness {
    limit: Duration,
    since: Instant,
    ticks: u64,
}

impl Idleness {
    fn of(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), ticks: 0 }
    }

    fn is_over(&mut self, pid: u32) -> bool {
        let ticks = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| processor_ticks(&stat));
        // What cannot be read is about to end.
        let Some(ticks) = ticks else { return false };
        self.is_over_at(ticks, Instant::now())
    }

    fn is_over_at(&mut self, ticks: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).max(self.limit).as_millis() * TICKS / 1000;
        if u128::from(ticks.saturating_sub(self.ticks)) * 1000 > passed {
            (self.since, self.ticks) = (now, ticks);
        }
        now.saturating_duration_since(self.since) >= self.limit
    }
}

/// utime and stime of /proc/PID/stat, the 14th and 15th field; a name may contain anything.
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn read_lines(stdout: impl Read, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        if lines.send(text).is_err() {
            break;
        }
        line.clear();
    }
}

/// A reader of ours that went away must not stop the work.
fn relay(label: Option<&str>, line: &str) {
    let label = label.map_or(String::new(), |label| format!("[{label}] "));
    let mut stdout = std::io::stdout().lock();
    // The only possible error is a closed pipe, and the exit code still tells the result.
    let _ = writeln!(stdout, "{label}{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Idleness, Limits, StoodStill, processor_ticks};
    use crate::process::Invocation;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_name_with_parentheses_is_no_field() {
        let stat = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        assert_eq!(processor_ticks(stat), Some(42));
        assert_eq!(processor_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn what_works_a_little_does_not_stand_still() {
        let start = Instant::now();
        let at = |minutes: u32| start + minutes * MINUTE;
        let mut busy = Idleness { limit: 3 * MINUTE, since: start, ticks: 0 };
        assert!((1..20).all(|minutes| !busy.is_over_at(u64::from(minutes) * 60, at(minutes))), "a hundredth");
        let mut idle = Idleness { limit: 3 * MINUTE, since: start, ticks: 0 };
        assert!(!idle.is_over_at(900, at(1)));
        assert!(!idle.is_over_at(901, at(2)));
        assert!(!idle.is_over_at(902, at(3)));
        assert!(idle.is_over_at(903, at(4)), "three minutes after its last work");
    }

    #[test]
    fn what_stands_still_is_ended() {
        let limits = Limits { deadline: 10 * MINUTE, standstill: Some(Duration::from_secs(1)) };
        let started = Instant::now();
        let error = Invocation::new("sleep").arg("600").stream(limits, |_| {}).unwrap_err();
        assert!(error.is::<StoodStill>(), "{error:#}");
        assert!(started.elapsed() < MINUTE);
    }
}
