//! What became of a TCP connection on this host: on its way, and at the end where it arrives.
//!
//! Its address may be rewritten on the way (NAT), as container engines do to publish ports: then who listens at the address
//! that nginx has says nothing, and what is known of the connection is looked for under the address where it arrives.

use super::{Found, dropped, ended, icmp, of_close, proxy, queue, refused};
use crate::{
    collect::host::Closer,
    context::{self, namespaces::of_host, owners::Live, stat::Stat},
    model::{
        address::Address,
        cause::Cause,
        host::{Actor, Ending, Ends, Place},
        verdict::{Failure, ResetBy, RootKind},
    },
    trace::host::Host,
};

/// The RST may be traced after it was received: tcp_send_active_reset() transmits first (net/ipv4/tcp_output.c).
pub(super) const SLACK_NS: u64 = 2_000_000;

/// The ends of its connection, as nginx has them; None: it is no TCP connection.
pub(super) fn here(failure: &Failure) -> Option<Ends> {
    match (&failure.connection.local, &failure.upstream, failure.netns) {
        (Some(Address::Tcp(local)), Some(Address::Tcp(remote)), Some(netns)) => {
            Some(Ends { netns, local: *local, remote: *remote })
        }
        _ => None,
    }
}

pub(super) struct Tcp<'a> {
    pub(super) failure: &'a Failure,
    /// As nginx has it; None: it has no TCP connection.
    here: Option<Ends>,
    /// As the end has it where it arrives; None: nothing is rewritten, as far as this is told.
    there: Option<Ends>,
}

impl<'a> Tcp<'a> {
    pub(super) fn new(failure: &'a Failure, host: &mut Host) -> Self {
        let here = here(failure);
        let there = here.and_then(|here| {
            let translated = host.conntrack.translated(here, failure.worker);
            translated.or_else(|| refused_elsewhere(failure, here, host))
        });
        Self { failure, here, there }
    }

    /// Both of its names.
    fn ends(&self) -> impl Iterator<Item = Ends> {
        self.here.into_iter().chain(self.there)
    }

    /// Its ends where it arrives, if that is not where nginx sent it.
    pub(super) const fn there(&self) -> Option<Ends> {
        self.there
    }

    /// Says where it was led, where that is not where nginx sent it.
    pub(super) fn led(&self, found: Found) -> Found {
        let (Some(here), Some(there)) = (self.here, self.there) else { return found };
        let mut found = found;
        found.root.text += &format!("; {} is translated to {} (NAT)", here.remote, there.remote);
        found
    }

    /// Dropped on its way.
    pub(super) fn dropped(&self, host: &mut Host) -> Option<Found> {
        let times_ns = (self.failure.connection.connected_ns?, self.failure.time_ns);
        self.ends().find_map(|ends| dropped::root(self.failure, &host.dropped(&ends, times_ns)?))
    }

    /// Answered by an ICMP error.
    pub(super) fn icmp(&self, host: &Host) -> Option<Found> {
        // Errors are translated back: nginx's host has them about nginx's own addresses.
        let here = self.here?;
        icmp::root(self.failure, here.local, here.remote, &host.icmp.about(&here)?)
    }

    /// Refused by the TCP of this host: nobody listens.
    pub(super) fn refused(&self, host: &mut Host) -> Option<Found> {
        let here = self.here?;
        let place = match (self.failure.connection.reset?, self.there) {
            (ResetBy::ThisHost, _) => {
                let known = self.failure.root.as_ref().is_some_and(|root| root.kind == RootKind::NotListening);
                // Nothing comes from another network namespace's loopback; only the rest is worth a look.
                let netns = match here.remote.ip().is_loopback() {
                    true => here.netns,
                    false if known => host.resets.sent(&here)?.netns,
                    false => return None,
                };
                Place { netns, address: here.remote }
            }
            (ResetBy::Unseen, Some(there)) => Place { netns: there.netns, address: there.remote },
            // On loopback it comes from this host; but where each RST is seen at its sender, TCP has not sent it.
            (ResetBy::Unseen, None)
                if here.remote.ip().is_loopback()
                    && !host.sees_all_resets
                    && !host.conntrack.loopback_leaves(here.netns, self.failure.worker) =>
            {
                Place { netns: here.netns, address: here.remote }
            }
            (ResetBy::Unseen, None) => return None,
        };
        let mut found = nobody_at(self.failure, place, host)?;
        if host.may_have_missed_a_rule(self.failure) {
            found.root.text += "; whether a firewall rule rejected it as well was not looked at yet";
        }
        Some(self.led(found))
    }

    /// Who closed the other end, whenever that was.
    pub(super) fn closer(&self, host: &Host) -> Option<Closer> {
        self.ends().find_map(|ends| host.peers.closer(&ends))
    }

    /// The same, where that ended it.
    pub(super) fn ended_by(&self, host: &Host) -> Option<(u64, Actor)> {
        let closer = self.closer(host).filter(|closer| ended::ended_it(self.failure, closer))?;
        Some((closer.time_ns, closer.by))
    }

