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
    /// Segments seen to go unanswered while the accept queue was over its limit. Not every drop: those of traced
    /// clients' retransmits, of the kernel's own SYN-ACK retransmits, and resets.
    pub accept: u64,
    /// SYNs seen to go unanswered while the SYN queue was over its limit and the accept queue was not.
    pub syn: u64,
    /// Connections in the accept queue, and its limit, at the last of them.
    pub queued: u32,
    pub limit: u32,
    /// Half-open connections at the last of them.
    pub half_open: u32,
    pub reserved: u32,
}

crate::wire_pod!(Overflowed, 40);
