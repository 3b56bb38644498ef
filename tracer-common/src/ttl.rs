//! Time to live (IPv6: hop limit) that was left to segments when they came in, kept for a moment by connection.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Of a connection's segments; the key is a [`crate::drop::DropKey`] as an incoming one has it. 0: none came while they were looked
/// at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Ttls {
    /// Which of the connections with these ends: its [`crate::socket::Socket::started_ns`].
    pub started_ns: u64,
    /// When the RST came.
    pub reset_ns: u64,
    /// Of the RST.
    pub reset: u8,
    /// Of the last other segment.
    pub answer: u8,
    /// Of the last segment, no RST, of another connection to the same address and port before the RST came.
    pub elsewhere: u8,
    /// Of the minute, by the kernel's clock, in which that was last written down for others: its last eight bits.
    pub minute: u8,
    pub reserved: [u8; 4],
}

crate::wire_pod!(Ttls, 24);

/// Of the last segment, no RST, of any connection to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpstreamTtl {
    pub time_ns: u64,
    pub ttl: u64,
}

crate::wire_pod!(UpstreamTtl, 16);
