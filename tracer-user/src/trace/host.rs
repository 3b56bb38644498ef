//! What is known of the host besides nginx, for the reasons behind causes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{IpAddr, SocketAddr},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use tracer_common::{listener::Overflowed, loss::Program, server::LISTENS};

use super::{backlogs::Backlogs, roots, sockets::Sockets, waits::Waits};
use crate::{
    collect::{
        drop::{Drop, Drops},
        host::Peers,
        icmp::Icmps,
        idle::Idle,
        overflow::Overflows,
        passing::{self, Passing},
        reset::Resets,
        ttl::Ttls,
    },
    context::{
        addresses::Addresses,
        conntrack::Conntrack,
        containers::Containers,
        limits::Limits,
        listeners::Listeners,
        namespaces::{Namespaces, enter, of_host},
        owners::{Found, Owners, snapshot},
        process::{ProcessFacts, name, same_program},
        route::Routes,
        stat::Stat,
        unit::Units,
        unix::holders::is_manager,
    },
    kernel::clock,
    model::{
        address::Address,
        host::{Actor, Change, Ending, Ends, HostEvent, Place},
        verdict::{Failure, ResetBy},
    },
    probe::attach::Probes,
};

/// Where many are, dropped packets are looked at for so long after the last segment that had to be sent again, or was refused by
/// nobody that is known, and how far segments come after another host's last reset: the next failure may take its time.
const WATCH_NS: u64 = 600_000_000_000;

/// Whether something is still to be looked at that was last wanted then.
fn is_wanted(last_ns: Option<u64>) -> bool {
    last_ns.is_some_and(|last_ns| clock::monotonic_ns().saturating_sub(last_ns) < WATCH_NS)
}

pub(super) struct Host {
    pub(super) listeners: Listeners,
    pub(super) owners: Owners,
    pub(super) peers: Peers,
    pub(super) overflows: Overflows,
    backlogs: Backlogs,
    pub(super) drops: Drops,
    pub(super) icmp: Icmps,
    pub(super) idle: Idle,
    pub(super) limits: Limits,
    pub(super) sockets: Sockets,
    pub(super) resets: Resets,
    pub(super) ttls: Ttls,
    passing: Passing,
    pub(super) conntrack: Conntrack,
    pub(super) namespaces: Namespaces,
    containers: Containers,
    pub(super) routes: Routes,
    pub(super) addresses: Addresses,
    /// The kernel tells of every RST that its TCP sends, also where no socket listens.
    pub(super) sees_all_resets: bool,
    /// Since when dropped packets are looked at.
    drops_watched_ns: Option<u64>,
    pub(super) waits: Waits,
    pub(super) units: Units,
    /// Failures told while whoever closed was about to end.
    pub(super) leaving: roots::Pending,
    /// Failures told while it was looked up whose their upstream's address is.
    pub(super) unsettled: roots::Pending,
    /// Whoever closes a unix socket is seen, exiting or not.
    pub(super) sees_unix_closes: bool,
    /// Every signal that stops a process is seen.
    pub(super) sees_stops: bool,
    /// Every freezing of a control group is.
    pub(super) sees_freezes: bool,
    freezes: HashMap<MapData, u64, u64>,
    servers: HashMap<MapData, u32, u32>,
    snapshot: Option<Receiver<(Vec<Found>, u64)>>,
}

