//! The first process of a virtual machine of `cargo xtask vm`: mounts what programs expect, loads modules, runs one
//! command with its output on the second serial port, and prints `VM-RESULT exit=N` on both before it powers off; that it has
//! been started at all it says on the console.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, setrlimit};
use rustix::system::RebootCommand;
use rustix::termios::{self, OptionalActions};

/// Where xtask has put the command: its directory and its words, separated by zero bytes.
const COMMAND: &str = "/etc/vm-init/command";
/// As services of a distribution have it.
const OPEN_FILES: u64 = 524_288;
const MODULES: &str = "/etc/vm-init/modules";
/// The variable with the name of the second serial port, set on the kernel's command line.
const OUTPUT: &str = "VM_OUTPUT";

/// Said first of all, on the console: the kernel has started.
const STARTED: &str = "VM-STARTED";
/// As shells have it: not found, or not to be run.
const NOT_RUN: i32 = 127;

fn main() -> Result<()> {
    if std::process::id() != 1 {
        anyhow::bail!("this is the init of a virtual machine; see `cargo xtask vm --help`");
    }
    println!("{STARTED}");
    let code = prepare().and_then(|()| run()).unwrap_or_else(|error| {
        eprintln!("vm-init: {error:#}");
        NOT_RUN
    });
    let verdict = format!("VM-RESULT exit={code}");
    if let Ok(mut output) = output() {
        writeln!(output, "{verdict}").and_then(|()| Ok(termios::tcdrain(&output)?)).context("the verdict")?;
    }
    println!("{verdict}");
    termios::tcdrain(std::io::stdout()).context("draining the console")?;
    rustix::system::reboot(RebootCommand::PowerOff).context("power off")
}

fn prepare() -> Result<()> {
    for (kind, path, required) in [
        ("proc", "/proc", true),
        ("sysfs", "/sys", true),
        ("devtmpfs", "/dev", true),
        ("devpts", "/dev/pts", false),
        ("tmpfs", "/dev/shm", false),
        ("bpf", "/sys/fs/bpf", true),
        ("tracefs", "/sys/kernel/tracing", true),
        ("debugfs", "/sys/kernel/debug", false),
        ("cgroup2", "/sys/fs/cgroup", false),
    ] {
        // Those below /dev are not there yet; the others are, and may not be made.
        let _ = fs::create_dir(path);
        let mounted = mount(kind, path, kind, MountFlags::empty(), None).with_context(|| format!("mounting {path}"));
        if required {
            mounted?;
        }
    }
    // As systemd has it: groups may limit memory. Without that controller they do not.
    let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    let unlimited = Rlimit { current: None, maximum: None };
    setrlimit(Resource::Memlock, unlimited).context("raising the limit of locked memory")?;
    let files = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    setrlimit(Resource::Nofile, files).context("raising the limit of open files")?;
    rustix::system::sethostname(b"vm").context("host name")?;
    load_modules()?;
    // Absent from machines whose host had no iproute2.
    if let Err(error) = Command::new("/sbin/ip").args(["link", "set", "lo", "up"]).status() {
        eprintln!("vm-init: no loopback: ip: {error}");
    }
    Ok(())
}

fn load_modules() -> Result<()> {
    let Ok(listed) = fs::read_dir(MODULES) else { return Ok(()) };
    let mut paths: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let module = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        match rustix::system::finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => eprintln!("vm-init: {}: {error}", path.display()),
        }
    }
    Ok(())
}

fn run() -> Result<i32> {
    let words = fs::read_to_string(COMMAND).with_context(|| format!("reading {COMMAND}"))?;
    let mut words = words.split('\0');
    let (directory, program) = (words.next().context("no directory")?, words.next().context("no command")?);
    let output = output()?;
    let mut settings = termios::tcgetattr(&output).context("settings of the serial port")?;
    settings.make_raw();
    termios::tcsetattr(&output, OptionalActions::Now, &settings).context("raw serial port")?;
    let child = Command::new(program)
        .args(words)
        .current_dir(directory)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("RUST_BACKTRACE", "1")
        .env_remove(OUTPUT)
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("second descriptor of the serial port")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    wait_for(Pid::from_child(&child))
}

/// The second serial port.
fn output() -> Result<File> {
    let port = std::env::var_os(OUTPUT).with_context(|| format!("{OUTPUT} is not set"))?;
    OpenOptions::new().write(true).open(&port).with_context(|| format!("opening {}", port.display()))
}

/// Also collects the orphans that only init can.
fn wait_for(child: Pid) -> Result<i32> {
    loop {
        let Some((pid, status)) = rustix::process::wait(WaitOptions::empty()).context("waiting")? else { continue };
        if pid == child {
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        }
    }
}
