//! Listeners that come and go, and who is left to answer for them.

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
fn a_later_snapshot_adds_who_was_there_before() {
    let (mut owners, there) = (Owners::default(), place("0.0.0.0:80"));
    let found = |pid| Found { place: there, holders: vec![(Name { pid, comm: "app".to_owned() }, 1)] };
    // One of four was replaced since the start.
    owners.event(&event(5, 11, Ending::Exited(0), Change::ceases(there)));
    owners.event(&event(6, 15, Ending::Alive, Change::Listens(there)));
    assert!(owners.live(there).and_then(Live::owner).is_some());
    for time_ns in [10_000_000_000, 11_000_000_000] {
        owners.seed([12, 13, 14, 15].map(found).into(), time_ns);
        let live = owners.live(there).expect("it listens");
        assert_eq!((live.owner(), live.by_opener().len()), (None, 4), "several answer for it");
    }
    let second = 1_000_000_000;
    owners.event(&event(20 * second, 15, Ending::Alive, Change::ceases(there)));
    owners.seed([12, 13, 14, 15].map(found).into(), 20 * second + 1);
    assert_eq!(
        owners.live(there).expect("the others go on").by_opener().len(),
        3,
        "it may have been seen before it closed"
    );
    // Long gone, and now another.
    let there = place("0.0.0.0:81");
    owners.event(&event(21 * second, 16, Ending::Exited(0), Change::ceases(there)));
    owners.seed(vec![Found { place: there, ..found(17) }], 60 * second);
    assert_eq!(owners.live(there).and_then(Live::owner).map(|name| name.pid), Some(17));
    assert!(owners.last(1, |address, _| address == there.address).is_none());
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
