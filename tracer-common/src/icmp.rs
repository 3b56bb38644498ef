//! ICMP errors about TCP connections of this host, kept for a moment by connection.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The last error about a connection; the key is a [`crate::drop::DropKey`] of the segment that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IcmpError {
    pub time_ns: u64,
    /// Who sent it.
    pub sender: crate::address::Ip,
    pub kind: u8,
    pub code: u8,
    /// 4 or 6: kinds and codes mean other things in ICMPv6.
    pub version: u8,
    pub reserved: [u8; 5],
}

crate::wire_pod!(IcmpError, 32);
