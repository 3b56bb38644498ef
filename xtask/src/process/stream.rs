//! A child whose output is passed on line by line, and that is ended when it takes too long, does nothing any more or says
//! nothing any more.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
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
/// How often it is looked whether a child has ended.
const GLIMPSE: Duration = Duration::from_millis(50);
/// Of a second, as /proc tells processor time (USER_HZ, proc(5)).
const TICKS: u128 = 100;

/// How long a child may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) deadline: Duration,
    /// It stands still that uses less than a thousandth of a processor for so long; None: it may wait for others.
    pub(crate) standstill: Option<Duration>,
    /// From one line of its output to the next; None: it may work in silence.
    pub(crate) silence: Option<Duration>,
}

impl Limits {
    /// It may wait for others, and in silence, as long as it ends by then.
    pub(crate) fn of(deadline: Duration) -> Self {
        Self { deadline, standstill: None, silence: None }
    }
}

/// What is told of a child while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Line(&'a str),
    /// It will be ended: now it can still be looked at.
    GivenUp(Overrun),
}

/// The limit at which a child was ended; the error of [`Invocation::stream`] then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overrun {
    Deadline,
    Standstill,
    Silence,
}

impl fmt::Display for Overrun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Deadline => "took too long",
            Self::Standstill => "stood still",
            Self::Silence => "said nothing any more",
        })
    }
}

impl std::error::Error for Overrun {}

#[derive(Clone, Copy)]
enum Stage {
    Running,
    Terminated(Instant),
    Killed(Instant),
}

impl Invocation {
    /// Runs it with no stdin; each line of its stdout is passed on to ours as it comes, and to `tell`.
    /// At a limit it gets a SIGTERM, five seconds later a SIGKILL, and the run is an error: the [`Overrun`].
    pub(crate) fn stream(&self, limits: Limits, mut tell: impl FnMut(Event<'_>)) -> Result<ExitStatus> {
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
        let mut watch = Watch::of(limits);
        let mut overrun = None;
        let mut stage = Stage::Running;
        loop {
            let next = match stage {
                Stage::Running => watch.next(),
                Stage::Terminated(since) | Stage::Killed(since) => since + GRACE,
            };
            match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    watch.heard();
                    tell(Event::Line(&text));
                    relay(self.label.as_deref(), &text);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => match stage {
                    Stage::Running => {
                        let Some(limit) = watch.overrun(child.id()) else { continue };
                        tell(Event::GivenUp(limit));
                        eprintln!("xtask: it {limit}: terminating `{}`", self.name());
                        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).context("SIGTERM")?;
                        overrun = Some(limit);
                        stage = Stage::Terminated(Instant::now());
                    }
                    Stage::Terminated(_) => {
                        child.kill().context("SIGKILL")?;
                        stage = Stage::Killed(Instant::now());
                    }
                    // A grandchild holds the pipe: leave it, and the reader thread with it.
                    Stage::Killed(_) => break,
                },
            }
        }
        if let Some(limit) = overrun {
            end(&mut child, stage).with_context(|| format!("ending `{}`", self.name()))?;
            let seconds = limits.deadline.as_secs();
            return Err(anyhow!(limit).context(format!("`{}`, which had {seconds} s", self.name())));
        }
        let status = child.wait().with_context(|| format!("waiting for `{}`", self.name()))?;
        reader.join().map_err(|_| anyhow!("the reader of `{}` panicked", self.name()))?;
        Ok(status)
    }
}

/// A child that was told to end may have closed its output only.
fn end(child: &mut Child, stage: Stage) -> Result<()> {
    let grace_ends = match stage {
        Stage::Terminated(since) | Stage::Killed(since) => since + GRACE,
        Stage::Running => Instant::now(),
    };
    while child.try_wait()?.is_none() {
        if Instant::now() >= grace_ends {
            child.kill()?;
            // What does not even end by that is left.
            thread::sleep(GLIMPSE);
            child.try_wait()?;
            break;
        }
        thread::sleep(GLIMPSE);
    }
    Ok(())
}

/// Watches over a child's limits.
struct Watch {
    end: Instant,
    idleness: Option<Idleness>,
    silence: Option<Duration>,
    heard: Instant,
}

impl Watch {
    fn of(limits: Limits) -> Self {
        let now = Instant::now();
        let idleness = limits.standstill.map(Idleness::of);
        Self { end: now + limits.deadline, idleness, silence: limits.silence, heard: now }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// When to look next.
    fn next(&self) -> Instant {
        let glance = self.idleness.as_ref().map(|_| Instant::now() + GLANCE);
        let silent = self.silence.map(|silence| self.heard + silence);
        glance.into_iter().chain(silent).fold(self.end, Instant::min)
    }

    fn overrun(&mut self, pid: u32) -> Option<Overrun> {
        let now = Instant::now();
        if self.idleness.as_mut().is_some_and(|idleness| idleness.is_over(pid)) {
            return Some(Overrun::Standstill);
        }
        let silent = self.silence.is_some_and(|silence| now >= self.heard + silence);
        (now >= self.end).then_some(Overrun::Deadline).or(silent.then_some(Overrun::Silence))
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

    use super::{Event, Idleness, Limits, Overrun, processor_ticks};
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
        let limits = Limits { standstill: Some(Duration::from_secs(1)), ..Limits::of(10 * MINUTE) };
        let started = Instant::now();
        let error = Invocation::new("sleep").arg("600").stream(limits, |_| {}).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Overrun::Standstill), "{error:#}");
        assert!(started.elapsed() < MINUTE);
    }

    #[test]
    fn what_says_nothing_any_more_is_looked_at_and_ended() {
        let limits = Limits { silence: Some(Duration::from_secs(1)), ..Limits::of(10 * MINUTE) };
        let mut told = Vec::new();
        let script = "for i in 1 2 3 4; do echo $i; sleep 0.4; done; exec sleep 600";
        let error = Invocation::new("sh").args(["-c", script]).stream(limits, |event| match event {
            Event::Line(line) => told.push(line.to_owned()),
            Event::GivenUp(limit) => told.push(format!("{limit:?}")),
        });
        assert_eq!(error.unwrap_err().downcast_ref(), Some(&Overrun::Silence));
        assert_eq!(told, ["1", "2", "3", "4", "Silence"]);
    }
}
