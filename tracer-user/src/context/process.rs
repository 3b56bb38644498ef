//! Processes: name, executable, role, network namespace, control group.

use std::{
    collections::HashMap,
    fs,
    iter::successors,
    path::{Path, PathBuf},
};

use super::{
    namespaces::netns,
    stat::{Stat, pids},
};
use crate::model::host::Name;

/// Processes remembered after they are gone, so that late verdicts can still name them.
const CAPACITY: usize = 4096;

/// Parents that are followed back: of processes that were looked at one after the other, one may be its own ancestor.
const GENERATIONS: usize = 32;

/// nginx under its names.
pub const NGINX: [&str; 4] = ["nginx", "openresty", "angie", "nginx-debug"];

/// What nginx calls itself in its command line (`ngx_setproctitle()`, src/os/unix/ngx_process_cycle.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Master,
    Worker,
    Cache,
    Other,
}

/// One process, as found when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    pub pid: u32,
    pub parent: u32,
    pub comm: String,
    /// Path of its executable in its own mount namespace; None without permission.
    pub executable: Option<PathBuf>,
    pub role: Role,
    pub netns: Option<u64>,
    pub cgroup: Option<String>,
}

impl ProcessFacts {
    /// Reads /proc/PID; None: no such process.
    pub fn read(pid: u32) -> Option<Self> {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
        };
        let title = fs::read(directory.join("cmdline")).unwrap_or_default();
        Some(Self {
            pid,
            parent: field("PPid").and_then(|parent| parent.parse().ok()).unwrap_or(0),
            comm: fs::read(directory.join("comm"))
                .map(|comm| String::from_utf8_lossy(&comm).trim_end().to_owned())
                .ok()
                .or_else(|| field("Name"))
                .unwrap_or_default(),
            executable: fs::read_link(directory.join("exe")).ok(),
            role: role(&title),
            netns: netns(pid),
            cgroup: cgroup(&directory.join("cgroup")),
        })
    }

    /// Is it nginx, as far as names tell? Other programs may have logs too, but none that says what became of a connection.
    pub fn looks_like_nginx(&self) -> bool {
        let named = |name: &str| NGINX.contains(&name);
        self.role != Role::Other
            || named(&self.comm)
            || self.executable.as_deref().and_then(name_of).is_some_and(|name| named(&name))
    }
}

/// Its name now; None: it is gone.
pub fn name(pid: u32) -> Option<Name> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(Name { pid, comm: String::from_utf8_lossy(&comm).trim_end().to_owned() })
}

/// Are these names of one program's processes? `gunicorn: maste` and `gunicorn: worke` are.
pub fn same_program(one: &str, other: &str) -> bool {
    let program = |comm: &str| comm.split([':', ' ']).next().unwrap_or_default().to_owned();
    !program(one).is_empty() && program(one) == program(other)
}

fn role(title: &[u8]) -> Role {
    let title = String::from_utf8_lossy(title);
    if title.contains(": master process") {
        Role::Master
    } else if title.contains(": worker process") {
        Role::Worker
    } else if title.contains(": cache ") {
        Role::Cache
    } else {
        Role::Other
    }
}

/// Path in the unified hierarchy, or that of the first named one.
fn cgroup(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    text.lines().find(|line| line.starts_with("0::")).or_else(|| text.lines().next()).and_then(path)
}

/// All processes of the host at one moment: little of each, so that thousands are no matter.
#[derive(Debug)]
pub struct Running {
    by_pid: HashMap<u32, Stat>,
}

impl Running {
    pub fn read() -> Self {
        Self { by_pid: pids().into_iter().filter_map(|pid| Some((pid, Stat::read(pid)?))).collect() }
    }

    /// None: it was not there.
    pub fn get(&self, pid: u32) -> Option<&Stat> {
        self.by_pid.get(&pid)
    }

    /// Its parent, that one's parent, and so on, as far as that was there.
    pub fn ancestors(&self, stat: &Stat) -> impl Iterator<Item = u32> {
        let parent = |pid: &u32| self.get(*pid).map(|stat| stat.parent).filter(|pid| *pid != 0);
        successors(Some(stat.parent), parent).take(GENERATIONS)
    }

    /// The facts of those that are wanted.
    pub fn find(&self, wanted: impl Fn(u32, &Stat) -> bool) -> Vec<ProcessFacts> {
        let found = self.by_pid.iter().filter(|(pid, stat)| wanted(**pid, stat));
        found.filter_map(|(pid, _)| ProcessFacts::read(*pid)).collect()
    }
}

/// Name that `--process` is compared with besides the comm: basename of the executable, cut as a comm is. None without
/// permission.
pub fn executable_name(pid: u32) -> Option<String> {
    name_of(&fs::read_link(format!("/proc/{pid}/exe")).ok()?)
}

fn name_of(executable: &Path) -> Option<String> {
    let name = executable.file_name()?.to_string_lossy().into_owned();
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    Some(name.chars().take(15).collect())
}

/// Processes that verdicts name: read once, kept after they are gone.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<u32, ProcessFacts>,
}

impl Processes {
    /// Facts of a process, read now when it is new.
    pub fn get(&mut self, pid: u32) -> Option<&ProcessFacts> {
        if !self.known.contains_key(&pid)
            && let Some(facts) = ProcessFacts::read(pid)
        {
            self.remember(facts);
        }
        self.known.get(&pid)
    }

    /// A process (re)appeared: what was known of its number is void. Its title is set only after a while, so its role
    /// may be wrong until `refresh`.
    pub fn refresh(&mut self, pid: u32) -> Option<&ProcessFacts> {
        if let Some(facts) = ProcessFacts::read(pid) {
            self.remember(facts);
        }
        self.known.get(&pid)
    }

    fn remember(&mut self, facts: ProcessFacts) {
        if self.known.len() >= CAPACITY {
            self.known.retain(|pid, _| Path::new(&format!("/proc/{pid}")).exists());
        }
        self.known.insert(facts.pid, facts);
    }
}

#[cfg(test)]
mod tests {
    use super::{Processes, Role, role, same_program};

    #[test]
    fn titles_of_nginx() {
        assert_eq!(role(b"nginx: master process /usr/sbin/nginx -g daemon off;"), Role::Master);
        assert_eq!(role(b"nginx: worker process is shutting down\0"), Role::Worker);
        assert_eq!(role(b"angie: worker process\0"), Role::Worker);
        assert_eq!(role(b"nginx: cache manager process"), Role::Cache);
        assert_eq!(role(b"/usr/bin/python3\0-c\0pass"), Role::Other);
    }

    #[test]
    fn names_of_one_program() {
        assert!(same_program("gunicorn: maste", "gunicorn: worke") && same_program("gunicorn", "gunicorn: worke"));
        assert!(!same_program("node", "nginx") && !same_program("", ""));
    }

    #[test]
    fn our_own_process_is_known() {
        let mut processes = Processes::default();
        let own = processes.get(std::process::id()).expect("we exist");
        assert!(own.executable.is_some());
        assert!(processes.get(u32::MAX).is_none());
    }
}
