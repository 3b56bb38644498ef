//! qemu: finding it, starting a machine with it, and what became of the machine.
//!
//! The first serial port is the kernel's console and goes to a file; the second carries the command's output, and init
//! learns its name from the kernel's command line. The verdict is read from the console, where no command writes by
//! accident.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::initramfs::Image;
use super::monitor;
use crate::arch::Arch;
use crate::paths::Repository;
use crate::process::{Event, Invocation, Limits, Overrun, which};

/// Lines of a console that are shown when something went wrong.
const EXCERPT: usize = 30;
const VERDICT: &str = "VM-RESULT exit=";
/// What init says first.
const STARTED: &str = "VM-STARTED";
/// A machine in which something waits uses a hundredth of a processor for its timers; none at all: it will never go on.
const STANDSTILL: Duration = Duration::from_secs(180);
/// How often a machine is booted that fails by no fault of what runs in it.
const BOOTS: usize = 3;
/// Variable of init with the name of the second port.
const OUTPUT: &str = "VM_OUTPUT";

/// The system's qemu, or one unpacked into `target/vm`.
#[derive(Debug)]
pub(crate) struct Qemu {
    command: Invocation,
    arch: Arch,
}

/// What an architecture's machines are made of.
struct Board {
    machine: &'static str,
    /// The processor, where it is emulated.
    emulated: &'static str,
    /// The second serial port, behind the console's.
    second_port: &'static [&'static str],
    /// As Linux calls them.
    console: &'static str,
    output: &'static str,
}

impl Board {
    fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self {
                machine: "pc",
                // Emulated, cmpxchg16b leaves rubbish in the upper bits of EFLAGS: an interrupt right after it ends in a
                // double fault (qemu 7.2.22; kernels since 6.12 hit it within seconds of work in the allocator).
                emulated: "max,cx16=off",
                second_port: &["-serial", "stdio"],
                console: "ttyS0",
                output: "/dev/ttyS1",
            },
            Arch::Aarch64 => Self {
                machine: "virt",
                // Debian's programs sign their return addresses, and the architecture's own cipher is slow to emulate.
                emulated: "max,pauth-impdef=on",
                // The board itself has but one.
                second_port: &["-chardev", "stdio,id=output", "-device", "pci-serial,chardev=output"],
                console: "ttyAMA0",
                output: "/dev/ttyS0",
            },
        }
    }
}

/// What to boot.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) repository: &'a Repository,
    /// For the image and the console's log.
    pub(super) directory: &'a Path,
    pub(super) kernel: &'a Path,
    pub(super) memory_mib: u32,
}

/// How a machine ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// With the command's exit code.
    Exited(u8),
    /// Otherwise, with the end of its console.
    Failed { what: &'static str, console: String, whose: Whose },
}

/// Whose fault it is that a machine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Possibly that of what ran in it.
    Command,
    /// The emulator's: the kernel did not come to its init, or met a breakpoint that was gone already, or no timer runs any more
    /// (all its processors wait for ever, or nothing is said for longer than something is by a timer).
    Emulator,
}

impl Qemu {
    /// For machines of `arch`.
    pub(crate) fn find(repository: &Repository, arch: Arch) -> Option<Self> {
        let program = format!("qemu-system-{}", arch.name());
        let command = match which(&program) {
            Some(system) => Invocation::new(system),
            None => private(repository, arch, &program)?,
        };
        command.clone().arg("--version").output().is_ok().then_some(Self { command, arch })
    }

    /// Runs the machine to its end; the lines of the command's output go to our stdout, behind the label, and to `line`.
    /// One that fails by the emulator's fault is booted again while there is time.
    pub(super) fn run(
        &self,
        machine: &Machine<'_>,
        label: Option<&str>,
        limits: Limits,
        mut line: impl FnMut(&str),
    ) -> Result<Ending> {
        let end = Instant::now() + limits.deadline;
        let mut boots = 1;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.run_once(machine, label, Limits { deadline: left, ..limits }, &mut line)? {
                Ending::Failed { what, console, whose: Whose::Emulator } if boots < BOOTS && !left.is_zero() => {
                    eprintln!("xtask: {what}, which is the emulator's doing; booting again:\n{console}");
                    boots += 1;
                }
                ending => return Ok(ending),
            }
        }
    }

    fn run_once(
        &self,
        machine: &Machine<'_>,
        label: Option<&str>,
        limits: Limits,
        mut line: impl FnMut(&str),
    ) -> Result<Ending> {
        let boot = self.boot(machine);
        let boot = label.into_iter().fold(boot, Invocation::labelled);
        let mut stand = String::new();
        let status = boot.stream(Limits { standstill: Some(STANDSTILL), ..limits }, |event| match event {
            Event::Line(text) => line(text),
            Event::GivenUp(_) => stand = monitor::stand(&machine.monitor(), self.arch),
        });
        let console = fs::read(machine.console()).context("reading the console's log")?;
        let console = String::from_utf8_lossy(&console).replace('\r', "");
        for complaint in console.lines().filter(|line| line.starts_with("vm-init: ")) {
            eprintln!("{complaint}");
        }
        if let Some(code) = verdict(&console) {
            return Ok(Ending::Exited(code));
        }
        let overrun = status.as_ref().err().and_then(|error| error.downcast_ref::<Overrun>()).copied();
        let stood_still = matches!(overrun, Some(Overrun::Standstill | Overrun::Silence));
        let what = if console.contains("Kernel panic") {
            "the kernel panicked"
        } else if overrun == Some(Overrun::Standstill) {
            "the machine stood still"
        } else if overrun == Some(Overrun::Silence) {
            "the machine said nothing any more"
        } else if status.is_err() {
            "the machine hung until its deadline"
        } else {
            "the machine ended without a verdict"
        };
        Ok(Ending::Failed { what, whose: whose(&console, stood_still), console: excerpt(&console) + &stand })
    }

    fn boot(&self, machine: &Machine<'_>) -> Invocation {
        let Board { machine: board, emulated, second_port, console, output } = Board::of(self.arch);
        let processor: &[&str] = match self.arch == Arch::HOST && has_kvm() {
            true => &["-accel", "kvm", "-accel", "tcg", "-cpu", "max"],
            // With a thread for each of its processors a machine now and then runs the old code of a place that another processor
            // has patched, or stands still for ever (qemu 7.2.22). With one for all of them it takes no longer.
            false => &["-accel", "tcg,thread=single", "-cpu", emulated],
        };
        let option = |name: &str, path: &Path| format!("{name}{}", machine.repository.relative(path).display());
        self.command
            .clone()
            .current_dir(&machine.repository.root)
            .args(["-M", board])
            .args(processor.iter().copied())
            .args(["-smp", "2", "-m", &machine.memory_mib.to_string()])
            .args(["-monitor", &format!("{},server=on,wait=off", option("unix:", &machine.monitor()))])
            .args(["-display", "none", "-nic", "none", "-no-reboot", "-no-user-config"])
            .args(["-serial", &option("file:", &machine.console())])
            .args(second_port.iter().copied())
            .args(["-kernel", &option("", machine.kernel), "-initrd", &option("", &machine.image())])
            // An oops would otherwise go by unnoticed, and where a processor stands would be told by an address of this boot.
            // What the kernel does not know is handed to init as its environment.
            .args(["-append", &format!("console={console} quiet nokaslr panic=-1 oops=panic {OUTPUT}={output}")])
    }
}

