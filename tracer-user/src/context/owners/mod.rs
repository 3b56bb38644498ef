//! Who listens where, who did, and how those ended: snapshots of network namespaces, kept current by the kernel's events.

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
/// Looking at the sockets of a namespace takes less.
const SEEN_NS: u64 = 1_000_000_000;
/// Network namespaces whose snapshots are remembered as such.
const NAMESPACES: usize = 1024;
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
    /// When the snapshots of network namespaces were taken.
    seeded_ns: HashMap<u32, u64>,
}

impl Owners {
    /// Takes in what was there at this time (monotonic, ns), beside what events have told.
    pub fn seed(&mut self, found: Vec<Found>, taken_ns: u64) {
        if self.seeded_ns.len() >= NAMESPACES {
            self.seeded_ns.clear();
        }
        let mut by_place: HashMap<Place, Vec<Name>> = HashMap::new();
        for Found { place, holders } in found {
            self.seeded_ns.insert(place.netns, taken_ns);
            let opener = holders::master(&holders, |(name, parent)| (name, *parent)).or_else(|| holders.first());
            by_place.entry(place).or_default().extend(opener.map(|(opener, _)| opener.clone()));
        }
        for (place, openers) in by_place {
            let closed_ns = match (self.live.get(&place), self.gone.get(&place)) {
                (Some(live), _) => live.closed_ns,
                (None, Some(gone)) => gone.last.as_ref().map_or(gone.time_ns, |(_, closed_ns)| *closed_ns),
                (None, None) => 0,
            };
            // What has closed at about that time may or may not be among them: better what events tell alone.
            if closed_ns == 0 || closed_ns + SEEN_NS < taken_ns {
                self.gone.remove(&place);
                self.seed_one(place, &openers);
            }
        }
    }

    /// The sockets of one place. Those that events have told of already are among them.
    fn seed_one(&mut self, place: Place, openers: &[Name]) {
        let mut known = self.live.get(&place).map_or_else(HashMap::new, Live::by_opener);
        for opener in openers {
            if let Some(told) = known.get_mut(&opener.pid).filter(|told| **told > 0) {
                *told -= 1;
                continue;
            }
            let room = self.live.len() < LIVE;
            match self.live.get_mut(&place) {
                Some(live) => live.opened(opener, None),
                None if room => drop(self.live.insert(place, Live::new(opener, None))),
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
                let seeded_ns = self.seeded_ns.get(&place.netns).copied().unwrap_or(0);
                match self.live.get_mut(&place) {
                    // The event was still on its way when the snapshot was taken, which has it already.
                    Some(live) if event.time_ns < seeded_ns && live.is_opened_by(opener.pid) => {
                        live.since_ns = live.since_ns.or(Some(event.time_ns));
                    }
                    Some(live) => live.opened(opener, Some(event.time_ns)),
                    None if room => drop(self.live.insert(place, Live::new(opener, Some(event.time_ns)))),
                    None => {}
                }
            }
            Change::ListensNoMore { place, only_ipv6 } => {
                let opener = self.live.get_mut(&place).and_then(|live| live.closed(&event.actor, event.time_ns));
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
mod tests;
