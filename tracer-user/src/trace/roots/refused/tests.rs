//! Ports that nothing listens on, and what is said of them.

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
    said_of(upstream, listeners, events, None)
}

fn said_of(
    upstream: &str,
    listeners: &[&str],
    events: &[HostEvent],
    fate: Option<&Fate>,
) -> Option<(RootKind, String)> {
    let mut owners = Owners::default();
    events.iter().for_each(|event| owners.event(event));
    let listeners: Vec<_> = listeners.iter().map(|text| address(text)).collect();
    let mut failure = failure(Cause::ConnectRefused);
    failure.time_ns = 5_000_000_000;
    let place = Place { netns: NETNS, address: address(upstream) };
    let at = Where { place, listeners: &listeners, owners: &owners, outside: None };
    root(&failure, at, || true, |pid| pid == 7, |_| fate.cloned()).map(|found| (found.root.kind, found.root.text))
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
    let by = Name { pid: 3, comm: "bash".to_owned() };
    let fate = Fate { oom_ns: None, signal: Some((1_200_000_000, 9, by)), reload: None };
    let said = said_of("127.0.0.1:80", &[], &[closed.clone(), end(1_200_000_001)], Some(&fate));
    let (kind, text) = said.expect("a reason");
    assert_eq!(kind, RootKind::NotListening, "another one killed it since");
    assert!(
        text.contains("stopped listening 4.0 s before, and was killed by SIGKILL from bash[3] 200 ms later"),
        "{text}"
    );
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
