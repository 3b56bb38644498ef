//! socket(2), bind(2) or connect(2) of a traced process failed at once, on a stream socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::unix::PATH_LEN;

/// `call`: which of them.
pub const CONNECT: u16 = 1;
pub const SOCKET: u16 = 2;
pub const BIND: u16 = 3;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Refused {
    pub header: Header,
    /// Address of the `struct sock`; 0: there is none (socket(2) failed).
    pub sk: u64,
    /// Positive, as nginx logs it.
    pub errno: u32,
    pub netns: u32,
    /// The address given, of AF_INET and AF_INET6.
    pub address: crate::address::Ip,
    pub port: u16,
    /// AF_UNIX 1, AF_INET 2, AF_INET6 10.
    pub family: u16,
    pub call: u16,
    pub reserved: u16,
    /// Bytes of `path` that count, of an address of AF_UNIX.
    pub path_length: u32,
    pub padding: u32,
    pub path: [u8; PATH_LEN],
}

crate::wire_pod!(Refused, 32 + 8 + 8 + 16 + 8 + 8 + PATH_LEN);
