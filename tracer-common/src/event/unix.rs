//! A traced process closed a unix connection whose other end had left it in a way that is not plainly healthy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::unix::UnixSocket;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GivenUp {
    pub header: Header,
    pub socket: UnixSocket,
}

crate::wire_pod!(GivenUp, 32 + size_of::<UnixSocket>());
