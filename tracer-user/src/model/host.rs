//! What happens on the host besides nginx: processes that serve, how they end, and where they listen.

use std::net::SocketAddr;

/// A process, as the kernel named it at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub pid: u32,
    pub comm: String,
}

/// How a process ends, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not exiting at that moment.
    Alive,
    Exited(i32),
    Killed {
        signal: u32,
        core: bool,
    },
}

/// A process at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub name: Name,
    pub parent: u32,
    /// Its parent, where this is a worker of it: a process of the same name, or one that listens.
    pub master: Option<Name>,
    pub ending: Ending,
}

/// What was done to a process that may have died of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// When the kernel chose it as a victim for memory.
    pub oom_ns: Option<u64>,
    /// A signal from a process: when, its number, who sent it.
    pub signal: Option<(u64, u32, Name)>,
    /// The same of a signal that makes a server reload.
    pub reload: Option<(u64, u32, Name)>,
}

/// A process was told to stand still, and not to go on since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub time_ns: u64,
    pub signal: u32,
    pub sender: Name,
}

/// A place where something listens: network namespace and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub netns: u32,
    pub address: SocketAddr,
}

/// A TCP connection as one end of it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Of loopback addresses, which every network namespace has for itself.
    pub netns: u32,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEvent {
    pub time_ns: u64,
    pub actor: Actor,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Listens(Place),
    ListensNoMore {
        place: Place,
        /// It took no IPv4 (IPV6_V6ONLY).
        only_ipv6: bool,
    },
    /// A process that listened, or was forked by one, ended.
    Ended,
}

#[cfg(test)]
impl Change {
    pub const fn ceases(place: Place) -> Self {
        Self::ListensNoMore { place, only_ipv6: false }
    }
}
