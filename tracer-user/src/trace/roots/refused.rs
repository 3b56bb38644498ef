//! The reason behind a refused connect, where the upstream is on this host: who listens on that port, or did.

use std::net::{IpAddr, SocketAddr};

use super::{Found, former, text};
use crate::{
    context::owners::{Gone, Live, Owners},
    model::{
        address::Address,
        host::{Fate, Name, Place},
        verdict::Failure,
    },
    record,
};

/// Addresses named of those where the port is served.
const SHOWN: usize = 4;

/// A listener is out of reach before its change of state is traced (tcp_set_state(), net/ipv4/tcp.c).
const SLACK_NS: u64 = 2_000_000;

/// Where nobody listened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Where<'a> {
    pub(super) place: Place,
    /// Listeners on that port at the moment of asking.
    pub(super) listeners: &'a [SocketAddr],
    pub(super) owners: &'a Owners,
    /// The host's own network namespace, if that is another.
    pub(super) outside: Option<u32>,
}

/// The reason; None: somebody does listen there (now). Asked only where it matters: `takes_ipv4`, whether IPv6 wildcards on that port
/// take IPv4 too. What nginx itself listens on is no upstream.
pub(super) fn root(
    failure: &Failure,
    at: Where<'_>,
    takes_ipv4: impl Fn() -> bool,
    is_nginx: impl Fn(u32) -> bool,
    fate: impl Fn(u32) -> Option<Fate>,
) -> Option<Found> {
    let Where { place: Place { netns, address: upstream }, listeners, owners, outside } = at;
    let served = |listener: &&SocketAddr| {
        serves(**listener, upstream) && (listener.is_ipv4() == upstream.is_ipv4() || takes_ipv4())
    };
    if let Some(listener) = listeners.iter().find(served) {
        return since(failure, upstream, Place { netns, address: *listener }, owners);
    }
    let served = |address: SocketAddr, gone: &Gone| {
        serves(address, upstream) && (address.is_ipv4() == upstream.is_ipv4() || !gone.only_ipv6)
    };
    // Those that listened then, and no more when it is asked.
    let ceased = || owners.ceased_after(netns, upstream.port(), failure.time_ns + SLACK_NS);
    if ceased().any(|(address, gone)| served(address, gone)) {
        return None;
    }
    let last = owners.last(netns, served);
    let nothing = format!("nothing listens on {upstream}");
    if let Some(gone) = last {
        return Some(former::root(failure, &nothing, gone, &fate, owners, netns));
    }
    let found = |kind, text, hint| {
        let root = record::Root { kind, text, process: None, listener: None };
        Some(Found { root, hint, evidence: None })
    };
    let now = listeners
        .iter()
        .map(|address| (*address, owners.live(Place { netns, address: *address }).and_then(Live::owner)));
    let then = ceased().map(|(address, gone)| (address, Some(&gone.actor.name)));
    let mut there: Vec<(SocketAddr, Option<&Name>)> = now.chain(then).collect();
    there.sort_unstable_by_key(|(address, _)| *address);
    if let Some((first, _)) = there.first() {
        let other_family = there.iter().all(|(address, _)| address.is_ipv4() != upstream.is_ipv4());
        let kind = if other_family { record::RootKind::AddressFamily } else { record::RootKind::NotListening };
        let shown = there.iter().take(SHOWN).map(|(address, owner)| owned(*address, *owner));
        let mut elsewhere = shown.collect::<Vec<_>>().join(", ");
        if let Some(more) = there.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            elsewhere += &format!(" and {more} more addresses");
        }
        // Where the address is not nginx's to choose, the upstream's is.
        let hint = if failure.upstream == Some(Address::Tcp(upstream)) && !first.ip().is_unspecified() {
            format!("let nginx connect to {first}, or let the upstream listen on {}", upstream.ip())
        } else {
            format!("let the upstream listen on {}, or on all addresses", upstream.ip())
        };
        return found(kind, format!("{nothing}; port {} is served on {elsewhere} only", upstream.port()), Some(hint));
    }
    let own = failure.netns == Some(netns);
    let whose = match outside {
        _ if !own => format!("in the network namespace of {}", upstream.ip()),
        Some(_) => "in nginx's network namespace".to_owned(),
        None => "of this host".to_owned(),
    };
    let nothing = format!("nothing listens on port {} {whose}", upstream.port());
    if let Some((address, owner)) = outside.filter(|_| own).and_then(|netns| same_port(upstream, netns, owners)) {
        let text = format!("{nothing}; outside of it, on this host, {} does, on {address}", text::name(owner));
        let hint = format!(
            "{} is nginx's own there (a container's), not the host's: let nginx connect to an address of the host, or share its network",
            upstream.ip()
        );
        return found(record::RootKind::NotListening, text, Some(hint));
    }
    match similar(upstream, netns, owners, &is_nginx) {
        Some((address, owner)) => {
            let there = if address.ip().is_unspecified() { upstream.ip() } else { address.ip() };
            let there = SocketAddr::new(there, address.port());
            let hint = format!("start the upstream, or point nginx at {there} if that is it");
            let text = format!("{nothing}; {} listens on {address}", text::name(owner));
            found(record::RootKind::NotListening, text, Some(hint))
        }
        None => found(record::RootKind::NotListening, nothing, None),
    }
}

