//! Who listens on the unix sockets that nginx connects to, who did, and how those ended: what was seen from time to time,
//! and the kernel's events about processes between.

use std::collections::HashMap;

use super::{
    holders::{self, Holder},
    look::{Holders, Seen},
    view::Scope,
    walk::Part,
};
use crate::model::host::{Actor, Change, Ending, HostEvent, Name};

/// Places remembered.
const PLACES: usize = 1024;
/// Ends remembered of one place: a prefork server has many processes.
const ENDS: usize = 64;

/// A place where somebody listened when it was looked at.
#[derive(Clone, Debug)]
pub struct Place {
    pub owner: Name,
    /// The file, as it was then.
    pub file: Option<Part>,
    /// First and last seen listening, monotonic.
    pub first_ns: u64,
    pub seen_ns: u64,
    live: bool,
    inode: u64,
    holders: Vec<Holder>,
    ended: Vec<(Actor, u64)>,
    /// When the last of those that hold it ended, or a child of theirs.
    last_end_ns: u64,
}

/// How it went on with a listener that is no more.
#[derive(Debug, PartialEq, Eq)]
pub enum Afterwards<'a> {
    Ended(&'a Actor, u64),
    /// It is there, and listens no more.
    Alive,
    /// It is not there, and nobody saw how it ended.
    Unseen,
}

impl Place {
    /// Has this process it open?
    pub fn is_held_by(&self, pid: u32) -> bool {
        self.holders.iter().any(|holder| holder.name.pid == pid)
    }

    /// Did one of its processes end since then?
    pub const fn lost_one_since(&self, time_ns: u64) -> bool {
        self.last_end_ns > time_ns
    }

    /// What became of the owner until that time.
    pub fn afterwards(&self, time_ns: u64) -> Afterwards<'_> {
        let ended =
            self.ended.iter().find(|(actor, ended_ns)| actor.name.pid == self.owner.pid && *ended_ns <= time_ns);
        match ended {
            Some((actor, ended_ns)) => Afterwards::Ended(actor, *ended_ns),
            None if self.holders.iter().any(|holder| holder.name == self.owner && holder.is_alive()) => {
                Afterwards::Alive
            }
            None => Afterwards::Unseen,
        }
    }
}

/// The table, by the path as nginx has it and in whose eyes. Judges nothing.
#[derive(Debug, Default)]
pub struct Places {
    known: HashMap<(Scope, String), Place>,
}

impl Places {
    /// Takes in what was seen; gives the processes that were not known to listen.
    pub fn take(&mut self, seen: Seen) -> Vec<Holder> {
        let Seen { taken_ns, scope, path, file, served } = seen;
        let key = (scope, path);
        let Some(served) = served else {
            if let Some(place) = self.known.get_mut(&key).filter(|place| place.seen_ns < taken_ns) {
                place.live = false;
            }
            return Vec::new();
        };
        let Some(owner) = holders::owner(&served.holders).map(|holder| holder.name.clone()) else { return Vec::new() };
        let former = self.known.get_mut(&key);
        if former.as_ref().is_some_and(|place| place.seen_ns >= taken_ns) {
            return Vec::new();
        }
        let watched: Vec<Holder> = former.as_ref().map_or_else(Vec::new, |place| place.holders.clone());
        let new = served.holders.iter().filter(|holder| !watched.contains(holder)).cloned().collect();
        let (inode, holders) = (served.listener.inode, served.holders);
        match former {
            Some(place) if place.inode == inode => {
                (place.owner, place.file, place.seen_ns, place.live) = (owner, file, taken_ns, true);
                place.holders = holders;
            }
            _ => {
                self.make_room(&key);
                let ended = Vec::new();
                let (first_ns, seen_ns, last_end_ns) = (taken_ns, taken_ns, 0);
                let place = Place { owner, file, first_ns, seen_ns, live: true, inode, holders, ended, last_end_ns };
                self.known.insert(key, place);
            }
        }
        new
    }

    /// Takes in that a process ended; gives the paths that it served.
    pub fn event(&mut self, event: &HostEvent) -> Vec<String> {
        let HostEvent { time_ns, actor, change } = event;
        if *change != Change::Ended {
            return Vec::new();
        }
        let mut served = Vec::new();
        for ((_, path), place) in &mut self.known {
            let holds = |pid: u32| place.holders.iter().any(|holder| holder.name.pid == pid);
            // A child of a server that ends in order need not have served: it had a job to do.
            let of_master =
                || actor.ending != Ending::Exited(0) && actor.master.as_ref().is_some_and(|it| holds(it.pid));
            if holds(actor.name.pid) || of_master() {
                served.push(path.clone());
            }
            if holds(actor.name.pid) || holds(actor.parent) {
                place.last_end_ns = place.last_end_ns.max(*time_ns);
            }
            if holds(actor.name.pid) {
                // Its workers may come and go for days; what counts in the end is the owner's.
                if place.ended.len() >= ENDS {
                    let oldest = place.ended.iter().position(|(ended, _)| ended.name.pid != place.owner.pid);
                    oldest.map(|oldest| place.ended.remove(oldest));
                }
                place.ended.push((actor.clone(), *time_ns));
            }
        }
        served
    }

    /// Does it listen, or did it when last looked at?
    pub fn is_server(&self, pid: u32) -> bool {
        self.known.values().any(|place| place.holders.iter().any(|holder| holder.name.pid == pid))
    }

