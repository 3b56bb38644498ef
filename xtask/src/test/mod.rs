//! `test`: every step this machine can run, one line for each at the end, and the sum as the last line.
//!
//! A step that fails does not stop the others. A step that cannot run here is skipped, with the reason.

mod accuracy;
mod budget;
mod count;
mod failures;
mod kernels;
mod lab;
mod lint;
mod nginx;
mod unit;
mod vm;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::archive::Unavailable;
use crate::cli::TestOptions;
use crate::paths::Repository;
use crate::setup::{Missing, Setup};
use budget::{Budget, Over};
use count::Count;
use failures::Failures;
pub(crate) use nginx::EVERY;

/// The step with the installed nginx.
const HOST: &str = "host";

/// What remains to be done for a step once it is prepared.
type Work<'a> = Box<dyn FnOnce() -> Result<Outcome> + Send + 'a>;

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Nobody but root may load eBPF programs.
#[derive(Debug)]
struct NotRoot;

impl fmt::Display for NotRoot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("loading eBPF programs takes root")
    }
}

impl std::error::Error for NotRoot {}

/// What one step came to.
#[derive(Debug)]
struct Outcome {
    count: Count,
    /// Why it was skipped, or what failed where the output above does not say.
    note: Option<String>,
    /// What the step's own output said of its failures: it is far above the sum.
    failures: Vec<String>,
}

impl Outcome {
    fn of(count: Count) -> Self {
        Self { count, note: None, failures: Vec::new() }
    }

    fn passed() -> Self {
        Self::of(Count { passed: 1, ..Count::default() })
    }

    fn failed(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..Self::of(Count { failed: 1, ..Count::default() }) }
    }

    fn skipped(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..Self::of(Count { skipped: 1, ..Count::default() }) }
    }

    /// With these lines of its output.
    fn because(mut self, failures: Vec<String>) -> Self {
        self.failures = failures;
        self
    }

    /// One more failure, which the counts do not know of.
    fn and_failed(mut self, note: impl Into<String>) -> Self {
        self.count.failed += 1;
        self.note = Some(note.into());
        self
    }

    /// What may not be installed, what the archive does not have, what takes root and what there is no time for is skipped; every
    /// other error is a failure.
    fn from_error(error: &anyhow::Error) -> Self {
        let skipped = error.is::<Unavailable>() || error.is::<Over>() || error.is::<NotRoot>();
        match error.downcast_ref::<Missing>() {
            Some(missing) => Self::skipped(missing.summary()),
            None if skipped => Self::skipped(format!("{error:#}")),
            None => Self::failed(format!("{error:#}")),
        }
    }
}

/// A step that was carried out.
#[derive(Debug)]
struct Step {
    name: String,
    outcome: Outcome,
    took: Duration,
}

/// The steps as they are carried out, and their sum.
#[derive(Debug, Default)]
struct Report {
    steps: Vec<Step>,
}

impl Report {
    fn step(&mut self, name: impl Into<String>, step: impl FnOnce() -> Result<Outcome>) {
        self.steps.push(carried_out(name.into(), step));
    }

    /// Steps that do not depend on each other, `at_once` of them at a time; in the report they stand as they are given.
    fn steps_at_once<S>(&mut self, at_once: usize, steps: Vec<(String, S)>)
    where
        S: FnOnce() -> Result<Outcome> + Send,
    {
        let waiting = Mutex::new(steps.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((place, (name, step))) = next() {
                let step = carried_out(name, step);
                done.lock().unwrap_or_else(PoisonError::into_inner).push((place, step));
            }
        };
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(work);
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        self.steps.extend(done.into_iter().map(|(_, step)| step));
    }

    fn print(&self) -> Count {
        let mut sum = Count::default();
        println!();
        for Step { name, outcome, .. } in &self.steps {
            for line in &outcome.failures {
                println!("{name}: {line}");
            }
        }
        for Step { name, outcome: Outcome { count, note, .. }, took } in &self.steps {
            sum += *count;
            let verdict = match (count.failed, count.passed) {
                (1.., _) => "FAILED",
                (0, 0) => "skipped",
                (0, _) => "ok",
            };
            let note = note.as_ref().map_or(String::new(), |note| format!(" - {note}"));
            println!("{verdict:<8} {name:<28} {:>5} s  {count}{note}", took.as_secs());
        }
        println!("{sum}");
        sum
    }
}

fn carried_out(name: String, step: impl FnOnce() -> Result<Outcome>) -> Step {
    eprintln!("== {name}");
    let begun = Instant::now();
    let outcome = step().unwrap_or_else(|error| Outcome::from_error(&error));
    if let Some(note) = &outcome.note {
        eprintln!("== {name}: {note}");
    }
    Step { name, outcome, took: begun.elapsed() }
}

/// What the steps of the lab are made with.
struct Lab<'a> {
    repository: &'a Repository,
    setup: &'a Setup<'a>,
    options: &'a TestOptions,
    budget: Budget,
}

/// Exit code 0 only if nothing failed.
pub(crate) fn test(repository: &Repository, setup: &Setup<'_>, options: &TestOptions) -> Result<u8> {
    let selection = Selection::of(options);
    let lab = Lab { repository, setup, options, budget: Budget::of(options.within) };
    let mut report = Report::default();
    if selection.unit {
        lint::steps(&mut report, repository, setup);
        report.step("unit tests", || unit::run(repository));
    }
    let host = selection.host.then(|| lab::host(&lab));
    let nginx = selection.nginx.then(|| nginx::steps(&lab));
    // Faults are times that pass, most of them: a processor has room for more.
    report.steps_at_once(processors(), host.into_iter().chain(nginx.into_iter().flatten()).collect());
    if selection.vm {
        vm::steps(&mut report, &lab);
    }
    if selection.host || selection.nginx {
        accuracy::step(&mut report, repository);
    }
    if selection.host || selection.vm {
        kernels::step(&mut report, repository);
    }
    let sum = report.print();
    Ok(u8::from(sum.failed > 0))
}

struct Selection {
    unit: bool,
    host: bool,
    nginx: bool,
    vm: bool,
}

impl Selection {
    fn of(options: &TestOptions) -> Self {
        let TestOptions { unit, host, nginx, vm, kernel, all: _, within: _ } = options;
        let nginx = !nginx.is_empty();
        let vm = *vm || !kernel.is_empty();
        let everything = !(*unit || *host || nginx || vm);
        Self { unit: *unit || everything, host: *host || everything, nginx: nginx || everything, vm: vm || everything }
    }
}