    /// A process of this host closed the other end.
    pub(super) fn closed(&self, host: &mut Host) -> Option<Found> {
        let Some((closed_ns, actor)) = self.ended_by(host) else {
            return self.closed_by_proxy(host).or_else(|| self.closed_by_server(host));
        };
        if let Some(found) = proxy::root(self.failure, &actor.name, actor.ending, closed_ns, host) {
            return Some(found);
        }
        of_close(self.failure, actor, closed_ns, host).map(|found| self.led(found))
    }

    /// One that closes before anything was sent is not remembered: nothing is wrong with that, but in a proxy.
    fn closed_by_proxy(&self, host: &mut Host) -> Option<Found> {
        // Led elsewhere, it went past whoever listens at the address that nginx has.
        let (here, None) = (self.here?, self.there) else { return None };
        let place = host.listener_for(here.netns, self.failure.worker, here.remote)?;
        let owner = host.owners.live(place)?.owner()?.clone();
        proxy::root(self.failure, &owner, Ending::Alive, self.failure.time_ns, host)
    }

    /// Nor is one that closes after it has sent something, as every server does that closes after each response. Whoever it was
    /// had the connection from who listens there.
    fn closed_by_server(&self, host: &mut Host) -> Option<Found> {
        let by_fin = [Cause::ClosedBeforeResponse, Cause::ClosedMidResponse, Cause::TlsPeerClosed];
        let (here, None) = (self.here?, self.there) else { return None };
        if self.failure.root.is_some() || !by_fin.contains(&self.failure.cause) {
            return None;
        }
        let (netns, worker) = (here.netns, self.failure.worker);
        if host.conntrack.is_mute(netns, worker)
            || (here.remote.ip().is_loopback() && host.conntrack.loopback_leaves(netns, worker))
        {
            return None;
        }
        let place = host.listener_for(here.netns, self.failure.worker, here.remote)?;
        let live = host.owners.live(place)?;
        let connected_ns = self.failure.connection.connected_ns?;
        let served_then = live.since_ns.is_none_or(|since_ns| since_ns <= connected_ns);
        let owner = live.owner().filter(|_| served_then)?;
        let at = Address::Tcp(place.address);
        Some(ended::by_server(self.failure, &at, &elsewhere(here, place), owner, host.peers.fate(owner.pid).as_ref()))
    }

    /// A queue of its listener was full.
    pub(super) fn full(&self, host: &mut Host) -> Option<Found> {
        let full = self.failure.connection.queue_full?;
        // What was looked at is the listener at the address that nginx has.
        let (here, None) = (self.here?, self.there) else { return None };
        let place = host.listener_for(here.netns, self.failure.worker, here.remote)?;
        let owner = host.owners.live(place).and_then(Live::owner);
        let mut found = queue::root(full, place.address, owner, host.overflows.at(place).as_ref());
        found.root.text += &elsewhere(here, place);
        Some(found)
    }
}

/// Where a listener is that was found by nginx's address alone.
fn elsewhere(here: Ends, place: Place) -> String {
    if place.netns == here.netns {
        return String::new();
    }
    format!(" in another network namespace, which has {}", here.remote.ip())
}

/// Who does not listen there, where TCP has refused, and who did.
pub(super) fn nobody_at(failure: &Failure, place: Place, host: &mut Host) -> Option<Found> {
    let pid =
        if failure.netns == Some(place.netns) { Some(failure.worker) } else { host.namespaces.process_in(place.netns) };
    let port = place.address.port();
    // A namespace that nobody is in any more has no listeners either; one that was not found may have some.
    if pid.is_none() && !host.namespaces.are_all_known() {
        return None;
    }
    let listeners = pid.map_or(Some(&[][..]), |pid| host.listeners.on_port(place.netns, pid, port))?;
    let takes_ipv4 = || pid.is_none_or(|pid| !context::backlog::on_port(pid, port).iter().any(|queue| queue.only_ipv6));
    let outside = of_host().map(|(netns, _)| netns).filter(|netns| *netns != place.netns);
    let at = refused::Where { place, listeners, owners: &host.owners, outside };
    let is_master = |pid| Stat::read(failure.worker).is_some_and(|stat| stat.parent == pid);
    let own = |pid| pid == failure.worker || is_master(pid);
    refused::root(failure, at, takes_ipv4, own, |pid| host.peers.fate(pid))
}

/// Where a refused connection was led, which connection tracking has forgotten: TCP of this host, in whatever network
/// namespace, has answered a segment from the worker's own port, and that answer did not come from the address that nginx has.
/// The worker's address may have been rewritten to another of the same host (masquerade), which keeps the port where it can.
fn refused_elsewhere(failure: &Failure, here: Ends, host: &mut Host) -> Option<Ends> {
    let unseen = failure.connection.reset == Some(ResetBy::Unseen) && failure.cause == Cause::ConnectRefused;
    if !unseen || !host.conntrack.tracks(here.netns, failure.worker) {
        return None;
    }
    let times = (failure.connection.connected_ns?, failure.time_ns + SLACK_NS);
    let mut answers = host.resets.to_port(here.local.port(), times).filter(|(_, _, sent)| sent.answer);
    let (local, remote, sent) = answers.next()?;
    if answers.next().is_some() {
        return None;
    }
    let own =
        local == here.local || host.namespaces.with_address(local.ip()).is_some_and(|(netns, _)| netns == here.netns);
    own.then_some(Ends { netns: sent.netns, local, remote })
}
