//! Which other network namespace of this host has the address of an upstream: a container's. Looked up aside and remembered,
//! for a namespace goes with the last process in it, and that is whose end is to be told of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use super::{
    aside::Aside,
    namespaces::{Snapshot, addresses, is_in},
    owners::{Found, snapshot},
};

/// How long it rests from one look to the next at least, and the part of the time that looking may take: one in so many.
const PERIOD: Duration = Duration::from_secs(1);
const SHARE: u32 = 100;

/// An address as nginx's network namespace has it.
type Wanted = (u32, IpAddr);

/// What a look has found: all namespaces, whose each wanted address is, a process in each of those, and who listens in those that
/// were not known.
#[derive(Debug)]
struct Looked {
    all: BTreeSet<u32>,
    theirs: HashMap<Wanted, u32>,
    processes: BTreeMap<u32, u32>,
    listeners: Vec<Found>,
    taken_ns: u64,
}

/// The table. Judges nothing.
#[derive(Debug)]
pub struct Containers {
    /// As last seen. One that has gone since is kept: the ends of its processes are still to be told of.
    theirs: HashMap<Wanted, u32>,
    processes: BTreeMap<u32, u32>,
    looking: Aside<Result<Looked, Unknown>>,
}

impl Default for Containers {
    fn default() -> Self {
        Self { theirs: HashMap::new(), processes: BTreeMap::new(), looking: Aside::new("look-around", PERIOD, SHARE) }
    }
}

impl Containers {
    /// Called from time to time. Begins to look for these upstreams, if it is time for that; gives who was found to listen in
    /// namespaces that were not known to have one, and when.
    pub fn look(&mut self, upstreams: impl FnOnce() -> BTreeSet<Wanted>) -> Option<(Vec<Found>, u64)> {
        let looked = self.looking.take();
        if self.looking.is_due() {
            let mut wanted = upstreams();
            wanted.retain(|(_, address)| !address.is_loopback());
            if !wanted.is_empty() {
                self.theirs.retain(|upstream, _| wanted.contains(upstream));
                let known: BTreeSet<u32> = self.theirs.values().copied().collect();
                self.looking.begin(move || look(&wanted, &known));
            }
        }
        self.take(looked?)
    }

    fn take(&mut self, looked: Result<Looked, Unknown>) -> Option<(Vec<Found>, u64)> {
        let Looked { all, theirs, processes, listeners, taken_ns } = match looked {
            Ok(looked) => looked,
            Err(Unknown::TooMany) => {
                self.theirs.clear();
                self.processes.clear();
                return None;
            }
            Err(Unknown::Unread) => return None,
        };
        // Of those that are there only the last look counts: a number may be another one's by now.
        self.theirs.retain(|_, netns| !all.contains(netns));
        self.theirs.extend(theirs);
        self.processes = processes;
        Some((listeners, taken_ns))
    }

    /// The namespace that has this upstream of nginx's namespace; None: not known to be a container's.
    pub fn of(&self, netns: u32, address: IpAddr) -> Option<u32> {
        self.theirs.get(&(netns, address)).copied()
    }

    /// A process in such a namespace, as last seen.
    pub fn process_in(&self, netns: u32) -> Option<u32> {
        self.processes.get(&netns).copied().filter(|pid| is_in(*pid, netns))
    }

    /// A process in each namespace that has an upstream, as last seen.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.values().copied()
    }
}

/// Why nobody knows who else has an address.
#[derive(Clone, Copy, Debug)]
enum Unknown {
    /// There are more namespaces than are looked into.
    TooMany,
    /// The process that was to tell of one has ended meanwhile.
    Unread,
}

fn look(wanted: &BTreeSet<Wanted>, known: &BTreeSet<u32>) -> Result<Looked, Unknown> {
    let all = Snapshot::read().by_inode().ok_or(Unknown::TooMany)?;
    let having = all.iter().map(|(netns, pid)| Some((*netns, addresses(*netns, *pid)?)));
    let theirs = whose(wanted, having.collect::<Option<Vec<_>>>().ok_or(Unknown::Unread)?.into_iter());
    let new: BTreeSet<u32> = theirs.values().copied().collect();
    let processes: BTreeMap<u32, u32> =
        all.iter().filter(|(netns, _)| new.contains(netns)).map(|(netns, pid)| (*netns, *pid)).collect();
    let places: Vec<_> = processes.clone().into_iter().filter(|(netns, _)| !known.contains(netns)).collect();
    let (listeners, taken_ns) = if places.is_empty() { (Vec::new(), 0) } else { snapshot(&places) };
    Ok(Looked { all: all.into_keys().collect(), theirs, processes, listeners, taken_ns })
}

