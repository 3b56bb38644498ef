//! The wire's events about other processes than nginx, and the kernel's memory of who closed what.

use aya::maps::{HashMap, MapData};
use tracer_common::{
    event::{Header, exit, kind, listener},
    listener::ListenerKey,
    peer::{Fate as WireFate, PEER_EXITING, PEER_RESETS, PEER_WORKER, PeerClosed, PeerKey, Stop as WireStop},
    process::Comm,
};
use zerocopy::{FromBytes, IntoBytes as _};

use super::address::{from_wire, on_wire};
use super::memory::text;
use crate::model::{
    address::Address,
    host::{Actor, Change, Ending, Ends, Fate, HostEvent, Name, Place, Stop},
};

/// Decodes an event about the host; None: it is another one, for [`super::decode`].
pub fn decode(bytes: &[u8]) -> Option<HostEvent> {
    let header: Header = read(bytes)?;
    match header.kind {
        kind::EXIT => {
            let event: exit::Exit = read(bytes)?;
            let actor = actor(header.tgid, event.comm, event.parent, event.flags | PEER_EXITING, event.exit_code);
            Some(HostEvent { time_ns: header.time_ns, actor, change: Change::Ended })
        }
        kind::LISTENER => {
            let event: listener::Listener = read(bytes)?;
            let place = place(&event.key)?;
            let only_ipv6 = event.flags & listener::ONLY_IPV6 != 0;
            let ceases = Change::ListensNoMore { place, only_ipv6 };
            let change = if event.change == listener::OPENED { Change::Listens(place) } else { ceases };
            let actor = actor(header.tgid, event.comm, event.parent, event.flags, event.exit_code);
            Some(HostEvent { time_ns: header.time_ns, actor, change })
        }
        _ => None,
    }
}

/// Where a listener is.
pub fn place(key: &ListenerKey) -> Option<Place> {
    match from_wire(key.address, key.port) {
        Address::Tcp(address) => Some(Place { netns: key.netns, address }),
        _ => None,
    }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).map(|(value, _)| value).ok()
}

pub(super) fn actor(pid: u32, comm: Comm, parent: u32, flags: u32, exit_code: u32) -> Actor {
    let name = Name { pid, comm: text(comm.as_bytes()) };
    let master = (flags & PEER_WORKER != 0).then(|| Name { pid: parent, comm: name.comm.clone() });
    Actor { name, parent, master, ending: ending(flags, exit_code) }
}

/// `exit_code` as wait(2) has it.
const fn ending(flags: u32, exit_code: u32) -> Ending {
    if flags & PEER_EXITING == 0 {
        Ending::Alive
    } else if exit_code & 0x7f != 0 {
        Ending::Killed { signal: exit_code & 0x7f, core: exit_code & 0x80 != 0 }
    } else {
        Ending::Exited((exit_code >> 8 & 0xff).cast_signed())
    }
}

/// Who closed what a moment ago, and what was done to whom.
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Peers {
    closed: HashMap<MapData, PeerKey, PeerClosed>,
    fates: HashMap<MapData, u32, WireFate>,
    stops: HashMap<MapData, u32, WireStop>,
    orders: HashMap<MapData, u32, WireStop>,
}

impl Peers {
    pub const fn new(
        closed: HashMap<MapData, PeerKey, PeerClosed>,
        fates: HashMap<MapData, u32, WireFate>,
        stops: HashMap<MapData, u32, WireStop>,
        orders: HashMap<MapData, u32, WireStop>,
    ) -> Self {
        Self { closed, fates, stops, orders }
    }

    /// Who closed the other end of the connection, and when; None: not a process of this host, or not remembered.
    pub fn closer(&self, ends: &Ends) -> Option<Closer> {
        let Ends { netns, local, remote } = *ends;
        let key = PeerKey {
            local_address: on_wire(local),
            remote_address: on_wire(remote),
            local_port: local.port(),
            remote_port: remote.port(),
            netns: if remote.ip().is_loopback() { netns } else { 0 },
        };
        let seen = self.closed.get(&key, 0).ok()?;
        let (time_ns, by) = closer(&seen);
        Some(Closer { time_ns, by, resets: seen.flags & PEER_RESETS != 0 })
    }

    /// Who closed connections to this address within these times: their ends there.
    pub fn closers(&self, remote: std::net::SocketAddr, (from, until): (u64, u64)) -> Vec<(u64, Actor)> {
        let address = on_wire(remote);
        let there = |key: &PeerKey| key.remote_address == address && key.remote_port == remote.port();
        let found = self.closed.iter().flatten().filter(|(key, _)| there(key));
        let found = found.filter(|(_, seen)| (from..=until).contains(&seen.time_ns));
        found.map(|(_, seen)| closer(&seen)).collect()
    }

    /// The signal that a process which stands still was told to stand still by; None: it was before the tracing, or it is no
    /// signal that stops it.
    pub fn stop(&self, pid: u32) -> Option<Stop> {
        let (time_ns, signal, sender) = told(&self.stops.get(&pid, 0).ok()?);
        Some(Stop { time_ns, signal, sender })
    }

    /// What was done to a process lately; None: nothing.
    pub fn fate(&self, pid: u32) -> Option<Fate> {
        let reload = self.orders.get(&pid, 0).ok().map(|order| told(&order));
        let Ok(fate) = self.fates.get(&pid, 0) else {
            return reload.map(|order| Fate { oom_ns: None, signal: None, reload: Some(order) });
        };
        let sender = Name { pid: fate.sender, comm: text(fate.sender_comm.as_bytes()) };
        Some(Fate {
            oom_ns: (fate.oom_ns != 0).then_some(fate.oom_ns),
            signal: (fate.signal_ns != 0).then_some((fate.signal_ns, fate.signal, sender)),
            reload,
        })
    }
}

/// Who closed an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closer {
    pub time_ns: u64,
    pub by: Actor,
    /// That sent a RST.
    pub resets: bool,
}

/// When it was closed, and by whom.
fn closer(seen: &PeerClosed) -> (u64, Actor) {
    (seen.time_ns, actor(seen.tgid, seen.comm, seen.parent, seen.flags, seen.exit_code))
}

/// When it was told, by which signal, and who told it.
fn told(stop: &WireStop) -> (u64, u32, Name) {
    (stop.time_ns, stop.signal, Name { pid: stop.sender, comm: text(stop.sender_comm.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use tracer_common::peer::PEER_EXITING;

    use super::{Ending, decode, ending};

    #[test]
    fn endings_as_wait_gives_them() {
        assert_eq!(ending(0, 9), Ending::Alive);
        assert_eq!(ending(PEER_EXITING, 9), Ending::Killed { signal: 9, core: false });
        assert_eq!(ending(PEER_EXITING, 0x8b), Ending::Killed { signal: 11, core: true });
        assert_eq!(ending(PEER_EXITING, 0x300), Ending::Exited(3));
        assert_eq!(ending(PEER_EXITING, 0), Ending::Exited(0));
    }

    #[test]
    fn any_bytes_decode_or_are_left() {
        for fill in [0, 1, 0x7f, 0xff] {
            for kind in [0_u16, 10, 52, 60] {
                for length in 0..200 {
                    let mut bytes = vec![fill; length];
                    if let Some(place) = bytes.get_mut(24..26) {
                        place.copy_from_slice(&kind.to_le_bytes());
                    }
                    let _ = decode(&bytes);
                }
            }
        }
    }
}
