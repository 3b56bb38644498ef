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
mod tests {
    use std::net::SocketAddr;

    use super::{Where, root, typo};
    use crate::{
        context::owners::Owners,
        model::{
            cause::Cause,
            host::{Actor, Change, Ending, Fate, HostEvent, Name, Place},
        },
        record::RootKind,
        trace::roots::samples::{NETNS, failure},
    };

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn event(time_ns: u64, pid: u32, ending: Ending, change: fn(Place) -> Change, at: &str) -> HostEvent {
        let actor = Actor { name: Name { pid, comm: "node".to_owned() }, parent: 1, master: None, ending };
        HostEvent { time_ns, actor, change: change(Place { netns: NETNS, address: address(at) }) }
    }

    fn said(upstream: &str, listeners: &[&str], events: &[HostEvent]) -> Option<(RootKind, String)> {
        let mut owners = Owners::default();
        events.iter().for_each(|event| owners.event(event));
        let listeners: Vec<_> = listeners.iter().map(|text| address(text)).collect();
        let mut failure = failure(Cause::ConnectRefused);
        failure.time_ns = 5_000_000_000;
        let place = Place { netns: NETNS, address: address(upstream) };
        let at = Where { place, listeners: &listeners, owners: &owners, outside: None };
        root(&failure, at, || true, |pid| pid == 7, |_| None).map(|found| (found.root.kind, found.root.text))
    }

    #[test]
    fn who_listens_instead() {
        let nothing = said("127.0.0.1:3001", &[], &[]);
        assert_eq!(nothing, Some((RootKind::NotListening, "nothing listens on port 3001 of this host".into())));
        let other = said("127.0.0.1:3001", &["[::1]:3001"], &[]).expect("a reason");
        assert_eq!(other.0, RootKind::AddressFamily);
        assert_eq!(other.1, "nothing listens on 127.0.0.1:3001; port 3001 is served on [::1]:3001 only");
        assert_eq!(said("127.0.0.1:80", &["10.0.0.5:80"], &[]).expect("a reason").0, RootKind::NotListening);
    }

    #[test]
    fn a_listener_that_takes_no_ipv4() {
        let place = Place { netns: NETNS, address: address("127.0.0.1:80") };
        let (failure, listeners) = (failure(Cause::ConnectRefused), [address("[::]:80")]);
        let at = Where { place, listeners: &listeners, owners: &Owners::default(), outside: None };
        let found = root(&failure, at, || false, |_| false, |_| None).expect("a reason").root;
        assert_eq!(found.kind, RootKind::AddressFamily);
        assert_eq!(found.text, "nothing listens on 127.0.0.1:80; port 80 is served on [::]:80 only");
    }

