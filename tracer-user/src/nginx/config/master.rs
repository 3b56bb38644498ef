//! Which master a worker belongs to, which file that was started with, and when the workers' generation began.

use std::fs;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{
    prefix::{Built, Options, join, locate},
    root::binary,
};

/// Bytes of an nginx binary, statically linked ones included.
const BINARY: u64 = 64 * 1024 * 1024;

/// One process, as /proc has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    /// Ticks since boot: with the pid, this is one process and no other.
    pub(super) started: u64,
    title: Vec<u8>,
}

/// Workers that were started with the same configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) master: Process,
    /// Its workers that run now.
    pub(super) workers: Vec<Process>,
    /// Wall clock, ns since 1970: its configuration is not younger.
    pub(super) loaded_ns: i128,
}

impl Process {
    pub(super) fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (parent, started) = parent_and_start(&String::from_utf8_lossy(&stat))?;
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Some(Self { pid, parent, started, title })
    }

    fn is_titled(&self, what: &str) -> bool {
        let end = self.title.iter().position(|byte| *byte == 0).unwrap_or(self.title.len());
        String::from_utf8_lossy(&self.title[..end]).contains(what)
    }

    fn is_worker(&self) -> bool {
        self.is_titled(": worker process")
    }

    /// It serves what it has and takes nothing new: the configuration has been loaded anew since it was started.
    fn is_leaving(&self) -> bool {
        self.is_titled("is shutting down")
    }
}

/// pid_t ppid is the 4th field, starttime the 22nd (proc_pid_stat(5)); the 2nd may hold anything.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

impl Generation {
    /// That of a worker, or of a process that is its own master (`master_process off`).
    pub(super) fn of(worker: Process) -> Result<Self, String> {
        if !worker.is_worker() {
            let loaded_ns = began_ns(worker.started);
            return Ok(Self { master: worker.clone(), workers: vec![worker], loaded_ns });
        }
        let master = Process::read(worker.parent).filter(|parent| parent.is_titled(": master process"));
        let master = master.ok_or_else(|| format!("the master of worker {} is not running any more", worker.pid))?;
        // One that was killed is replaced without reading the files again: its elder siblings tell since when.
        let mut workers = if worker.is_leaving() { Vec::new() } else { siblings(&master) };
        if !workers.contains(&worker) {
            workers.push(worker);
        }
        let started = workers.iter().map(|worker| worker.started).min().unwrap_or(master.started);
        Ok(Self { master, workers, loaded_ns: began_ns(started) })
    }
}

/// Workers of a master that are not leaving.
fn siblings(master: &Process) -> Vec<Process> {
    let pid = master.pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| Process::read(pid.parse().ok()?));
    children.filter(|child| child.parent == pid && child.is_worker() && !child.is_leaving()).collect()
}

/// When a process was started, by the wall clock of now: the end of its tick, since the kernel cuts the rest off.
fn began_ns(ticks: u64) -> i128 {
    let nanoseconds = |time: Timespec| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let boot = nanoseconds(clock_gettime(ClockId::Realtime)) - nanoseconds(clock_gettime(ClockId::Boottime));
    let tick = 1_000_000_000 / i128::from(rustix::param::clock_ticks_per_second().max(1));
    boot + (i128::from(ticks) + 1) * tick
}

/// A master's main file, as nginx names it, and directives of its command line.
pub(super) fn main_file(master: &Process) -> Result<(String, Option<String>), String> {
    let options = Options::read(&master.title);
    let pid = master.pid;
    let path = locate(&options, None).or_else(|| {
        let built = Built::find(&binary(&format!("/proc/{pid}/exe"), BINARY)?);
        locate(&options, built.as_ref())
    });
    let path = path.ok_or_else(|| format!("the binary of master {pid} does not say where its configuration is"))?;
    if path.starts_with('/') {
        return Ok((path, options.directives));
    }
    // Relative to where it was started; it may have gone elsewhere since, which is seen when there is no such file.
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).map_err(|error| error.kind().to_string())?;
    Ok((join(&directory.to_string_lossy(), &path), options.directives))
}

#[cfg(test)]
mod tests {
    use super::{Process, began_ns, parent_and_start};

    #[test]
    fn fields_of_stat() {
        let stat = "7 (a) b) (c) S 3 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4321 1 1";
        assert_eq!(parent_and_start(stat), Some((3, 4321)));
        for stat in ["", "7 (a", "7 (a) S", "7 (a) S x", "7 (a) S 3 7 7"] {
            assert_eq!(parent_and_start(stat), None, "{stat}");
        }
    }

    #[test]
    fn we_began_before_now() {
        let own = Process::read(std::process::id()).expect("we exist");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let ago = i128::try_from(now.as_nanos()).expect("it fits") - began_ns(own.started);
        assert!((-20_000_000..3_600_000_000_000).contains(&ago), "{ago}");
        assert!(!own.is_worker() && !own.is_leaving());
    }
}
