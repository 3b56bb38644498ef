//! A traced socket was closed by its worker, and something about it was not plainly healthy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::socket::{Live, Socket};

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Closed {
    pub header: Header,
    pub socket: Socket,
    pub live: Live,
}

crate::wire_pod!(Closed, 32 + 160 + 48);