    #[test]
    fn of_many_addresses_some_are_named() {
        let many: Vec<String> = (1..=200).rev().map(|last| format!("127.0.1.{last}:80")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (_, text) = said("127.0.0.1:80", &many, &[]).expect("a reason");
        assert!(
            text.ends_with("127.0.1.1:80, 127.0.1.2:80, 127.0.1.3:80, 127.0.1.4:80 and 196 more addresses only"),
            "{text}"
        );
    }

    #[test]
    fn an_end_long_after_the_close_is_not_the_reason() {
        let closed = event(1_000_000_000, 412, Ending::Alive, Change::ceases, "127.0.0.1:80");
        let end = |time_ns| HostEvent {
            time_ns,
            actor: Actor { ending: Ending::Killed { signal: 9, core: false }, ..closed.actor.clone() },
            change: Change::Ended,
        };
        let (kind, text) = said("127.0.0.1:80", &[], &[closed.clone(), end(4_000_000_000)]).expect("a reason");
        assert_eq!(kind, RootKind::NotListening);
        assert!(text.ends_with("stopped listening 4.0 s before, and was killed by SIGKILL 3.0 s later"), "{text}");
        let (kind, text) = said("127.0.0.1:80", &[], &[closed.clone(), end(6_000_000_000)]).expect("a reason");
        assert_eq!(kind, RootKind::NotListening);
        assert!(text.ends_with("node[412] listened there and stopped 4.0 s before"), "{text}");
        let (kind, _) = said("127.0.0.1:80", &[], &[closed.clone(), end(1_200_000_000)]).expect("a reason");
        assert_eq!(kind, RootKind::ProcessKilled, "it was on its way out");
    }

    #[test]
    fn the_hosts_loopback_is_not_a_containers() {
        let outside = Place { netns: NETNS + 1, address: address("0.0.0.0:3001") };
        let mut owners = Owners::default();
        let mut listens = event(1, 412, Ending::Alive, Change::Listens, "0.0.0.0:3001");
        listens.change = Change::Listens(outside);
        owners.event(&listens);
        let failure = failure(Cause::ConnectRefused);
        let said = |upstream: &str| {
            let place = Place { netns: NETNS, address: address(upstream) };
            let at = Where { place, listeners: &[], owners: &owners, outside: Some(outside.netns) };
            root(&failure, at, || true, |_| false, |_| None).expect("a reason").root.text
        };
        let nothing = |port: u16| format!("nothing listens on port {port} in nginx's network namespace");
        let there = "; outside of it, on this host, node[412] does, on 0.0.0.0:3001";
        assert_eq!(said("127.0.0.1:3001"), nothing(3001) + there);
        assert_eq!(said("127.0.0.1:3002"), nothing(3002));
        assert_eq!(said("10.0.0.1:3001"), nothing(3001), "an address of that namespace");
    }

    #[test]
    fn elsewhere_is_not_this_host() {
        let place = Place { netns: NETNS + 1, address: address("10.99.0.2:80") };
        let failure = failure(Cause::ConnectRefused);
        let told = |listeners: &[SocketAddr]| {
            let at = Where { place, listeners, owners: &Owners::default(), outside: None };
            root(&failure, at, || true, |pid| pid == 7, |_| None).expect("a reason")
        };
        assert_eq!(told(&[]).root.text, "nothing listens on port 80 in the network namespace of 10.99.0.2");
        let other = told(&[address("127.0.0.1:80")]);
        assert_eq!(other.root.text, "nothing listens on 10.99.0.2:80; port 80 is served on 127.0.0.1:80 only");
        assert_eq!(other.hint.as_deref(), Some("let the upstream listen on 10.99.0.2, or on all addresses"));
    }

    #[test]
    fn nginx_is_not_told_to_call_itself() {
        let listens = |pid| event(1, pid, Ending::Alive, Change::Listens, "0.0.0.0:3000");
        let (_, text) = said("127.0.0.1:3001", &[], &[listens(413)]).expect("a reason");
        assert!(text.ends_with("node[413] listens on 0.0.0.0:3000"), "{text}");
        let (_, text) = said("127.0.0.1:3001", &[], &[listens(7)]).expect("a reason");
        assert_eq!(text, "nothing listens on port 3001 of this host");
    }

    #[test]
    fn somebody_listens_now() {
        assert_eq!(said("127.0.0.1:80", &["0.0.0.0:80"], &[]), None);
        assert_eq!(said("127.0.0.1:80", &["[::]:80"], &[]), None);
        assert_eq!(said("[::1]:80", &["[::1]:80"], &[]), None);
    }

    #[test]
    fn somebody_listens_since() {
        let came = |time_ns| event(time_ns, 413, Ending::Alive, Change::Listens, "0.0.0.0:80");
        let (kind, text) = said("127.0.0.1:80", &["0.0.0.0:80"], &[came(5_040_000_000)]).expect("a reason");
        assert_eq!(kind, RootKind::NotListening);
        assert_eq!(text, "nothing listened on 127.0.0.1:80 at that moment; 40 ms later node[413] does");
        assert_eq!(said("127.0.0.1:80", &["0.0.0.0:80"], &[came(4_000_000_000)]), None, "it listened all the time");
    }

    #[test]
    fn the_last_owner_is_named_with_its_end() {
        let killed = Ending::Killed { signal: 9, core: false };
        let events = [event(2_900_000_000, 412, killed, Change::ceases, "0.0.0.0:3001")];
        let (kind, text) = said("127.0.0.1:3001", &[], &events).expect("a reason");
        assert_eq!(kind, RootKind::ProcessKilled);
        assert_eq!(
            text,
            "nothing listens on 127.0.0.1:3001: node[412], the last that did, was killed by SIGKILL 2.1 s before"
        );
        let alive = [event(2_900_000_000, 412, Ending::Alive, Change::ceases, "127.0.0.1:3001")];
        assert_eq!(said("127.0.0.1:3001", &[], &alive).expect("a reason").0, RootKind::NotListening);
    }

    #[test]
    fn a_worker_that_was_told_to_end_after_its_master_had() {
        let worker = |time_ns, change| {
            let mut event = event(time_ns, 413, Ending::Exited(0), Change::ceases, "127.0.0.1:3001");
            (event.actor.parent, event.change) = (412, change);
            event
        };
        let place = Place { netns: NETNS, address: address("127.0.0.1:3001") };
        let killed = Ending::Killed { signal: 9, core: false };
        let mut master = event(2_000_000_000, 412, killed, Change::Listens, "127.0.0.1:3001");
        master.change = Change::Ended;
        let events = [
            event(1, 412, Ending::Alive, Change::Listens, "127.0.0.1:3001"),
            master,
            worker(4_000_000_000, Change::ceases(place)),
            worker(4_000_000_001, Change::Ended),
        ];
        let mut owners = Owners::default();
        events.iter().for_each(|event| owners.event(event));
        let mut failure = failure(Cause::ConnectRefused);
        failure.time_ns = 5_000_000_000;
        let told = |signal_ns: u64| {
            let at = Where { place, listeners: &[], owners: &owners, outside: None };
            let fate = |pid: u32| {
                let sender = Name { pid: 3, comm: "bash".to_owned() };
                (pid == 413).then_some(Fate { oom_ns: None, signal: Some((signal_ns, 15, sender)), reload: None })
            };
            root(&failure, at, || true, |pid| pid == 7, fate).expect("a reason").root.text
        };
        let text = told(3_900_000_000);
        assert!(text.contains("node[413], the last that did"), "{text}");
        assert!(told(0).contains("node[412], the last that did, was killed by SIGKILL 3.0 s before"), "{}", told(0));
    }

    #[test]
    fn other_deaths_are_not_named() {
        let killed = Ending::Killed { signal: 9, core: false };
        let end = |time_ns, at| event(time_ns, 412, killed, Change::ceases, at);
        for other in [end(1, "127.0.0.1:3002"), end(1, "127.0.0.2:3001"), end(1, "[::1]:3001")] {
            let (kind, text) = said("127.0.0.1:3001", &[], std::slice::from_ref(&other)).expect("a reason");
            assert_eq!(kind, RootKind::NotListening, "{other:?}");
            assert!(!text.contains("412"), "{text}");
        }
    }

    #[test]
    fn what_ceased_only_after_it_was_refused_was_there_then() {
        let ceased = |at| [event(6_000_000_000, 412, Ending::Alive, Change::ceases, at)];
        let (kind, text) = said("127.0.0.1:3001", &[], &ceased("[::1]:3001")).expect("a reason");
        assert_eq!(kind, RootKind::AddressFamily);
        assert!(text.ends_with("port 3001 is served on [::1]:3001 (node[412]) only"), "{text}");
        assert_eq!(said("127.0.0.1:3001", &[], &ceased("0.0.0.0:3001")), None, "it is not known why");
        // Its closing was under way.
        let closing = [event(5_000_000_009, 412, Ending::Alive, Change::ceases, "0.0.0.0:3001")];
        let (_, text) = said("127.0.0.1:3001", &[], &closing).expect("a reason");
        assert!(text.ends_with("node[412] listened there and stopped 0 ms before"), "{text}");
    }

    #[test]
    fn what_took_no_ipv4_is_not_missed_there() {
        let killed = Ending::Killed { signal: 9, core: false };
        let only = |place| Change::ListensNoMore { place, only_ipv6: true };
        for (upstream, change, named) in [
            ("127.0.0.1:3001", only as fn(Place) -> Change, false),
            ("[::1]:3001", only, true),
            ("127.0.0.1:3001", Change::ceases, true),
        ] {
            let (_, text) = said(upstream, &[], &[event(1, 412, killed, change, "[::]:3001")]).expect("a reason");
            assert_eq!(text.contains("412"), named, "{upstream}: {text}");
        }
    }

    #[test]
    fn a_port_with_a_wrong_digit() {
        assert!(typo(3001, 3000) && typo(8080, 8008) && !typo(3001, 3110) && !typo(80, 8080) && !typo(3000, 3000));
        let one = [event(1, 412, Ending::Alive, Change::Listens, "127.0.0.1:3000")];
        let (_, text) = said("127.0.0.1:3001", &[], &one).expect("a reason");
        assert_eq!(text, "nothing listens on port 3001 of this host; node[412] listens on 127.0.0.1:3000");
        let two = [one[0].clone(), event(1, 413, Ending::Alive, Change::Listens, "127.0.0.1:3002")];
        let (_, text) = said("127.0.0.1:3001", &[], &two).expect("a reason");
        assert!(!text.contains("node"), "two are one too many: {text}");
    }
}
