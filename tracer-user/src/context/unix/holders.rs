//! Processes that have a socket open.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use crate::{context::owners::sockets, model::host::Name};

/// A process that has it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: Name,
    pub parent: u32,
    /// In ticks since boot: with the pid it tells processes apart.
    started: u64,
}

impl Holder {
    /// Process `pid` as it is now.
    fn read(pid: u32) -> Option<Self> {
        let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
        let (parent, started) = parent_and_start(pid)?;
        let comm = String::from_utf8_lossy(&comm).trim_end().to_owned();
        Some(Self { name: Name { pid, comm }, parent, started })
    }

    /// Of a process that does not exist.
    #[cfg(test)]
    pub(super) fn sample(pid: u32, parent: u32) -> Self {
        Self { name: Name { pid, comm: "app".into() }, parent, started: 7 }
    }

    /// Is it still there, and not another process of its number?
    pub fn is_alive(&self) -> bool {
        parent_and_start(self.name.pid).is_some_and(|(_, started)| started == self.started)
    }
}

/// None: it is gone, or has only not been waited for.
fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((parent, started))
}

/// Who has these sockets open, by inode. Reads the descriptors of all processes.
pub fn of(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Holder>> {
    let mut found: HashMap<u64, Vec<Holder>> = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let held = sockets(pid, |inode| inodes.contains(&inode));
        if let Some(holder) = (!held.is_empty()).then(|| Holder::read(pid)).flatten() {
            held.into_iter().for_each(|inode| found.entry(inode).or_default().push(holder.clone()));
        }
    }
    found
}

/// The one that answers for a socket: of a prefork server the master; the service manager only where nobody has taken it.
pub fn owner(holders: &[Holder]) -> Option<&Holder> {
    const INIT: u32 = 1;
    let inherited =
        |holder: &&Holder| holder.parent != INIT && holders.iter().any(|other| other.name.pid == holder.parent);
    let served = holders.iter().filter(|holder| holder.name.pid != INIT);
    served.clone().find(|holder| !inherited(holder)).or_else(|| served.clone().next()).or_else(|| holders.first())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, os::unix::net::UnixListener};

    use super::{Holder, of, owner};
    use crate::context::unix::diag::listeners;

    fn holder(pid: u32, parent: u32) -> Holder {
        Holder::sample(pid, parent)
    }

    #[test]
    fn the_master_answers_for_a_socket() {
        let pid = |holders: &[Holder]| owner(holders).map(|holder| holder.name.pid);
        assert_eq!(pid(&[holder(11, 10), holder(10, 1), holder(12, 10)]), Some(10));
        assert_eq!(pid(&[holder(1, 0), holder(10, 1), holder(11, 10)]), Some(10), "systemd only made it");
        assert_eq!(pid(&[holder(1, 0)]), Some(1), "nobody has taken it");
        assert_eq!(pid(&[holder(12, 10), holder(11, 10)]), Some(12), "the master is dead");
        assert_eq!(pid(&[]), None);
    }

    #[test]
    fn our_own_socket() {
        let path = std::env::temp_dir().join(format!("why502-holders-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bound");
        let own = std::process::id();
        let (all, _) = std::thread::spawn(move || listeners(own)).join().expect("no panic");
        let bound = super::super::diag::Bound::Path(path.to_string_lossy().into_owned());
        let inode = all.iter().find(|found| found.bound == bound).expect("it listens").inode;
        let found = of(&HashSet::from([inode]));
        let ours = found[&inode].iter().find(|holder| holder.name.pid == own).expect("we have it open");
        assert!(ours.is_alive());
        assert!(!Holder { started: 0, ..ours.clone() }.is_alive(), "another process of that number");
        drop(listener);
        std::fs::remove_file(path).expect("ours");
    }
}
