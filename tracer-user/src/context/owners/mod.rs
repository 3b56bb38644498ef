//! Who listens where, who did, and how those ended: a snapshot at the start, kept current by the kernel's events.

mod live;

pub use live::Live;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs,
    net::SocketAddr,
};

use super::{
    listeners,
    stat::{Stat, pids},
    unix::holders,
};
use crate::{
    kernel::clock,
    model::host::{Actor, Change, Ending, HostEvent, Name, Place},
};

/// Listeners remembered, live and gone.
const LIVE: usize = 32_768;
const GONE: usize = 4096;
/// Ends remembered.
const ENDED: usize = 512;
/// A process that closed its listener and ends this soon after was about to.
const SHUTDOWN_NS: u64 = 60_000_000_000;
/// Workers that fail because their master has ended do so by then.
const CONSEQUENCE_NS: u64 = 1_000_000_000;
/// One that listens and then goes to the background has done so by then.
const BACKGROUND_NS: u64 = 5_000_000_000;

/// A listener that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Who held it last, and how that one ended; of a prefork server the master, if that has ended just before or since.
    pub actor: Actor,
    /// When it was closed, or when that master ended.
    pub time_ns: u64,
    /// When that one ended, where that was after.
    pub ended_ns: Option<u64>,
    /// Where that is a master: who held it last, and when that one closed it.
    pub last: Option<(Actor, u64)>,
    /// It took no IPv4 (IPV6_V6ONLY).
    pub only_ipv6: bool,
    /// Who opened it, if that is another one.
    opened_by: Option<u32>,
}

/// One listener of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub place: Place,
    /// Processes that have it open, and their parents.
    pub holders: Vec<(Name, u32)>,
}

/// The table. Judges nothing.
#[derive(Debug, Default)]
pub struct Owners {
    live: HashMap<Place, Live>,
    gone: HashMap<Place, Gone>,
    /// Servers and their workers that ended, latest last.
    ended: VecDeque<(Actor, u64)>,
    /// When the snapshot was taken.
    seeded_ns: u64,
}

impl Owners {
    /// Takes in what was there at the start, at this time (monotonic, ns). What events said since is newer.
    pub fn seed(&mut self, found: Vec<Found>, taken_ns: u64) {
        self.seeded_ns = taken_ns;
        let mut seeded: HashSet<Place> = HashSet::new();
        for Found { place, holders } in found {
            let Some((opener, _)) =
                holders::master(&holders, |(name, parent)| (name, *parent)).or_else(|| holders.first())
            else {
                continue;
            };
            let room = self.live.len() < LIVE;
            match self.live.get_mut(&place) {
                Some(live) if seeded.contains(&place) => live.opened(opener, None),
                Some(_) => {}
                None if room && !self.gone.contains_key(&place) => {
                    self.live.insert(place, Live::new(opener, None));
                    seeded.insert(place);
                }
                None => {}
            }
        }
    }