/// Of each wanted address the one other namespace that has it; an address that nginx's own has, or several, is no container's.
fn whose(wanted: &BTreeSet<Wanted>, namespaces: impl Iterator<Item = (u32, BTreeSet<IpAddr>)>) -> HashMap<Wanted, u32> {
    let looked_for: BTreeSet<IpAddr> = wanted.iter().map(|(_, address)| *address).collect();
    let mut having: HashMap<IpAddr, Vec<u32>> = HashMap::new();
    for (netns, addresses) in namespaces {
        for address in addresses.intersection(&looked_for) {
            having.entry(*address).or_default().push(netns);
        }
    }
    let theirs = wanted.iter().filter_map(|wanted| match having.get(&wanted.1)?.as_slice() {
        [netns] if *netns != wanted.0 => Some((*wanted, *netns)),
        _ => None,
    });
    theirs.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::IpAddr,
        thread,
        time::Duration,
    };

    use super::{Containers, Looked, Unknown, whose};
    use crate::context::namespaces::of_host;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn whose_an_address_is() {
        let wanted: BTreeSet<_> =
            [(1, "10.0.0.1"), (1, "10.0.0.2"), (1, "10.0.0.3"), (1, "10.0.0.4"), (2, "10.0.0.2"), (2, "fd00::2")]
                .map(|(netns, text)| (netns, address(text)))
                .into();
        let has = |texts: &[&str]| texts.iter().map(|text| address(text)).collect::<BTreeSet<_>>();
        let namespaces = [
            (1, has(&["127.0.0.1", "10.0.0.1"])),
            (2, has(&["127.0.0.1", "10.0.0.2", "10.0.0.3"])),
            (3, has(&["127.0.0.1", "10.0.0.3", "fd00::2"])),
        ];
        let theirs = whose(&wanted, namespaces.into_iter());
        let mut theirs: Vec<_> =
            theirs.into_iter().map(|((own, address), netns)| (own, address.to_string(), netns)).collect();
        theirs.sort_unstable();
        assert_eq!(theirs, [(1, "10.0.0.2".to_owned(), 2), (2, "fd00::2".to_owned(), 3)], "its own, two's, nobody's");
    }

    #[test]
    fn only_what_has_gone_is_remembered() {
        let mut containers = Containers::default();
        let mut look = |all: &[u32], theirs: &[(&str, u32)]| {
            let theirs = theirs.iter().map(|(text, netns)| ((1, address(text)), *netns)).collect();
            let (processes, listeners) = (BTreeMap::new(), Vec::new());
            let looked = Looked { all: all.iter().copied().collect(), theirs, processes, listeners, taken_ns: 0 };
            containers.take(Ok(looked));
            ["10.0.0.2", "10.0.0.3"].map(|text| containers.of(1, address(text)))
        };
        assert_eq!(look(&[1, 2, 3], &[("10.0.0.2", 2), ("10.0.0.3", 3)]), [Some(2), Some(3)]);
        assert_eq!(look(&[1, 3], &[("10.0.0.3", 3)]), [Some(2), Some(3)], "its processes' ends may still be told of");
        assert_eq!(look(&[1, 2, 3], &[]), [None, None], "another one has the number; the other has lost its address");
        assert_eq!(look(&[1, 2], &[("10.0.0.2", 2)]), [Some(2), None]);
        assert!(containers.take(Err(Unknown::Unread)).is_none() && containers.of(1, address("10.0.0.2")).is_some());
        assert!(containers.take(Err(Unknown::TooMany)).is_none() && containers.of(1, address("10.0.0.2")).is_none());
    }

    #[test]
    fn what_nobody_has_is_no_containers() {
        let (netns, _) = of_host().expect("we are in one");
        let mut containers = Containers::default();
        let wanted = || [(netns, address("192.0.2.7")), (netns, address("127.0.0.1"))].into();
        assert!(containers.look(wanted).is_none(), "it has just begun");
        let found = loop {
            if let Some(found) = containers.look(BTreeSet::new) {
                break found;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(found.0.is_empty() && containers.processes().next().is_none());
        assert_eq!(containers.of(netns, address("192.0.2.7")), None);
    }
}
