//! The report as text and as JSON.

use std::fmt::Write as _;

use serde_json::json;

use super::Report;
use crate::{context::process::Role, model::observation::State, settings::Format, trace::observation};

impl Report {
    /// The whole answer.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Text => self.for_people(),
            Format::Json => self.for_programs(),
        }
    }

    fn for_programs(&self) -> String {
        let processes: Vec<_> = self
            .processes
            .iter()
            .map(|process| {
                json!({
                    "pid": process.pid,
                    "comm": process.comm,
                    "exe": process.executable.as_ref().map(|path| path.to_string_lossy()),
                    "role": role(process.role),
                })
            })
            .collect();
        let observations: Vec<_> = self.observations.iter().map(observation).collect();
        let programs: Vec<_> = self
            .programs
            .iter()
            .map(|(hook, verified)| json!({ "hook": hook, "verified_instructions": verified }))
            .collect();
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": self.kernel,
            "verdicts_possible": self.verdicts_possible(),
            "problems": self.problems,
            "missing_capabilities": self.missing_capabilities,
            "missing_members": self.missing_members,
            "misfits": self.misfits,
            "programs": programs,
            "processes": processes,
            "observations": observations,
        });
        format!("{report:#}\n")
    }

    fn for_people(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "why502 {} on Linux {}\n", env!("CARGO_PKG_VERSION"), self.kernel)?;
        if self.verdicts_possible() {
            writeln!(text, "Verdicts are possible here.\n")?;
        } else {
            writeln!(text, "It cannot run here:")?;
            for problem in &self.problems {
                writeln!(text, "  {problem}")?;
            }
            writeln!(text)?;
        }
        if self.processes.is_empty() {
            writeln!(text, "No process to trace is running; one that starts later is traced at once.\n")?;
        } else {
            writeln!(text, "Processes to trace:")?;
            for process in &self.processes {
                let binary = process.executable.as_ref().map_or("?".into(), |path| path.to_string_lossy());
                let comm = printable(&process.comm);
                writeln!(text, "  {:>7}  {comm:<15} {:<8} {}", process.pid, role(process.role), printable(&binary))?;
            }
            writeln!(text)?;
        }
        if !self.observations.is_empty() {
            writeln!(text, "{:<17} {:<8} hook", "observation", "state")?;
        }
        for observation in &self.observations {
            let state = match observation.state {
                State::Full => "full",
                State::Partial => "partial",
                State::None => "none",
            };
            let hook = observation.hook.as_deref().unwrap_or("-");
            writeln!(text, "{:<17} {state:<8} {hook}", observation.name.id())?;
            if let Some(missing) = &observation.missing {
                writeln!(text, "{:<26} {}", "", printable(missing))?;
            }
        }
        for member in &self.missing_members {
            writeln!(text, "missing detail: {member}")?;
        }
        Ok(())
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Worker => "worker",
        Role::Cache => "cache",
        Role::Other => "other",
    }
}

/// Names come from outside: control characters must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