impl Host {
    pub(super) fn new(
        probes: &mut Probes,
        drop_reasons: BTreeMap<u32, String>,
        reset_has_reason: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            listeners: Listeners::default(),
            owners: Owners::default(),
            peers: Peers::new(probes.take_peers()?, probes.take_fates()?, probes.take_stops()?, probes.take_orders()?),
            overflows: Overflows::new(probes.take_overflows()?, probes.is_attached(Program::ConnRequest)),
            backlogs: Backlogs::default(),
            drops: Drops::new(
                probes.take_drops()?,
                probes.take_last_retransmit()?,
                probes.take_drop_code()?,
                drop_reasons,
            ),
            icmp: Icmps::new(probes.take_icmp()?, &probes.sources()),
            idle: Idle::new(probes.take_idle()?, clock::jiffy_us()),
            limits: Limits::default(),
            sockets: Sockets::default(),
            resets: Resets::new(probes.take_resets()?),
            ttls: Ttls::new(probes.take_ttls()?),
            passing: Passing::new(probes.take_passed()?),
            conntrack: Conntrack::default(),
            namespaces: Namespaces::default(),
            containers: Containers::default(),
            routes: Routes::default(),
            addresses: Addresses::default(),
            sees_all_resets: reset_has_reason || probes.is_attached(Program::Refuse),
            drops_watched_ns: None,
            waits: Waits::default(),
            units: Units::default(),
            leaving: roots::Pending::new(roots::LEAVING),
            unsettled: roots::Pending::new(roots::UNSETTLED),
            sees_freezes: probes.is_attached(Program::CgroupFreeze),
            freezes: probes.take_freezes()?,
            sees_unix_closes: probes.is_attached(Program::UnixRelease),
            sees_stops: probes.is_attached(Program::SignalGenerate),
            servers: probes.take_servers()?,
            snapshot: None,
        })
    }

    /// Begins to look at the listeners of these processes' network namespaces, on a thread of its own: it reads the
    /// descriptors of all processes of the host.
    pub(super) fn look_around(&mut self, probes: &mut Probes, processes: &[ProcessFacts]) -> anyhow::Result<()> {
        let theirs = processes.iter().filter_map(|facts| Some((u32::try_from(facts.netns?).ok()?, facts.pid)));
        // What listens outside of a container is worth knowing in it.
        let namespaces: BTreeMap<u32, u32> = of_host().into_iter().chain(theirs).collect();
        let links: Vec<_> = namespaces.values().map(|pid| (*pid, probes.listeners())).collect();
        let namespaces: Vec<_> = namespaces.into_iter().collect();
        let (sender, receiver) = channel();
        let look = move || {
            for (pid, link) in links {
                // Without it, old listeners are not looked at by the kernel programs; the rest goes on.
                let _ = link.map(|link| {
                    enter(pid)?;
                    let mut file = link.into_file().map_err(std::io::Error::other)?;
                    file.read_to_end(&mut Vec::new())
                });
            }
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send(snapshot(&namespaces));
        };
        thread::Builder::new().name("look-around".into()).spawn(look).context("cannot start a thread")?;
        self.snapshot = Some(receiver);
        Ok(())
    }

    /// Lets dropped packets be looked at where there are few, else while connections have to send things again, and for a while
    /// after. Some: it cannot, and why.
    pub(super) fn watch_drops(&mut self, probes: &mut Probes) -> Option<String> {
        let few = self.passing.is_little(passing::Place::Drops);
        let complaint = probes.watch_drops(few || is_wanted(self.drops.last_wanted_ns()));
        self.drops.count(&self.passing);
        let complaint = complaint.or_else(|| self.drops.take_blindness().map(str::to_owned));
        // What the kernel gives a reason for is seen at once; the rest only where its places are known.
        let sees_all = probes.watches_drops() && self.drops.sees_all() == Some(true);
        self.drops_watched_ns = sees_all.then(|| self.drops_watched_ns.unwrap_or_else(clock::monotonic_ns));
        complaint
    }

    /// Lets it be looked at how far segments come where few do, else while other hosts reset connections, and for a while after.
    /// Some: it cannot, and why.
    pub(super) fn watch_ttl(&mut self, probes: &mut Probes) -> Option<String> {
        let few = self.passing.is_little(passing::Place::Segments);
        probes.watch_ttl(few || is_wanted(self.ttls.last_wanted_ns()))
    }

    /// All dropped packets are looked at since this time, or longer, and none has made room for others.
    pub(super) fn watches_drops_since(&self, time_ns: u64) -> bool {
        self.drops_watched_ns.is_some_and(|watched_ns| watched_ns.max(self.drops.are_kept_since()) <= time_ns)
    }

    /// What of this connection was dropped between these times, as far as that was looked at.
    pub(super) fn dropped(&mut self, ends: &Ends, times_ns: (u64, u64)) -> Option<Drop> {
        let (from, until) = times_ns;
        let found = self.drops.of(ends, times_ns, &self.passing);
        found.filter(|found| from <= found.last_ns && found.first_ns <= until)
    }

    /// A rule that rejects could have refused it unseen: TCP's own RSTs are not told of, and packets that were dropped while
    /// it lasted were not looked at.
    pub(super) fn may_have_missed_a_rule(&self, failure: &Failure) -> bool {
        failure.connection.reset == Some(ResetBy::Unseen)
            && !self.sees_all_resets
            && !failure.connection.connected_ns.is_some_and(|since| self.watches_drops_since(since))
    }

    pub(super) fn is_looking_around(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Takes in what the thread found, once it is there; waits so long for it.
    pub(super) fn looked_around(&mut self, patience: Duration) {
        let Some(snapshot) = &self.snapshot else { return };
        let (found, taken_ns) = match snapshot.recv_timeout(patience) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => (Vec::new(), 0),
        };
        self.snapshot = None;
        self.found(found, taken_ns);
    }

    /// Looks from time to time which of these upstreams other network namespaces of this host have, and who listens there.
    pub(super) fn look_for_containers(&mut self, upstreams: impl FnOnce() -> BTreeSet<(u32, IpAddr)>) {
        if let Some((found, taken_ns)) = self.containers.look(upstreams) {
            self.found(found, taken_ns);
        }
    }

    /// Takes in who was found to listen: the kernel programs tell how those end.
    fn found(&mut self, mut found: Vec<Found>, taken_ns: u64) {
        let holders: BTreeSet<u32> =
            found.iter().flat_map(|found| &found.holders).map(|(holder, _)| holder.pid).collect();
        let mut ended = BTreeSet::new();
        for pid in holders {
            // An LRU map: there is always room.
            let _ = self.servers.insert(pid, LISTENS, 0);
            self.units.meet(pid);
            // Of one that has ended by now nobody will tell.
            if !Stat::read(pid).is_some_and(|stat| stat.is_alive()) {
                ended.insert(pid);
            }
        }
        found.iter_mut().for_each(|found| found.holders.retain(|(holder, _)| !ended.contains(&holder.pid)));
        self.owners.seed(found, taken_ns);
    }

    /// When a control group was told to stand still, by its id; None: before the tracing, or it was not seen.
    pub(super) fn frozen_ns(&self, group: u64) -> Option<u64> {
        self.freezes.get(&group, 0).ok()
    }

    /// Takes in who listens on unix sockets, waiting so long for it: the kernel programs tell how those end. Of what a service
    /// manager starts nothing is to be told, though it may hold a socket for others.
    pub(super) fn surveyed(&mut self, patience: Duration) {
        for holder in self.sockets.surveyed(patience).into_iter().filter(|holder| !is_manager(&holder.name)) {
            let _ = self.servers.insert(holder.name.pid, LISTENS, 0);
            self.units.meet(holder.name.pid);
        }
    }

    /// Names the master of a worker that has given itself another name than its master has. Whoever started it, and serves nothing, is
    /// none, whatever its name.
    pub(super) fn knows(&self, actor: &mut Actor) {
        if !self.owners.is_server(actor.parent) && !self.sockets.places.is_server(actor.parent) {
            actor.master = None;
        } else if actor.master.is_none()
            && let Some(master) = name(actor.parent).filter(|master| same_program(&master.comm, &actor.name.comm))
        {
            actor.master = Some(master);
        }
    }

    /// Listeners that dropped connections since the last call, with what was counted of it: as the kernel programs saw it, else as
    /// seen in the network namespaces of these processes and of the containers that serve them.
    pub(super) fn overflowed(&mut self, pids: impl Iterator<Item = u32>) -> Vec<(Place, Overflowed)> {
        let mut found = self.overflows.poll();
        if !self.overflows.exact {
            let looked = self.backlogs.look(pids.chain(self.containers.processes()));
            let new = looked.into_iter().filter(|(place, _)| !found.iter().any(|(known, _)| known == place));
            let new: Vec<_> = new.collect();
            found.extend(new);
        }
        found
    }

    /// Takes in an event; gives those of these upstreams that the process served which ended.
    pub(super) fn event(
        &mut self,
        event: &HostEvent,
        upstreams: impl Iterator<Item = (u32, SocketAddr)>,
    ) -> Vec<String> {
        let mut served = Vec::new();
        if event.change == Change::Ended {
            let mut places: Vec<Place> = self.owners.places(event.actor.name.pid).collect();
            // A child of a server that ends in order need not have served: it had a job to do.
            if let Some(master) = event.actor.master.as_ref().filter(|_| event.actor.ending != Ending::Exited(0)) {
                places.extend(self.owners.places(master.pid));
            }
            if !places.is_empty() {
                let Self { namespaces, containers, .. } = self;
                let at = |netns: u32, address: SocketAddr| {
                    places.iter().any(|place| place.netns == netns && roots::serves(place.address, address))
                };
                let its_own = |(netns, address): &(u32, SocketAddr)| {
                    let in_container = |theirs: u32| {
                        // Of one that is gone what was seen last counts; a number may be another one's by now.
                        let process = containers.process_in(theirs);
                        at(theirs, *address)
                            && process.is_none_or(|pid| namespaces.owns(theirs, Some(pid), address.ip()))
                    };
                    containers.of(*netns, address.ip()).is_some_and(in_container)
                        || at(*netns, *address) && namespaces.owns(*netns, None, address.ip())
                };
                served = upstreams.filter(its_own).map(|(_, address)| address.to_string()).collect();
                served.sort_unstable();
                served.dedup();
            }
        }
        if let Change::Listens(_) = event.change {
            self.units.meet(event.actor.name.pid);
        }
        self.owners.event(event);
        self.listeners.event(event);
        served.extend(self.sockets.event(event).into_iter().map(|path| Address::Unix(path).to_string()));
        served
    }

    /// The listener that takes the connections of this worker to an address; None: there is none, or neither the worker's network
    /// namespace nor a container's alone has that address, whatever listens on that port there.
    pub(super) fn listener_for(&mut self, netns: u32, worker: u32, upstream: SocketAddr) -> Option<Place> {
        let owner = self.namespaces.owns(netns, Some(worker), upstream.ip()).then_some(netns);
        let netns = match owner {
            Some(netns) => netns,
            None => {
                let theirs = self.containers.of(netns, upstream.ip())?;
                let process = self.containers.process_in(theirs)?;
                self.namespaces.owns(theirs, Some(process), upstream.ip()).then_some(theirs)?
            }
        };
        let exact = Place { netns, address: upstream };
        let any = |ip: IpAddr| Place { netns, address: SocketAddr::new(ip, upstream.port()) };
        let unspecified = [any(std::net::Ipv4Addr::UNSPECIFIED.into()), any(std::net::Ipv6Addr::UNSPECIFIED.into())];
        let known = |place: &Place| self.overflows.at(*place).is_some() || self.owners.live(*place).is_some();
        [exact].into_iter().chain(unspecified).filter(|place| roots::serves(place.address, upstream)).find(known)
    }
}
