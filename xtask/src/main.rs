//! `cargo xtask`: everything this repository can do to itself.
//!
//! Owns the dispatch and the exit code, nothing else. Exit: 0 fine, 1 a step failed, 2 usage or something is
//! missing that may not be installed (the commands that would install it have been printed).

mod arch;
mod archive;
mod bench;
mod build;
mod cli;
mod nginx;
mod paths;
mod process;
mod run;
mod setup;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Task};
use paths::Repository;
use setup::{Need, Setup};

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<setup::Missing>() => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    let repository = Repository::find()?;
    let setup = Setup::new(&repository, cli.policy());
    match cli.task {
        Task::Setup => setup.ensure(&Need::ALL).map(|_| 0),
        Task::Build(options) => build::build(&repository, &setup, &options).map(|_| 0),
        Task::Run(options) => run::run(&repository, &setup, &options.arguments),
        Task::Demo(options) => run::demo(&repository, &setup, &options.arguments),
        Task::Bench(options) => bench::bench(&repository, &setup, &options),
        Task::Vm(options) => vm::vm(&repository, &setup, &options),
        Task::Test(options) => test::test(&repository, &setup, &options),
    }
}
