//! A process began or ended to listen on a TCP port. The process is the header's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::listener::ListenerKey;

pub const OPENED: u32 = 1;
pub const CLOSED: u32 = 2;

/// Beside the flags of [`crate::peer`]: the socket takes no IPv4 (IPV6_V6ONLY).
pub const ONLY_IPV6: u32 = 1 << 16;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Listener {
    pub header: Header,
    /// Address of the `struct sock`.
    pub sk: u64,
    pub key: ListenerKey,
    /// [`OPENED`] or [`CLOSED`].
    pub change: u32,
    /// As in [`crate::peer::PeerClosed`].
    pub exit_code: u32,
    /// [`crate::peer::PEER_EXITING`], [`crate::peer::PEER_WORKER`], [`ONLY_IPV6`].
    pub flags: u32,
    pub parent: u32,
    pub comm: crate::process::Comm,
}

crate::wire_pod!(Listener, 32 + 8 + 24 + 16 + 16);
