//! A process that listened, or inherited a listener from one that did, has ended. The process is the header's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Exit {
    pub header: Header,
    /// As in [`crate::peer::PeerClosed`].
    pub exit_code: u32,
    pub parent: u32,
    /// [`crate::peer::PEER_WORKER`].
    pub flags: u32,
    pub reserved: u32,
    pub comm: crate::process::Comm,
}

crate::wire_pod!(Exit, 64);
