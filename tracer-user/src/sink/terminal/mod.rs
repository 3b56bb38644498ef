//! The terminal: verdicts for people as they happen, and the summary at the end.
//!
//! Verdicts and the summary are data (standard output); what is said about the tracing itself is talk (standard error).

mod fold;
mod line;
pub(crate) mod number;
pub(super) mod screen;
pub(crate) mod text;

use std::io::{self, Write};

use fold::{Folding, Kind};
use jiff::tz::TimeZone;
use line::Look;
pub use screen::{ColorChoice, Screen};

use super::recent::Recent;
use super::summary::Summary;
use super::{Sink, Talk};
use crate::model::cause::Cause;
use crate::record::{Change, Lost, ObservationState, Outcome, Record, Role, Session, Timestamp, WorkerChange};

/// Failures whose updates can still be named.
const REMEMBERED: usize = 1024;

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// The summary alone.
    Quiet,
    #[default]
    Normal,
    /// With the evidence.
    Verbose,
}

/// A sink for people.
pub struct Terminal<W> {
    output: W,
    talk: Talk,
    screen: Screen,
    look: Look,
    folding: Folding,
    summary: Summary,
    shown: Recent<(Cause, Option<String>)>,
    buffer: String,
    /// Something stands above the summary.
    printed: bool,
}

impl<W> std::fmt::Debug for Terminal<W> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Terminal").field("screen", &self.screen).finish_non_exhaustive()
    }
}

impl<W: Write> Terminal<W> {
    /// Times are shown in `zone`.
    pub fn new(output: W, screen: Screen, verbosity: Verbosity, zone: TimeZone, talk: Talk) -> Self {
        let look = Look { palette: screen.palette(), width: screen.width(), zone, verbosity };
        Self {
            output,
            talk,
            screen,
            look,
            folding: Folding::default(),
            summary: Summary::default(),
            shown: Recent::new(REMEMBERED),
            buffer: String::new(),
            printed: false,
        }
    }

    fn show(&mut self, record: &Record) {
        let out = &mut self.buffer;
        match record {
            Record::Failure(failure) => {
                let upstream = failure.upstream.as_ref().map(|upstream| upstream.address.clone());
                let kind = Kind { cause: failure.cause, upstream };
                let (singly, due) = self.folding.admit(&kind, failure.time, failure.status, failure.outcome);
                due.iter().for_each(|folded| self.look.folded(folded, out));
                if singly {
                    self.look.failure(failure, out);
                    self.shown.insert(failure.id, (kind.cause, kind.upstream));
                }
            }
            Record::Response(response) if !response.is_of_last_failure() => {
                let kind = Kind { cause: response.cause, upstream: response.upstream.clone() };
                let (singly, due) = self.folding.admit(&kind, response.time, Some(response.status), Outcome::Final);
                due.iter().for_each(|folded| self.look.folded(folded, out));
                if singly {
                    self.look.response(response, out);
                }
            }
            Record::Update(update) => {
                if let (Some(root), Some((cause, upstream))) = (&update.root, self.shown.get(update.failure)) {
                    self.look.later(update.time, *cause, upstream.as_deref(), root, out);
                }
            }
            Record::Lost(Lost { counted: Some(counted), time, .. }) => {
                let folded = self.folding.add(counted, *time);
                folded.iter().for_each(|folded| self.look.folded(folded, out));
            }
            Record::Overflow(overflow) => self.look.overflow(overflow, out),
            Record::Exit(exit) => self.look.exit(exit, out),
            Record::Attempt(attempt) => self.look.attempt(attempt, out),
            // The answer is on the line of its last failure.
            Record::Response(_) => {}
            Record::Session(_) | Record::Worker(_) | Record::Lost(_) | Record::Stats(_) | Record::End(_) => {}
        }
    }

    fn fold_out(&mut self, folded: &[fold::Folded]) {
        if self.look.verbosity != Verbosity::Quiet {
            folded.iter().for_each(|folded| self.look.folded(folded, &mut self.buffer));
        }
    }
}

impl<W: Write> Sink for Terminal<W> {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.summary.count(record);
        match record {
            Record::Session(session) => header(session).iter().for_each(|line| (self.talk)(line)),
            Record::Lost(lost) if lost.counted.is_none() => {
                let line = line::lost(lost);
                (self.talk)(&self.screen.talk_palette().paint(text::Ink::Warning, line));
            }
            Record::Worker(WorkerChange { time: _, change, process }) if self.look.verbosity == Verbosity::Verbose => {
                let change = match change {
                    Change::Appeared => "appeared",
                    Change::Gone => "is gone",
                };
                (self.talk)(&format!("{}[{}] {change}", text::escape(&process.comm), process.pid));
            }
            Record::End(end) => {
                let rest = self.folding.rest();
                self.fold_out(&rest);
                if self.printed || !self.buffer.is_empty() {
                    self.buffer.push('\n');
                }
                self.buffer.push_str(&self.summary.text(end, self.look.palette, self.look.width, &self.look.zone));
            }
            other if self.look.verbosity != Verbosity::Quiet => self.show(other),
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        self.look.width = self.screen.width();
        let due = self.folding.due(now);
        self.fold_out(&due);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.printed |= !self.buffer.is_empty();
        let written = self.output.write_all(self.buffer.as_bytes());
        self.buffer.clear();
        written?;
        self.output.flush()
    }
}

/// What is traced and how well: one line, and another if something cannot be seen.
fn header(session: &Session) -> Vec<String> {
    let role = |wanted| session.processes.iter().filter(move |process| process.role == Some(wanted));
    let masters: Vec<_> = role(Role::Master).map(|process| process.pid.to_string()).collect();
    let workers = session.processes.iter().filter(|process| matches!(process.role, Some(Role::Worker) | None)).count();
    let name = session.processes.first().map_or("nginx", |process| process.comm.as_str());
    let what = match (workers, masters.len()) {
        (0, 0) => "no process to trace yet, waiting".to_owned(),
        (_, 0) => format!("tracing {} of {}", number::counted(workers as u64, "worker"), text::escape(name)),
        (_, 1..=4) => format!(
            "tracing {} of {} (pid {})",
            number::counted(workers as u64, "worker"),
            text::escape(name),
            masters.join(", ")
        ),
        (_, many) => {
            format!("tracing {} of {many} {}", number::counted(workers as u64, "worker"), text::escape(name))
        }
    };
    let state = |wanted| session.observations.iter().filter(move |observation| observation.state == wanted);
    let all = session.observations.len();
    let seen = all - state(ObservationState::None).count();
    let mut lines = vec![format!("{what}; {seen} of {all} observations; ctrl-c for the summary")];
    let missing: Vec<_> = state(ObservationState::None).map(|observation| observation.name.as_ref()).collect();
    let partial: Vec<_> = state(ObservationState::Partial).map(|observation| observation.name.as_ref()).collect();
    let named = [("not observed", missing), ("observed in part", partial)];
    let named: Vec<_> = named
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(", ")))
        .collect();
    if !named.is_empty() {
        lines.push(format!("{}; `why502 doctor` says what that hides", named.join("; ")));
    }
    lines
}

#[cfg(test)]
mod tests;
