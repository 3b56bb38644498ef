//! `vm`: runs a command on another kernel, in a virtual machine that lives in memory and ends with the command.

mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod monitor;
mod qemu;
mod userland;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub(crate) use kernel::{RELEASES, arch_of};
pub(crate) use qemu::Qemu;

use crate::build::build_binary;
use crate::cli::VmOptions;
use crate::paths::{Profile, Repository};
use crate::process::{Invocation, Limits};
use crate::setup::{Need, Setup};
use initramfs::Image;
use kernel::Kernel;
use qemu::{Ending, Machine};
use userland::Userland;

/// A machine's directory in `target/vm` begins with this; the pid of its xtask and a number follow.
const RUN: &str = "run-";

/// What to run, and on what.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) command: &'a [String],
    /// Where it runs, and where relative paths begin.
    pub(crate) directory: &'a Path,
    /// Taken along: files, programs (with their libraries) and whole directories.
    pub(crate) include: &'a [PathBuf],
    /// Kernel modules to load besides the usual ones.
    pub(crate) modules: &'a [String],
    pub(crate) memory_mib: u32,
}

/// A machine that can start; its directory goes with it.
#[derive(Debug)]
pub(crate) struct Ready {
    kernel: Kernel,
    qemu: Qemu,
    directory: PathBuf,
    memory_mib: u32,
}

/// Exit code: the command's own.
pub(crate) fn vm(repository: &Repository, setup: &Setup<'_>, options: &VmOptions) -> Result<u8> {
    let directory = std::env::current_dir().context("current directory")?;
    let task = Task {
        directory: &directory,
        kernel: &options.kernel,
        command: &options.command,
        include: &options.include,
        modules: &options.module,
        memory_mib: options.memory,
    };
    ready(repository, setup, &task)?.run(repository, None, Limits::of(Duration::from_secs(options.deadline)), |_| {})
}

/// Obtains and builds all that the machine is made of.
pub(crate) fn ready(repository: &Repository, setup: &Setup<'_>, task: &Task<'_>) -> Result<Ready> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let arch = arch_of(task.kernel)?;
    setup.ensure(&[Need::Vm(arch)])?;
    let kernel = Kernel::obtain(repository, setup, task.kernel)?;
    let qemu = Qemu::find(repository, arch).context("qemu was there a moment ago")?;
    let image = image(repository, setup, &kernel, task)?;
    remove_leftovers(repository)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = repository.vm().join(format!("{RUN}{}-{number}", std::process::id()));
    let ready = Ready { kernel, qemu, directory, memory_mib: task.memory_mib };
    ready.machine(repository).prepare(&image)?;
    Ok(ready)
}

impl Ready {
    /// Boots, passes the command's output on (each line behind the label, and to `line`), and returns its exit code.
    /// A kernel that panics, hangs or ends without a verdict is an error.
    pub(crate) fn run(
        self,
        repository: &Repository,
        label: Option<&str>,
        limits: Limits,
        line: impl FnMut(&str),
    ) -> Result<u8> {
        match self.qemu.run(&self.machine(repository), label, limits, line)? {
            Ending::Exited(code) => Ok(code),
            Ending::Failed { what, console, .. } => {
                bail!("{}: {what}; its console's last words:\n{console}", self.kernel.name)
            }
        }
    }

    fn machine<'a>(&'a self, repository: &'a Repository) -> Machine<'a> {
        Machine { repository, directory: &self.directory, kernel: &self.kernel.image, memory_mib: self.memory_mib }
    }
}

impl Drop for Ready {
    /// The image is as large as everything in it, and can be made again. What cannot be removed now is removed as a leftover.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What machines left behind whose xtask was killed.
fn remove_leftovers(repository: &Repository) -> Result<()> {
    for entry in fs::read_dir(repository.vm()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(RUN)
            && let pid = rest.split_once('-').map_or(rest, |(pid, _)| pid)
            && !Path::new("/proc").join(pid).exists()
        {
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn image(repository: &Repository, setup: &Setup<'_>, kernel: &Kernel, task: &Task<'_>) -> Result<Image> {
    let target = kernel.arch().foreign_target();
    let init = build_binary(repository, setup, "xtask", "vm-init", Profile::Debug, target)?;
    let userland = Userland::of(repository, setup, kernel)?;
    let mut image = Image::new();
    image.program_as(&init, Path::new("/init"))?;
    userland.add(&mut image)?;
    for path in ["/var/log/nginx", "/var/lib/nginx"] {
        image.empty_directory(Path::new(path))?;
    }
    let directory = task.directory;
    let command = command(task.command, directory, &userland)?;
    // Paths among the command's words are most likely meant to be there.
    let words = command.iter().map(|word| directory.join(word)).filter(|path| path.is_file() && !userland.has(path));
    for path in words.chain(task.include.iter().map(|path| directory.join(path))) {
        image.include(&path)?;
    }
    image.empty_directory(directory)?;
    let script = [directory.to_string_lossy().into_owned()].into_iter().chain(command).collect::<Vec<_>>().join("\0");
    image.text(Path::new("/etc/vm-init/command"), script.into_bytes());
    modules::add(&mut image, kernel, task.modules)?;
    Ok(image)
}

/// The command with its program as a full path.
fn command(words: &[String], directory: &Path, userland: &Userland) -> Result<Vec<String>> {
    let (program, arguments) = words.split_first().context("no command given")?;
    let path = if program.contains('/') { Some(directory.join(program)) } else { userland.which(program) };
    let path = path
        .filter(|path| path.is_file() || userland.has(path))
        .with_context(|| format!("{program}: no such program"))?;
    Ok([path.to_string_lossy().into_owned()].into_iter().chain(arguments.iter().cloned()).collect())
}

/// The shared libraries of a program or library, the dynamic loader included; none for a static one or a script.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let Ok(listed) = Invocation::new("ldd").arg(program).env("LC_ALL", "C").output() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for line in listed.lines().map(str::trim) {
        if line.ends_with("=> not found") {
            bail!("{}: {line}", program.display());
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        if let Some((path, _)) = path.split_once(" (0x")
            && path.starts_with('/')
        {
            found.push(path.into());
        }
    }
    Ok(found)
}