impl Machine<'_> {
    pub(super) fn prepare(&self, image: &Image) -> Result<()> {
        fs::create_dir_all(self.directory).with_context(|| format!("creating {}", self.directory.display()))?;
        image.write(&self.image())
    }

    fn image(&self) -> PathBuf {
        self.directory.join("initramfs.cpio")
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// A socket.
    fn monitor(&self) -> PathBuf {
        self.directory.join("monitor")
    }
}

/// qemu out of Debian packages that were unpacked into the repository. Paths are relative, to keep the line short.
fn private(repository: &Repository, arch: Arch, program: &str) -> Option<Invocation> {
    let root = repository.private_qemu(arch);
    let relative = |path: &Path| repository.relative(path).to_path_buf();
    let program = root.join("usr/bin").join(program);
    if !program.exists() {
        return None;
    }
    let mut libraries = Vec::new();
    for directory in ["usr/lib", "lib"] {
        let found = fs::read_dir(root.join(directory)).into_iter().flatten().flatten().map(|entry| entry.path());
        libraries
            .extend(found.filter(|path| path.to_string_lossy().ends_with("-linux-gnu")).map(|path| relative(&path)));
    }
    let mut command = Invocation::new(program).env("LD_LIBRARY_PATH", std::env::join_paths(libraries).ok()?);
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        command = command.arg("-L").arg(relative(&root.join(data)));
    }
    Some(command.current_dir(&repository.root))
}

/// From where the trouble begins, else the end.
fn excerpt(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let trouble = |line: &&str| ["Kernel panic", "BUG:", "Oops", "WARNING:"].iter().any(|word| line.contains(word));
    let start = lines.iter().position(trouble).unwrap_or(lines.len().saturating_sub(EXCERPT));
    lines[start..].iter().take(EXCERPT).map(|line| format!("  {line}\n")).collect()
}

/// A processor without the extensions can still have a `/dev/kvm` (pagetable virtual machines), but it boots only
/// kernels made for it.
fn has_kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let extended = flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    extended && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

fn whose(console: &str, stood_still: bool) -> Whose {
    let started = console.lines().any(|line| line == STARTED);
    if started && !stood_still && !console.contains("Oops: int3:") { Whose::Command } else { Whose::Emulator }
}

fn verdict(console: &str) -> Option<u8> {
    console.lines().rev().find_map(|line| line.strip_prefix(VERDICT))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Whose, verdict, whose};

    #[test]
    fn a_verdict_is_a_whole_line_of_the_console() {
        assert_eq!(verdict("[    1.2] boot\nVM-RESULT exit=3\n[    2.0] reboot: Power down\n"), Some(3));
        assert_eq!(verdict("[    1.2] VM-RESULT exit=3\n"), None);
        assert_eq!(verdict("VM-RESULT exit=\n"), None);
    }

    #[test]
    fn what_ran_is_not_to_blame_before_it_ran() {
        let oops = "[    3.8] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n";
        let panic = "[    4.2] Kernel panic - not syncing: Fatal exception\n";
        assert_eq!(whose(&format!("[    0.1] boot\n{panic}"), false), Whose::Emulator);
        assert_eq!(whose(&format!("VM-STARTED\n{oops}{panic}"), false), Whose::Emulator);
        let fault = format!("VM-STARTED\n[    4.1] BUG: unable to handle page fault\n{panic}");
        assert_eq!(whose(&fault, false), Whose::Command);
        assert_eq!(whose("VM-STARTED\n", false), Whose::Command);
        assert_eq!(whose("VM-STARTED\n", true), Whose::Emulator);
    }
}
