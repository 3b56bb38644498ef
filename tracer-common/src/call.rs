//! A call on a socket that is under way, where only return probes tell how it ends.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Its arguments, in user space's terms; kept by thread id.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Call {
    /// Of its `struct sockaddr`.
    pub address: u64,
    pub descriptor: u32,
    /// Of the address, in bytes.
    pub length: u32,
}

crate::wire_pod!(Call, 16);