    pub fn event(&mut self, event: &HostEvent) {
        match event.change {
            Change::Listens(place) => {
                self.gone.remove(&place);
                let opener = &event.actor.name;
                let room = self.live.len() < LIVE;
                match self.live.get_mut(&place) {
                    // The event was still on its way when the snapshot was taken, which has it already.
                    Some(live) if event.time_ns < self.seeded_ns && live.is_opened_by(opener.pid) => {
                        live.since_ns = live.since_ns.or(Some(event.time_ns));
                    }
                    Some(live) => live.opened(opener, Some(event.time_ns)),
                    None if room => drop(self.live.insert(place, Live::new(opener, Some(event.time_ns)))),
                    None => {}
                }
            }
            Change::ListensNoMore { place, only_ipv6 } => {
                let opener = self.live.get_mut(&place).and_then(|live| live.closed(&event.actor));
                if self.live.get(&place).is_some_and(Live::is_open) {
                    return;
                }
                let listened_ns = self.live.remove(&place).and_then(|live| live.since_ns);
                let opened_by = opener.filter(|pid| *pid != event.actor.name.pid);
                if self.gone.len() >= GONE {
                    self.forget_oldest();
                }
                let opener = opened_by.and_then(|pid| self.end_of(pid, event.time_ns.saturating_sub(SHUTDOWN_NS)));
                let opener = opener.filter(|(actor, ended_ns)| {
                    !went_to_background(actor, *ended_ns, listened_ns) && !outlived(*ended_ns, event)
                });
                let last = (event.actor.clone(), event.time_ns);
                let (last, (actor, time_ns)) = match opener {
                    Some(opener) => (Some(last), opener.clone()),
                    None => (None, last),
                };
                self.gone.insert(place, Gone { actor, time_ns, ended_ns: None, last, only_ipv6, opened_by });
            }
            Change::Ended => {
                if self.ended.len() >= ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back((event.actor.clone(), event.time_ns));
                let Actor { name, ending, .. } = &event.actor;
                self.live.values_mut().for_each(|live| live.left(name.pid));
                for gone in self.gone.values_mut() {
                    let soon = event.time_ns.saturating_sub(gone.time_ns) < SHUTDOWN_NS;
                    let explains = *ending != Ending::Exited(0)
                        || matches!(gone.actor.ending, Ending::Alive | Ending::Exited(0))
                        || event.time_ns.saturating_sub(gone.time_ns) < BACKGROUND_NS;
                    if gone.opened_by == Some(name.pid) && soon && explains {
                        let last = std::mem::replace(&mut gone.actor, event.actor.clone());
                        gone.last = Some((last, std::mem::replace(&mut gone.time_ns, event.time_ns)));
                    } else if gone.actor.name.pid == name.pid
                        && gone.actor.ending == Ending::Alive
                        && event.time_ns.saturating_sub(gone.time_ns) < SHUTDOWN_NS
                    {
                        gone.actor.ending = *ending;
                        gone.ended_ns = Some(event.time_ns);
                    }
                }
            }
        }
    }

    /// How a server, or a worker of one, ended after this time, and when.
    pub fn end_of(&self, pid: u32, after_ns: u64) -> Option<&(Actor, u64)> {
        self.ended.iter().rev().find(|(actor, ended_ns)| actor.name.pid == pid && *ended_ns >= after_ns)
    }

    /// Does it listen, or did it until a moment ago?
    pub fn is_server(&self, pid: u32) -> bool {
        self.places(pid).next().is_some() || self.gone.values().any(|gone| gone.opened_by == Some(pid))
    }

    fn forget_oldest(&mut self) {
        let mut times: Vec<u64> = self.gone.values().map(|gone| gone.time_ns).collect();
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied().unwrap_or(0);
        self.gone.retain(|_, gone| gone.time_ns > middle);
    }

    /// Who listens exactly there.
    pub fn live(&self, place: Place) -> Option<&Live> {
        self.live.get(&place)
    }

    /// All that listen in a namespace.
    pub fn in_namespace(&self, netns: u32) -> impl Iterator<Item = (SocketAddr, &Live)> {
        self.live.iter().filter(move |(place, _)| place.netns == netns).map(|(place, live)| (place.address, live))
    }

    /// The last that listened there and does no more.
    pub fn last(&self, netns: u32, served: impl Fn(SocketAddr, &Gone) -> bool) -> Option<&Gone> {
        let there = |(place, gone): &(&Place, &Gone)| place.netns == netns && served(place.address, gone);
        self.gone.iter().filter(there).map(|(_, gone)| gone).max_by_key(|gone| gone.time_ns)
    }

    /// Those on a port that ceased after this time.
    pub fn ceased_after(&self, netns: u32, port: u16, time_ns: u64) -> impl Iterator<Item = (SocketAddr, &Gone)> {
        let wanted = move |(place, gone): &(&Place, &Gone)| {
            place.netns == netns && place.address.port() == port && gone.time_ns > time_ns
        };
        self.gone.iter().filter(wanted).map(|(place, gone)| (place.address, gone))
    }

