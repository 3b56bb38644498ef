//! The scenarios, one file per subject. Adding one is an entry in a table.

mod body;
mod capture;
mod cli;
mod clients;
mod commands;
mod connect;
mod crowd;
mod exhausted;
mod firewall;
mod handled;
mod healthy;
mod hooks;
mod hostile;
mod keepalive;
mod kernel_only;
mod listening;
mod lua;
mod misspoken;
mod mixed;
mod mixed_rate;
mod nameless;
mod nat;
mod negative;
mod no_attempt;
mod origins;
mod protocols;
mod queues;
mod real;
mod refusal;
mod reload;
mod remote;
mod response;
mod retry;
mod roots;
mod scene;
mod sending;
mod storm;
mod subrequests;
mod tls;
mod tls_sessions;
mod traced;
mod traffic;
mod unix;
mod unix_roots;
mod upgrade;
mod witness;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::scenario::{Need, Scenario};
use crate::stage::Options;

pub use crowd::stand;

/// A test of the program `why502` itself, by hand.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name, `subject/what`.
    pub name: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// Runs it; says in a few words what was seen.
    pub run: fn(&Path, &Options) -> Result<String>,
}

/// Anything that the lab can run.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// Traffic past nginx, compared with the records.
    Traffic(&'static Scenario),
    /// A test by hand.
    Program(&'static Program),
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traffic(scenario) => scenario.name,
            Self::Program(program) => program.name,
        }
    }
}

/// All of them, in the order of running.
pub fn all() -> impl Iterator<Item = Entry> {
    let traffic = [
        connect::SCENARIOS,
        refusal::SCENARIOS,
        unix::SCENARIOS,
        tls::SCENARIOS,
        tls_sessions::SCENARIOS,
        sending::SCENARIOS,
        response::SCENARIOS,
        protocols::SCENARIOS,
        misspoken::SCENARIOS,
        retry::SCENARIOS,
        keepalive::SCENARIOS,
        body::SCENARIOS,
        no_attempt::SCENARIOS,
        mixed::SCENARIOS,
        mixed_rate::SCENARIOS,
        handled::SCENARIOS,
        subrequests::SCENARIOS,
        origins::SCENARIOS,
        exhausted::SCENARIOS,
        clients::SCENARIOS,
        witness::SCENARIOS,
        nameless::SCENARIOS,
        kernel_only::SCENARIOS,
        lua::SCENARIOS,
        negative::SCENARIOS,
        roots::SCENARIOS,
        // Last: the kernel's table of sockets is long after these, and slow to read.
        reload::SCENARIOS,
        healthy::SCENARIOS,
    ];
    let programs = [
        cli::PROGRAMS,
        capture::PROGRAMS,
        commands::PROGRAMS,
        traced::PROGRAMS,
        upgrade::PROGRAMS,
        hostile::PROGRAMS,
        hooks::PROGRAMS,
        storm::PROGRAMS,
        roots::PROGRAMS,
        queues::PROGRAMS,
        listening::PROGRAMS,
        crowd::PROGRAMS,
        firewall::PROGRAMS,
        nat::PROGRAMS,
        remote::PROGRAMS,
        unix_roots::PROGRAMS,
    ];
    let programs = programs.into_iter().chain(real::PROGRAMS.iter().copied());
    traffic.into_iter().flatten().map(Entry::Traffic).chain(programs.flatten().map(Entry::Program))
}

/// Where a server's program is, if it is installed.
pub fn real_program(name: &str) -> Option<PathBuf> {
    real::program(name)
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn names_are_unique_and_tell_the_subject() {
        let mut seen = std::collections::HashSet::new();
        for entry in all() {
            assert!(entry.name().contains('/'), "{}", entry.name());
            assert!(seen.insert(entry.name()), "{} is there twice", entry.name());
        }
    }
}
