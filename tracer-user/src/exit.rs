//! How the program ends: exit codes, and what it says when it could not do its job.

use std::io::{self, Write};
use std::process::ExitCode;

/// All codes but 101, which is a panic: our own bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked to.
    Fine,
    /// `--fail` was given, and a 502 or 504 was seen.
    Seen,
    /// Wrong usage (clap says so itself), or it could not do its job.
    Failed,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Seen => 1,
            Self::Failed => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What to do about an error: attach it as the outermost context with [`advise`].
#[derive(Debug)]
struct Advice(String);

impl std::fmt::Display for Advice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Advice {}

/// Adds what the user can do about an error.
pub fn advise(error: anyhow::Error, what_to_do: impl Into<String>) -> anyhow::Error {
    error.context(Advice(what_to_do.into()))
}

/// The end of the program: says what went wrong, if anything did, on standard error.
pub fn finish(result: Result<Exit, anyhow::Error>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            say(&message(&error));
            Exit::Failed.into()
        }
    }
}

/// Says something on standard error. Where that is closed, nobody wants to know.
pub fn say(text: &str) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut whole = format!("why502: {first}\n");
    for line in lines {
        whole.push_str(line);
        whole.push('\n');
    }
    let _ = io::stderr().write_all(whole.as_bytes());
}

/// Nobody reads our output any more: a clean end.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `what: why`, and what to do on a line of its own.
fn message(error: &anyhow::Error) -> String {
    let advice = error.downcast_ref::<Advice>().map(|advice| advice.0.clone());
    let mut parts: Vec<String> = Vec::new();
    for part in error.chain().map(ToString::to_string) {
        // Some errors repeat their cause in their own text.
        if advice.as_ref() != Some(&part) && !parts.last().is_some_and(|before| before.ends_with(&part)) {
            parts.push(part);
        }
    }
    let mut message = parts.join(": ");
    for line in advice.iter().flat_map(|advice| advice.lines()) {
        message.push_str("\n  ");
        message.push_str(line);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context, anyhow};

    use super::{Exit, advise, is_closed_pipe, message};

    #[test]
    fn what_why_and_what_to_do() {
        let error =
            Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied)).context("loading the kernel programs");
        let error = advise(error.unwrap_err(), "run it as root, or give it CAP_BPF and CAP_PERFMON");
        assert_eq!(
            message(&error),
            "loading the kernel programs: permission denied\n  run it as root, or give it CAP_BPF and CAP_PERFMON"
        );
    }

    #[test]
    fn advice_may_be_given_within() {
        let error = advise(anyhow!("no nginx runs"), "start it, or give --process").context("finding nginx");
        assert_eq!(message(&error), "finding nginx: no nginx runs\n  start it, or give --process");
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let error = anyhow!("disk full").context("cannot write x: disk full");
        assert_eq!(message(&error), "cannot write x: disk full");
        assert_eq!(message(&anyhow!("plain")), "plain");
    }

    #[test]
    fn a_closed_pipe_is_a_clean_end() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing verdicts");
        assert!(is_closed_pipe(&error) && !is_closed_pipe(&anyhow!("other")));
    }

    #[test]
    fn codes_are_published() {
        assert_eq!([Exit::Fine, Exit::Seen, Exit::Failed].map(Exit::code), [0, 1, 2]);
    }
}
