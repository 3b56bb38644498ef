//! The `why502` command: from what the user asked for to the module that does it.

use std::{io::Write as _, process::ExitCode};

use why502::{
    cli, doctor,
    exit::{self, Exit},
    explain,
    settings::{Command, WatchSettings},
    sink::{Sinks, log::OpenError},
    trace,
};

fn main() -> ExitCode {
    exit::finish(run(cli::parse()))
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Trace(settings) => watch(&settings.watch, || settings.sinks()),
        Command::Record(settings) => watch(&settings.watch, || settings.sinks()),
        Command::Explain(settings) => {
            std::io::stdout().write_all(explain::answer(settings.subject, columns()).as_bytes())?;
            Ok(Exit::Fine)
        }
        Command::Doctor(settings) => {
            let report = doctor::examine(&settings);
            std::io::stdout().write_all(report.text(settings.format).as_bytes())?;
            Ok(if report.verdicts_possible() { Exit::Fine } else { Exit::Failed })
        }
    }
}

/// Traces into these sinks until something stops it.
fn watch(settings: &WatchSettings, sinks: impl FnOnce() -> Result<Sinks, OpenError>) -> anyhow::Result<Exit> {
    trace::possible(&settings.processes, &settings.pids)?;
    let mut sinks = sinks()?;
    trace::run(settings, &mut sinks)?;
    Ok(if settings.fail && sinks.gateway_errors() > 0 { Exit::Seen } else { Exit::Fine })
}

/// Columns to fill with prose: those of the terminal, within reason.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(100, |size| usize::from(size.ws_col)).clamp(40, 100)
}
