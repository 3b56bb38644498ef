//! Options as typed, and the settings they mean. Parses and judges nothing else.

mod convert;
mod options;
mod outputs;
mod value;

use clap::{CommandFactory, Parser};
use options::Cli;

use crate::settings::Command;

/// What the user asked for. Ends the process with help (0) or a usage error (2) where there is nothing to do.
pub fn parse() -> Command {
    Cli::parse().into()
}

/// The same from given arguments, the program's name first.
pub fn parse_from<I, T>(arguments: I) -> Result<Command, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    Cli::try_parse_from(arguments).map(Into::into)
}

/// The description that man pages and completions are made of.
pub fn description() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
