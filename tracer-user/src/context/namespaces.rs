//! Network namespaces of this host: a process in each, and which has an address.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsFd as _,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::stat::pids;

/// Network namespaces that are looked into.
const NAMESPACES: usize = 128;
/// And how long one that does not know the wanted.
const MISSED: Duration = Duration::from_millis(100);
/// Answers about addresses that are kept.
const OWNED: usize = 256;
/// How long an answer is good for: a flood of failures asks once.
const FRESH: Duration = Duration::from_secs(1);

/// The network namespace of a process, as its inode.
pub(super) fn netns(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The host's own: that of its first process, as far as it can be read, or of this one. Neither leaves it.
pub fn of_host() -> Option<(u32, u32)> {
    static OF_HOST: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
        let own = std::process::id();
        let found = [1, own].into_iter().find_map(|pid| Some((netns(pid)?, pid)));
        found.and_then(|(netns, pid)| Some((u32::try_from(netns).ok()?, pid)))
    });
    *OF_HOST
}

/// Network namespaces with a process in each, by inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<u64, u32>);

impl Snapshot {
    /// All of this host. Asks every process.
    pub fn read() -> Self {
        let mut found = BTreeMap::new();
        for pid in pids() {
            if found.len() >= NAMESPACES {
                break;
            }
            if let Some(netns) = netns(pid) {
                found.entry(netns).or_insert(pid);
            }
        }
        Self(found)
    }

    /// A process in each; None: there are more than are looked into.
    pub(super) fn processes(&self) -> Option<impl Iterator<Item = u32>> {
        (self.0.len() < NAMESPACES).then(|| self.0.values().copied())
    }

    /// As the rest of the kernel numbers them; None: there are more than are looked into.
    pub(super) fn by_inode(&self) -> Option<BTreeMap<u32, u32>> {
        let numbered = self.0.iter().filter_map(|(inode, pid)| Some((u32::try_from(*inode).ok()?, *pid)));
        (self.0.len() < NAMESPACES).then(|| numbered.collect())
    }

    /// Are the processes still there, and in them?
    pub fn is_current(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|(inode, pid)| netns(*pid) == Some(*inode))
    }

    /// Each, and a process in it; of one of them this one.
    pub(super) fn with(&self, first: Option<(u64, u32)>) -> BTreeMap<u64, u32> {
        let mut all = self.0.clone();
        all.extend(first);
        all
    }
}