    /// Who listened there and does no more.
    pub fn last(&self, scope: &Scope, path: &str) -> Option<&Place> {
        self.known.get(&(scope.clone(), path.to_owned())).filter(|place| !place.live)
    }

    /// Who listens at this path, alone, as last seen.
    pub fn only(&self, path: &str) -> Option<&Place> {
        let place = self.alone(path)?;
        let holds = |holder: &Holder| holder.name == place.owner && holder.is_alive();
        (place.live && place.holders.iter().any(holds)).then_some(place)
    }

    /// Who listened at this path, alone, and ended within these times, so that nobody had the socket any more.
    pub fn ended_within(&self, path: &str, (from, until): (u64, u64)) -> Option<&(Actor, u64)> {
        let place = self.alone(path)?;
        let ended = |holder: &Holder| place.ended.iter().any(|(actor, _)| actor.name.pid == holder.name.pid);
        if place.holders.iter().any(|holder| !ended(holder) && holder.is_alive()) {
            return None;
        }
        let then =
            |(actor, ended_ns): &&(Actor, u64)| actor.name.pid == place.owner.pid && (from..=until).contains(ended_ns);
        place.ended.iter().rev().find(then)
    }

    /// What is known of a path, if only one kind of eyes has looked at it.
    fn alone(&self, path: &str) -> Option<&Place> {
        let mut at = self.known.iter().filter(|((_, known), _)| known == path).map(|(_, place)| place);
        let (place, None) = (at.next()?, at.next()) else { return None };
        Some(place)
    }

    /// Holders by socket, of those that listened when last seen.
    pub fn holders(&self) -> Holders {
        let live = self.known.values().filter(|place| place.live);
        live.map(|place| (place.inode, place.holders.clone())).collect()
    }

    fn make_room(&mut self, key: &(Scope, String)) {
        if self.known.len() < PLACES || self.known.contains_key(key) {
            return;
        }
        let mut times: Vec<u64> = self.known.values().map(|place| place.seen_ns).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        self.known.retain(|_, place| place.seen_ns > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::{Afterwards, Places};
    use crate::{
        context::unix::{
            diag::{Bound, Listener},
            holders::Holder,
            look::{Seen, Served},
            view::{Scope, View},
        },
        kernel::clock::monotonic_ns,
        model::host::{Actor, Change, Ending, HostEvent, Name},
    };

    fn scope() -> Scope {
        View::of(std::process::id(), monotonic_ns()).expect("we exist").scope
    }

    fn seen(taken_ns: u64, path: &str, inode: u64, pids: &[u32]) -> Seen {
        let bound = Bound::Path(path.into());
        let listener = Listener { inode, netns: 1, bound, file: None, limit: None, queued: None };
        let holders = pids.iter().map(|pid| Holder::sample(*pid, pids[0])).collect();
        let served = (!pids.is_empty()).then_some(Served { listener, holders, by_name: false });
        Seen { taken_ns, scope: scope(), path: path.into(), file: None, served }
    }

    fn ends(time_ns: u64, pid: u32, parent: u32) -> HostEvent {
        let name = Name { pid, comm: "app".into() };
        let actor = Actor {
            master: (parent != 1).then(|| Name { pid: parent, comm: name.comm.clone() }),
            name,
            parent,
            ending: Ending::Exited(1),
        };
        HostEvent { time_ns, actor, change: Change::Ended }
    }

    /// No process has such a number.
    const PID: u32 = u32::MAX - 7;

    #[test]
    fn a_listener_that_went_is_known_with_its_end() {
        let mut places = Places::default();
        assert_eq!(places.take(seen(1, "/a", 5, &[PID, PID + 1])).len(), 2, "both are new");
        assert!(places.take(seen(2, "/a", 5, &[PID])).is_empty());
        assert!(places.last(&scope(), "/a").is_none(), "it listens");
        assert_eq!(places.event(&ends(10, PID, 1)), ["/a"]);
        assert!(places.known.values().all(|place| place.lost_one_since(9) && !place.lost_one_since(10)));
        places.take(seen(11, "/a", 5, &[]));
        let place = places.last(&scope(), "/a").expect("nobody listens any more");
        assert!(matches!(place.afterwards(20), Afterwards::Ended(actor, 10) if actor.name.pid == PID));
        assert_eq!(place.afterwards(9), Afterwards::Unseen, "that was later");
        places.take(seen(12, "/a", 6, &[PID + 2]));
        assert!(places.last(&scope(), "/a").is_none(), "another listens");
    }

    #[test]
    fn what_was_seen_earlier_does_not_count() {
        let mut places = Places::default();
        places.take(seen(5, "/a", 5, &[PID]));
        places.take(seen(4, "/a", 5, &[]));
        assert!(places.last(&scope(), "/a").is_none());
        assert!(places.event(&ends(10, PID + 3, 1)).is_empty(), "a stranger");
        assert_eq!(places.event(&ends(10, PID + 3, PID)), ["/a"], "forked since");
        assert!(places.holders().contains_key(&5));
    }

    #[test]
    fn memory_is_bounded() {
        let mut places = Places::default();
        for number in 0..5000 {
            places.take(seen(number, &format!("/{number}"), number, &[PID]));
        }
        assert!(places.known.len() <= super::PLACES);
        assert!(places.holders().contains_key(&4999), "the latest stays");
    }
}