    /// Where a process listens, or did a moment ago.
    pub fn places(&self, pid: u32) -> impl Iterator<Item = Place> {
        let live = self.live.iter().filter(move |(_, live)| live.is_opened_by(pid)).map(|(place, _)| *place);
        let gone = self.gone.iter().filter(move |(_, gone)| gone.actor.name.pid == pid).map(|(place, _)| *place);
        live.chain(gone)
    }
}

/// The opener ended, and somebody else went on serving until that one failed, too: that explains it.
fn outlived(opener_ended_ns: u64, last: &HostEvent) -> bool {
    !matches!(last.actor.ending, Ending::Alive | Ending::Exited(0))
        && last.time_ns.saturating_sub(opener_ended_ns) >= CONSEQUENCE_NS
}

/// A daemon listens first, and leaves the rest to a child: its own end is nobody's.
fn went_to_background(actor: &Actor, ended_ns: u64, listened_ns: Option<u64>) -> bool {
    let soon = |listened_ns: u64| ended_ns.saturating_sub(listened_ns) < BACKGROUND_NS;
    actor.ending == Ending::Exited(0) && listened_ns.is_some_and(soon)
}

/// Looks at the listeners of some network namespaces, each given with a process in it, and finds out who has them open.
/// Tells by when they listened (monotonic, ns). Reads the descriptors of all processes: not for the thread that must keep up with
/// events.
pub fn snapshot(namespaces: &[(u32, u32)]) -> (Vec<Found>, u64) {
    let mut by_inode: BTreeMap<u64, Found> = BTreeMap::new();
    for (netns, pid) in namespaces {
        for (address, inode) in listeners::all(*pid).unwrap_or_default() {
            by_inode.insert(inode, Found { place: Place { netns: *netns, address }, holders: Vec::new() });
        }
    }
    let taken_ns = clock::monotonic_ns();
    by_inode.remove(&0);
    for pid in pids() {
        let inodes = sockets(pid, |inode| by_inode.contains_key(&inode));
        if inodes.is_empty() {
            continue;
        }
        let Some(Stat { comm, parent, .. }) = Stat::read(pid) else { continue };
        let name = Name { pid, comm };
        for inode in inodes {
            if let Some(found) = by_inode.get_mut(&inode) {
                found.holders.push((name.clone(), parent));
            }
        }
    }
    (by_inode.into_values().collect(), taken_ns)
}