/// Somebody listens there since it was refused.
fn since(failure: &Failure, upstream: SocketAddr, place: Place, owners: &Owners) -> Option<Found> {
    let live = owners.live(place)?;
    let later = live.since_ns?.checked_sub(failure.time_ns)?;
    let who = live.owner().map_or_else(|| "its server".to_owned(), text::name);
    let later = text::duration(later);
    let text = format!("nothing listened on {upstream} at that moment; {later} later {who} does");
    let root = record::Root { kind: record::RootKind::NotListening, text, process: None, listener: None };
    let hint = format!("{who} was not ready: let systemd hold its socket (a .socket unit), so that requests wait");
    Some(Found { root, hint: Some(hint), evidence: None })
}

/// `[::1]:80 (node[412])`
fn owned(address: SocketAddr, owner: Option<&Name>) -> String {
    owner.map_or_else(|| address.to_string(), |owner| format!("{address} ({})", text::name(owner)))
}

/// Who listens on the port of a loopback address in another namespace, which is taken for the host's all too easily.
fn same_port(upstream: SocketAddr, netns: u32, owners: &Owners) -> Option<(SocketAddr, &Name)> {
    let mut found = owners.in_namespace(netns).filter(|(address, _)| serves(*address, upstream));
    let (address, live) = found.find(|(_, live)| live.owner().is_some())?;
    upstream.ip().is_loopback().then_some(())?;
    Some((address, live.owner()?))
}

/// The only listener there whose port is the wanted one with one digit wrong, or two of them exchanged.
fn similar<'a>(
    upstream: SocketAddr,
    netns: u32,
    owners: &'a Owners,
    own: &impl Fn(u32) -> bool,
) -> Option<(SocketAddr, &'a Name)> {
    let mut found = owners.in_namespace(netns).filter(|(address, live)| {
        serves(SocketAddr::new(address.ip(), upstream.port()), upstream)
            && typo(address.port(), upstream.port())
            && live.owner().is_none_or(|owner| !own(owner.pid))
    });
    let (address, live) = found.next()?;
    if found.next().is_some() { None } else { Some((address, live.owner()?)) }
}

fn typo(one: u16, other: u16) -> bool {
    let (one, other) = (one.to_string().into_bytes(), other.to_string().into_bytes());
    let differ: Vec<usize> = (0..one.len().min(other.len())).filter(|index| one[*index] != other[*index]).collect();
    one.len() == other.len()
        && match differ[..] {
            [_] => true,
            [first, second] => second == first + 1 && one[first] == other[second] && one[second] == other[first],
            _ => false,
        }
}

/// Would this listener take a connection to that address? An IPv6 wildcard takes IPv4 too, unless it was told not to.
pub(super) fn serves(listener: SocketAddr, upstream: SocketAddr) -> bool {
    listener.port() == upstream.port()
        && match (listener.ip(), upstream.ip()) {
            (IpAddr::V6(any), _) if any.is_unspecified() => true,
            (IpAddr::V4(any), IpAddr::V4(_)) if any.is_unspecified() => true,
            (listener, upstream) => listener == upstream,
        }
}

#[cfg(test)]
mod tests;
