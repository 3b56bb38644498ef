//! A traced socket was closed by its worker, and something about it was not plainly healthy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::socket::{Live, Socket};

/// Whether nginx had read all of the response's body could not be told.
pub const RESPONSE_UNKNOWN: u32 = 0;
/// nginx had read all of it (`upstream_done` of its event pipe): an error after that cuts nothing.
pub const RESPONSE_COMPLETE: u32 = 1;
/// It had not.
pub const RESPONSE_CUT: u32 = 2;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Closed {
    pub header: Header,
    pub socket: Socket,
    pub live: Live,
    /// One of [`RESPONSE_UNKNOWN`], [`RESPONSE_COMPLETE`], [`RESPONSE_CUT`].
    pub response: u32,
    pub reserved: u32,
}

crate::wire_pod!(Closed, 32 + 160 + 56 + 8);
