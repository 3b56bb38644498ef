//! Listening sockets of this host, and what they dropped.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where something listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ListenerKey {
    pub address: crate::address::Ip,
    pub port: u16,
    pub reserved: u16,
    pub netns: u32,
}

crate::wire_pod!(ListenerKey, 24);

/// A live listener.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Listening {
    /// Address of the `struct sock`: of the last one, where several share the place (SO_REUSEPORT).
    pub sk: u64,
    /// How many share the place.
    pub sockets: u32,
    pub tgid: u32,
}

crate::wire_pod!(Listening, 16);

/// Drops at a listener since it was first seen to drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Overflowed {
    pub last_ns: u64,
    /// While the accept queue was over its limit. With a hook at `tcp_conn_request`: every SYN, and besides each time that the
    /// kernel sends a SYN-ACK again, or a reset. Else also traced clients' segments sent again, and not every SYN.
    pub accept: u64,
    /// SYNs while the SYN queue was full: not every one, and some may have been let in.
    pub syn: u64,
    /// Connections in the accept queue, and its limit, at the last of those.
    pub queued: u32,
    pub limit: u32,
    /// Half-open connections, and their limit, at the last of those.
    pub half_open: u32,
    pub half_open_limit: u32,
    /// net.core.somaxconn of its network namespace; 0: not known.
    pub somaxconn: u32,
    pub reserved: u32,
}

crate::wire_pod!(Overflowed, 48);

impl Overflowed {
    /// Counts of both, and the numbers of the later.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let later = if self.last_ns >= other.last_ns { self } else { *other };
        let of_accept = if self.accept > 0 && (later == self || other.accept == 0) { self } else { *other };
        let of_syn = if self.syn > 0 && (later == self || other.syn == 0) { self } else { *other };
        Self {
            accept: self.accept + other.accept,
            syn: self.syn + other.syn,
            queued: of_accept.queued,
            limit: of_accept.limit,
            half_open: of_syn.half_open,
            half_open_limit: of_syn.half_open_limit,
            ..later
        }
    }
}
