//! Events: what crosses the ring buffer. Written by `tracer-ebpf`, read by `collect`.

pub mod closed;
pub mod complaint;
pub mod exit;
pub mod line;
pub mod listener;
pub mod process;
pub mod refused;
pub mod retry;
pub mod status;
pub mod unix;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Kinds, with gaps for relatives to come.
pub mod kind {
    pub const CLOSED: u16 = 10;
    pub const REFUSED: u16 = 12;
    pub const UNIX: u16 = 14;
    pub const RETRY: u16 = 20;
    pub const COMPLAINT: u16 = 30;
    pub const LINE: u16 = 32;
    pub const STATUS: u16 = 40;
    pub const PROCESS: u16 = 50;
    pub const EXIT: u16 = 52;
    pub const LISTENER: u16 = 60;
}

/// First bytes of every event.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    pub time_ns: u64,
    /// Position among the events of this process; gaps are losses.
    pub sequence: u64,
    pub tgid: u32,
    pub tid: u32,
    /// One of [`kind`].
    pub kind: u16,
    /// [`crate::loss::Program`].
    pub program: u16,
    pub cpu: u32,
}

crate::wire_pod!(Header, 32);