/// Inodes of the wanted sockets that a process has open.
pub(super) fn sockets(pid: u32, wanted: impl Fn(u64) -> bool) -> HashSet<u64> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    descriptors
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .filter(|inode| wanted(*inode))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::{Found, Gone, Live, Owners, snapshot};
    use crate::model::host::{Actor, Change, Ending, HostEvent, Name, Place};

    fn place(address: &str) -> Place {
        Place { netns: 1, address: address.parse().expect("an address") }
    }

    fn event(time_ns: u64, pid: u32, ending: Ending, change: Change) -> HostEvent {
        let actor = Actor { name: Name { pid, comm: "app".to_owned() }, parent: 1, master: None, ending };
        HostEvent { time_ns, actor, change }
    }

    fn any(_: SocketAddr, _: &Gone) -> bool {
        true
    }

    #[test]
    fn of_several_nobody_answers_for_the_place() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        let owner = |owners: &Owners| owners.live(there).and_then(Live::owner).map(|name| name.pid);
        owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
        owners.event(&event(2, 8, Ending::Alive, Change::Listens(there)));
        assert_eq!(owner(&owners), None);
        owners.event(&event(3, 7, Ending::Exited(0), Change::ceases(there)));
        assert_eq!(owner(&owners), Some(8), "the other has left");
        owners.event(&event(4, 8, Ending::Alive, Change::Listens(there)));
        assert_eq!(owner(&owners), Some(8), "two of its own");
    }

    /// A server that was replaced in order does not explain how its successor ended.
    #[test]
    fn the_last_that_served_counts() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        let second = 1_000_000_000;
        owners.event(&event(0, 10, Ending::Alive, Change::Listens(there)));
        owners.event(&event(100 * second, 10, Ending::Exited(0), Change::Ended));
        let crashed = Ending::Killed { signal: 11, core: false };
        owners.event(&event(125 * second, 20, crashed, Change::ceases(there)));
        assert_eq!(owners.last(1, any).expect("gone").actor.name.pid, 20);
        owners.event(&event(125 * second + 1, 20, crashed, Change::Ended));
        assert_eq!(owners.last(1, any).expect("gone").actor.ending, crashed);
    }

    #[test]
    fn a_worker_that_fails_with_its_master_or_after_it() {
        for (failed_ns, named) in [(1_500_000_000, 10), (3_000_000_000, 20)] {
            let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
            let killed = |signal| Ending::Killed { signal, core: false };
            owners.event(&event(0, 10, Ending::Alive, Change::Listens(there)));
            owners.event(&event(1_000_000_000, 10, killed(15), Change::Ended));
            owners.event(&event(failed_ns, 20, killed(11), Change::ceases(there)));
            let gone = owners.last(1, any).expect("gone");
            assert_eq!((gone.actor.name.pid, gone.last.is_some()), (named, named == 10));
        }
    }

    #[test]
    fn a_listener_comes_and_goes() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
        assert_eq!(owners.live(there).and_then(Live::owner).map(|name| name.pid), Some(7));
        owners.event(&event(2, 7, Ending::Exited(3), Change::ceases(there)));
        assert_eq!(owners.live(there), None);
        assert_eq!(owners.last(1, any).expect("gone").actor.ending, Ending::Exited(3));
        assert_eq!(owners.last(2, any), None, "another namespace");
        owners.event(&event(3, 8, Ending::Alive, Change::Listens(there)));
        assert_eq!(owners.last(1, any), None, "somebody listens again");
    }

    #[test]
    fn one_of_two_that_share_a_port_is_no_end() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
        owners.event(&event(1, 8, Ending::Alive, Change::Listens(there)));
        owners.event(&event(2, 7, Ending::Exited(0), Change::ceases(there)));
        assert!(owners.live(there).is_some() && owners.last(1, any).is_none());
    }

    /// Whichever of them opened last.
    #[test]
    fn of_those_that_share_a_port_the_last_to_go_counts() {
        for last in [7, 8, 9] {
            let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
            owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
            owners.event(&event(2, 8, Ending::Alive, Change::Listens(there)));
            owners.event(&event(3, 9, Ending::Alive, Change::Listens(there)));
            for pid in [7, 8, 9].into_iter().filter(|pid| *pid != last) {
                assert!(owners.is_server(pid));
                owners.event(&event(10, pid, Ending::Exited(0), Change::ceases(there)));
                owners.event(&event(11, pid, Ending::Exited(0), Change::Ended));
            }
            assert!(owners.is_server(last), "its end is to be told");
            let killed = Ending::Killed { signal: 9, core: false };
            owners.event(&event(20, last, killed, Change::ceases(there)));
            owners.event(&event(21, last, killed, Change::Ended));
            let gone = owners.last(1, any).expect("gone");
            assert_eq!((gone.actor.name.pid, gone.actor.ending, gone.time_ns), (last, killed, 20));
        }
    }

    #[test]
    fn a_close_before_the_exit_is_of_the_exit() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        owners.event(&event(1, 7, Ending::Alive, Change::ceases(there)));
        owners.event(&event(2, 9, Ending::Exited(1), Change::Ended));
        assert_eq!(owners.last(1, any).expect("gone").actor.ending, Ending::Alive, "another process");
        owners.event(&event(2, 7, Ending::Exited(1), Change::Ended));
        let gone = owners.last(1, any).expect("gone");
        assert_eq!((gone.actor.ending, gone.time_ns, gone.ended_ns), (Ending::Exited(1), 1, Some(2)));
    }

    #[test]
    fn the_master_counts_not_the_worker_that_closed_last() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        for master_first in [true, false] {
            owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
            let later = super::BACKGROUND_NS;
            let worker = event(later + 3, 8, Ending::Killed { signal: 9, core: false }, Change::ceases(there));
            let ended_ns = later + if master_first { 2 } else { 4 };
            let master = event(ended_ns, 7, Ending::Exited(0), Change::Ended);
            let order = if master_first { [&master, &worker] } else { [&worker, &master] };
            order.into_iter().for_each(|event| owners.event(event));
            let gone = owners.last(1, any).expect("gone");
            assert_eq!((gone.actor.name.pid, gone.actor.ending), (7, Ending::Exited(0)));
        }
        // The master lives on without it.
        owners.event(&event(10, 9, Ending::Alive, Change::Listens(there)));
        owners.event(&event(11, 8, Ending::Exited(1), Change::ceases(there)));
        assert_eq!(owners.last(1, any).expect("gone").actor.name.pid, 8);
    }

    #[test]
    fn one_that_went_to_the_background_is_its_child() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        owners.event(&event(1, 7, Ending::Alive, Change::Listens(there)));
        owners.event(&event(1_000_000, 7, Ending::Exited(0), Change::Ended));
        let crash = Ending::Killed { signal: 11, core: true };
        owners.event(&event(20_000_000_000, 8, crash, Change::ceases(there)));
        let gone = owners.last(1, any).expect("gone");
        assert_eq!((gone.actor.name.pid, gone.actor.ending), (8, crash));
    }

    #[test]
    fn memory_is_bounded() {
        let mut owners = Owners::default();
        for number in 0..20_000_u32 {
            let there = Place { netns: number, address: "127.0.0.1:80".parse().expect("an address") };
            owners.event(&event(u64::from(number), 7, Ending::Exited(0), Change::ceases(there)));
        }
        assert!(owners.gone.len() <= super::GONE);
        assert!(owners.last(19_999, any).is_some(), "the latest stays");
    }

    #[test]
    fn the_master_owns_what_its_workers_hold() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        let name = |pid| Name { pid, comm: "app".to_owned() };
        owners.seed(vec![Found { place: there, holders: vec![(name(11), 10), (name(10), 1), (name(12), 10)] }], 0);
        assert_eq!(owners.live(there).and_then(Live::owner).map(|name| name.pid), Some(10));
    }

    #[test]
    fn what_the_snapshot_has_is_not_counted_again() {
        let (mut owners, there) = (Owners::default(), place("127.0.0.1:80"));
        let name = Name { pid: 7, comm: "app".to_owned() };
        owners.seed(vec![Found { place: there, holders: vec![(name, 1)] }], 10);
        owners.event(&event(9, 7, Ending::Alive, Change::Listens(there)));
        assert_eq!(owners.live(there).and_then(|live| live.since_ns), Some(9));
        owners.event(&event(20, 7, Ending::Exited(3), Change::ceases(there)));
        assert_eq!(owners.last(1, any).expect("gone").actor.ending, Ending::Exited(3));
        owners.seed(Vec::new(), 10);
        for (time_ns, pid) in [(30, 8), (31, 8)] {
            owners.event(&event(time_ns, pid, Ending::Alive, Change::Listens(there)));
        }
        owners.event(&event(40, 8, Ending::Exited(0), Change::ceases(there)));
        assert!(owners.live(there).is_some(), "it has opened two since");
    }

    #[test]
    fn our_own_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let own = std::process::id();
        let (found, _) = snapshot(&[(1, own)]);
        let ours = found.iter().find(|found| found.place.address == address).expect("it listens");
        assert!(ours.holders.iter().any(|(name, _)| name.pid == own), "{ours:?}");
    }
}
