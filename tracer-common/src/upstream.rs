//! What healthy connections leave behind: counts and a connect-latency histogram per upstream address, polled.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of connect-latency classes: class n counts connects of [2^n, 2^(n+1)) µs, the last one everything above.
pub const LATENCY_CLASSES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpstreamKey {
    pub address: crate::address::Ip,
    pub port: u16,
    pub reserved: u16,
    pub netns: u32,
}

crate::wire_pod!(UpstreamKey, 24);

/// Number of classes of idle time: class 4n + f is [2^n (1 + f/4), 2^n (1 + (f+1)/4)) jiffies.
pub const IDLE_CLASSES: usize = 128;

/// How long connections had been idle when this upstream closed them. Per CPU; user space adds them up.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IdleCloses {
    /// Sum of the idle times in each class, in jiffies.
    pub jiffies: [u64; IDLE_CLASSES],
    pub closes: [u32; IDLE_CLASSES],
}

crate::wire_pod!(IdleCloses, 12 * IDLE_CLASSES);

/// Per CPU; user space adds them up.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpstreamCounts {
    pub connects: u64,
    pub established: u64,
    pub connect_latency: [u64; LATENCY_CLASSES],
}

crate::wire_pod!(UpstreamCounts, 16 + 8 * LATENCY_CLASSES);
