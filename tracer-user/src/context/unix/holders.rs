//! Processes that have a socket open.

use std::collections::{HashMap, HashSet};

use crate::{
    context::{
        owners::sockets,
        stat::{Stat, pids},
    },
    model::host::Name,
};

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
        let Stat { comm, parent, started, .. } = Stat::read(pid).filter(Stat::is_alive)?;
        Some(Self { name: Name { pid, comm }, parent, started })
    }

    /// Of a process that does not exist.
    #[cfg(test)]
    pub(super) fn sample(pid: u32, parent: u32) -> Self {
        Self { name: Name { pid, comm: "app".into() }, parent, started: 7 }
    }

    /// Is it still there, and not another process of its number?
    pub fn is_alive(&self) -> bool {
        Stat::read(self.name.pid).is_some_and(|stat| stat.is_alive() && stat.started == self.started)
    }
}

/// Who has these sockets open, by inode. Reads the descriptors of all processes.
pub fn of(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Holder>> {
    let mut found: HashMap<u64, Vec<Holder>> = HashMap::new();
    for pid in pids() {
        let held = sockets(pid, |inode| inodes.contains(&inode));
        if let Some(holder) = (!held.is_empty()).then(|| Holder::read(pid)).flatten() {
            held.into_iter().for_each(|inode| found.entry(inode).or_default().push(holder.clone()));
        }
    }
    found
}

/// It opens sockets for others: the service manager of the host, of a user, or of a container.
pub fn is_manager(name: &Name) -> bool {
    name.pid == 1 || name.comm == "systemd"
}

/// The one that answers for a socket: of a prefork server the master; the service manager only where nobody has taken it.
pub fn owner(holders: &[Holder]) -> Option<&Holder> {
    master(holders, |holder| (&holder.name, holder.parent)).or_else(|| holders.first())
}

/// The first whose parent is not among them, or else the first; a service manager is none of them. `whose` gives name and
/// parent.
pub fn master<T>(all: &[T], whose: impl Fn(&T) -> (&Name, u32)) -> Option<&T> {
    let mut served = all.iter().filter(|one| !is_manager(whose(one).0));
    let among_them = served.clone();
    let inherited = |one: &&T| among_them.clone().any(|other| whose(other).0.pid == whose(one).1);
    let first = served.clone().next();
    served.find(|one| !inherited(one)).or(first)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, os::unix::net::UnixListener};

    use super::{Holder, of, owner};
    use crate::context::{namespaces::Snapshot, unix::diag::listeners};

    fn holder(pid: u32, parent: u32) -> Holder {
        Holder::sample(pid, parent)
    }

    #[test]
    fn the_master_answers_for_a_socket() {
        let pid = |holders: &[Holder]| owner(holders).map(|holder| holder.name.pid);
        assert_eq!(pid(&[holder(11, 10), holder(10, 1), holder(12, 10)]), Some(10));
        assert_eq!(pid(&[holder(1, 0), holder(10, 1), holder(11, 10)]), Some(10), "systemd only made it");
        assert_eq!(pid(&[holder(1, 0)]), Some(1), "nobody has taken it");
        let mut manager = holder(900, 1);
        manager.name.comm = "systemd".into();
        assert_eq!(pid(&[manager, holder(910, 900), holder(911, 910)]), Some(910), "a user's made it");
        assert_eq!(pid(&[holder(12, 10), holder(11, 10)]), Some(12), "the master is dead");
        assert_eq!(pid(&[]), None);
    }

    #[test]
    fn our_own_socket() {
        let path = std::env::temp_dir().join(format!("why502-holders-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bound");
        let own = std::process::id();
        let (all, _) = std::thread::spawn(move || listeners(own, &Snapshot::default())).join().expect("no panic");
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
