//! Child processes: one builder that can print itself as a shell line, and the ways to run it.
//!
//! Every command that does something is echoed to stderr before it runs; questions (`output`, `succeeds`) are not.

mod stream;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};

pub(crate) use stream::{Event, Limits, Overrun};

/// A command line with its environment.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    /// What each line of [`Self::stream`] begins with.
    label: Option<String>,
}

impl Invocation {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), environment: Vec::new(), directory: None, label: None }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_path_buf());
        self
    }

    /// Whose output it is, where several run at once.
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// The same command for root: unchanged if we are, else through sudo.
    pub(crate) fn for_root(self) -> Self {
        if is_root() {
            return self;
        }
        let mut assignments: Vec<OsString> = Vec::new();
        for (name, value) in &self.environment {
            let mut assignment = name.clone();
            assignment.push("=");
            assignment.push(value);
            assignments.push(assignment);
        }
        Self {
            program: "sudo".into(),
            arguments: assignments.into_iter().chain([self.program]).chain(self.arguments).collect(),
            environment: Vec::new(),
            directory: self.directory,
            label: self.label,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        leave_no_trace_of_cargo(&mut command);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    fn echo(&self) {
        eprintln!("$ {self}");
    }

    /// Runs it with its output on our stderr: it is not what we were asked for. An exit status other than 0 is an error.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self.status()?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.name());
        }
        Ok(())
    }

    /// The same, with the exit status as the result.
    pub(crate) fn status(&self) -> Result<ExitStatus> {
        self.echo();
        self.command().stdout(std::io::stderr()).status().with_context(|| format!("cannot run `{}`", self.name()))
    }

    /// Replaces this process, so that signals reach the program itself. Returns only on error.
    pub(crate) fn exec(&self) -> anyhow::Error {
        self.echo();
        anyhow!(self.command().exec()).context(format!("cannot run `{}`", self.name()))
    }

    /// Its stdout, silently; an exit status other than 0 is an error that carries its stderr.
    pub(crate) fn output(&self) -> Result<String> {
        let output =
            self.command().stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", self.name()))?;
        if !output.status.success() {
            bail!("`{self}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print text", self.name()))
    }

    /// The program and its first plain word, for messages.
    fn name(&self) -> String {
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy();
        let is_plain = |word: &OsStr| word.as_encoded_bytes().iter().all(u8::is_ascii_lowercase);
        match self.arguments.iter().find(|word| is_plain(word)) {
            Some(first) => format!("{program} {}", first.to_string_lossy()),
            None => program.into_owned(),
        }
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(formatter, "{}={} ", name.to_string_lossy(), quoted(value))?;
        }
        write!(formatter, "{}", quoted(&self.program))?;
        for argument in &self.arguments {
            write!(formatter, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// `word` for a POSIX shell.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:+,@%^".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// `cargo run` describes xtask's package and toolchain in the environment; children would take that for their own.
fn leave_no_trace_of_cargo(command: &mut Command) {
    for (name, value) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        match text {
            "CARGO" | "CARGO_MANIFEST_DIR" | "CARGO_MANIFEST_PATH" | "RUST_RECURSION_COUNT" => {
                command.env_remove(name);
            }
            "LD_LIBRARY_PATH" => {
                let not_ours = |path: &PathBuf| !path.iter().any(|part| part == "target" || part == "toolchains");
                match std::env::join_paths(std::env::split_paths(&value).filter(not_ours)) {
                    Ok(rest) if !rest.is_empty() => command.env(name, rest),
                    _ => command.env_remove(name),
                };
            }
            _ if text.starts_with("CARGO_PKG_") => {
                command.env_remove(name);
            }
            _ => {}
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The full path of a program in `PATH` or where root's programs are.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
}
