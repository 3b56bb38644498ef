//! Resets that this host sent: kept for a moment so that the receiver's end can say who reset it and why.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The connection as the *receiver* of the RST sees it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResetKey {
    pub local_address: crate::address::Ip,
    pub remote_address: crate::address::Ip,
    pub local_port: u16,
    pub remote_port: u16,
    /// Of a loopback connection, whose addresses every namespace has for itself; else 0.
    pub netns: u32,
}

crate::wire_pod!(ResetKey, 40);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResetSent {
    pub time_ns: u64,
    /// `enum sk_rst_reason` of the running kernel; [`crate::socket::NO_REASON`] where the kernel gives none.
    pub reason: u32,
    /// The process whose close sent it; 0 when the kernel answered a segment by itself.
    pub tgid: u32,
    pub comm: crate::process::Comm,
    /// 1: a listener sent it whose accept queue was over its limit (`tcp_abort_on_overflow`).
    pub queue_full: u32,
    pub reserved: u32,
}

crate::wire_pod!(ResetSent, 40);
