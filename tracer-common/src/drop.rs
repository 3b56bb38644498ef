//! Packets that this host's kernel dropped, kept for a moment by connection and direction.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One direction of a TCP connection, as the dropped segment had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DropKey {
    pub source: crate::address::Ip,
    pub destination: crate::address::Ip,
    pub source_port: u16,
    pub destination_port: u16,
    /// Of loopback addresses, which every namespace has for itself; else 0.
    pub netns: u32,
}

crate::wire_pod!(DropKey, 40);

/// Functions of the kernel by whose dropping of a packet the reason is known, where it gives none.
pub const DROP_PLACES: usize = 6;

/// Set in a reason: the kernel gave none, and the rest is the number of such a function.
pub const AT_PLACE: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Dropped {
    pub first_ns: u64,
    pub last_ns: u64,
    /// `enum skb_drop_reason` of the running kernel, of the last one; or [`AT_PLACE`].
    pub reason: u32,
    pub count: u32,
}

crate::wire_pod!(Dropped, 24);