/// Moves the calling thread into the network namespace of a process: for threads that do nothing else.
pub fn enter(pid: u32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// The namespaces, looked for once a second at most.
#[derive(Debug, Default)]
pub struct Namespaces {
    seen: Option<(Instant, Snapshot)>,
    /// Whether a namespace has an address, and when that was looked at.
    owned: HashMap<(u32, IpAddr), (Instant, bool)>,
}

impl Namespaces {
    fn fresh(&mut self) -> &BTreeMap<u64, u32> {
        if self.seen.as_ref().is_none_or(|(asked, _)| asked.elapsed() > FRESH) {
            self.seen = None;
        }
        &self.seen.get_or_insert_with(|| (Instant::now(), Snapshot::read())).1.0
    }

    /// A process in this one.
    pub fn process_in(&mut self, wanted: u32) -> Option<u32> {
        let wanted = u64::from(wanted);
        let known = self.fresh().get(&wanted).copied();
        if known.and_then(netns) == Some(wanted) {
            return known;
        }
        // It has ended, or is new; in a flood of failures that need not be asked for each.
        if self.seen.as_ref().is_some_and(|(asked, _)| asked.elapsed() > MISSED) {
            self.seen = None;
        }
        self.fresh().get(&wanted).copied().filter(|pid| netns(*pid) == Some(wanted))
    }

    /// Whether all that have a process were looked into when it was last looked: there may be more than are.
    pub fn are_all_known(&self) -> bool {
        self.seen.as_ref().is_some_and(|(_, snapshot)| snapshot.processes().is_some())
    }

    /// Whether this one has the address for its own, as a process in it tells: without one, as any other that is in it does.
    pub fn owns(&mut self, netns: u32, process: Option<u32>, address: IpAddr) -> bool {
        if address.is_loopback() {
            return true;
        }
        self.owned.retain(|_, (asked, _)| asked.elapsed() <= FRESH);
        if let Some((_, owns)) = self.owned.get(&(netns, address)) {
            return *owns;
        }
        let owns = process.or_else(|| self.process_in(netns)).is_some_and(|pid| has(pid, address));
        if self.owned.len() < OWNED {
            self.owned.insert((netns, address), (Instant::now(), owns));
        }
        owns
    }

    /// The only one that has this address for its own, and a process in it; None: none has, or several.
    pub fn with_address(&mut self, address: IpAddr) -> Option<(u32, u32)> {
        if address.is_loopback() {
            return None;
        }
        let mut found = self.fresh().iter().filter(|(_, pid)| has(**pid, address));
        let (netns, pid) = found.next()?;
        found.next().is_none().then_some((u32::try_from(*netns).ok()?, *pid))
    }
}

/// Whether the network namespace that the calling thread is in has this address for its own.
pub(super) fn owns_here(address: IpAddr) -> bool {
    address.is_loopback() || has("thread-self", address)
}

/// Whether the network namespace of a process, as /proc calls it, has this address for its own.
fn has(process: impl Display, address: IpAddr) -> bool {
    let read = |file| fs::read_to_string(format!("/proc/{process}/net/{file}")).unwrap_or_default();
    match address {
        IpAddr::V4(_) => {
            let address = address.to_string();
            locals(&read("fib_trie")).any(|local| local == address)
        }
        IpAddr::V6(address) => interfaces(&read("if_inet6")).any(|own| own == address),
    }
}

/// All addresses that a network namespace has for its own, as a process in it tells; None: that one is not in it any more.
pub(super) fn addresses(inode: u32, pid: u32) -> Option<BTreeSet<IpAddr>> {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/net/{file}"));
    // Without IPv6 there is no such file.
    let mut found: BTreeSet<IpAddr> = interfaces(&read("if_inet6").unwrap_or_default()).map(IpAddr::V6).collect();
    found.extend(locals(&read("fib_trie").ok()?).filter_map(|address| address.parse::<IpAddr>().ok()));
    is_in(pid, inode).then_some(found)
}

/// Is the process in this network namespace?
pub(super) fn is_in(pid: u32, inode: u32) -> bool {
    netns(pid) == Some(u64::from(inode))
}

/// `|-- 10.0.0.1` with `/32 host LOCAL` on the next line.
fn locals(trie: &str) -> impl Iterator<Item = &str> {
    let mut lines = trie.lines().map(str::trim).peekable();
    std::iter::from_fn(move || {
        loop {
            let address = lines.next()?.strip_prefix("|-- ");
            if let (Some(address), Some(&"/32 host LOCAL")) = (address, lines.peek()) {
                return Some(address);
            }
        }
    })
}

/// `20010db8000000000000000000000001 02 40 00 80 eth0`
fn interfaces(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    let first = table.lines().filter_map(|line| line.split_ascii_whitespace().next());
    first.filter_map(|digits| Some(Ipv6Addr::from_bits(u128::from_str_radix(digits, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{Instant, MISSED, Namespaces, Snapshot, addresses, interfaces, locals, netns};

    #[test]
    fn addresses_of_a_namespace() {
        let trie = "Local:\n  +-- 10.0.0.0/24 2 0 2\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.1\n        \
                    /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        assert_eq!(locals(trie).collect::<Vec<_>>(), ["10.0.0.1"]);
        let table = "20010db8000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(interfaces(table).map(|address| address.to_string()).collect::<Vec<_>>(), ["2001:db8::1"]);
        let pid = std::process::id();
        let own = u32::try_from(netns(pid).expect("it can be read")).expect("an inode");
        assert!(addresses(own, pid).expect("we are in it").contains(&"127.0.0.1".parse().expect("an address")));
        assert_eq!(addresses(own + 1, pid), None);
    }

    #[test]
    fn our_own() {
        let own = u32::try_from(netns(std::process::id()).expect("it can be read")).expect("an inode");
        assert!(Namespaces::default().process_in(own).is_some());
        assert!(Snapshot::read().is_current() && !Snapshot([(1, std::process::id())].into()).is_current());
        let asked = Instant::now().checked_sub(2 * MISSED).expect("the machine has run so long");
        let seen = Some((asked, Snapshot([(u64::from(own), u32::MAX)].into())));
        let mut namespaces = Namespaces { seen, ..Namespaces::default() };
        assert!(namespaces.process_in(own).is_some_and(|pid| pid != u32::MAX), "one that has ended is none");
        assert!(namespaces.owns(own, None, "127.0.0.1".parse().expect("an address")));
        assert!(!namespaces.owns(own, Some(std::process::id()), "192.0.2.77".parse().expect("an address")));
        assert_eq!(Namespaces::default().with_address("127.0.0.1".parse().expect("an address")), None);
        assert_eq!(Namespaces::default().with_address("192.0.2.77".parse().expect("an address")), None);
    }
}
