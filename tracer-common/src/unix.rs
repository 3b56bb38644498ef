//! A unix stream socket of a traced process, as it is at one moment, and who closed its other end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::peer::PeerClosed;

/// `sun_path` of `struct sockaddr_un`, rounded up to words.
pub const PATH_LEN: usize = 112;

/// It has another end, `peer_unread` and `listener_tgid` were read from it.
pub const CONNECTED: u32 = 1 << 0;
/// The other end has been closed.
pub const PEER_CLOSED: u32 = 1 << 1;
/// accept(2) has taken the other end.
pub const ACCEPTED: u32 = 1 << 2;
/// Its connect was seen; else it is older than the tracing, or this kernel has no hook for it.
pub const CONNECT_SEEN: u32 = 1 << 3;

/// Remembered from connect to close, keyed by the address of the `struct sock`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UnixConnect {
    pub started_ns: u64,
    pub tgid: u32,
    pub reserved: u32,
}

crate::wire_pod!(UnixConnect, 16);

/// How the other end of a connection was closed, kept by the inode number of the end that remains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UnixClosed {
    pub by: PeerClosed,
    /// Messages that it had not read: what remains is reset (unix_release_sock(), net/unix/af_unix.c).
    pub unread: u32,
    /// 1: it had not been accepted yet: the listener went away.
    pub embryo: u32,
}

crate::wire_pod!(UnixClosed, 48);

/// Read from the `struct unix_sock` at the moment of an event; all zero: there is none.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UnixSocket {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// Number of the socket's inode; 0: not known.
    pub inode: u64,
    /// Number of the other end's inode; 0: not accepted, or closed.
    pub peer_inode: u64,
    /// 0 unless [`CONNECT_SEEN`].
    pub started_ns: u64,
    /// `by.time_ns` 0: not seen.
    pub closed: UnixClosed,
    pub tgid: u32,
    pub netns: u32,
    /// The process that called listen(2) at the other end; 0: not known.
    pub listener_tgid: u32,
    pub flags: u32,
    /// sk_err.
    pub error: u32,
    /// RCV_SHUTDOWN 1 | SEND_SHUTDOWN 2.
    pub shutdown: u32,
    /// Messages received and not read by this end.
    pub unread: u32,
    /// Messages sent and not read by the other end.
    pub peer_unread: u32,
    /// Bytes of `path` that count: the listener's address. An abstract one begins with a NUL.
    pub path_length: u32,
    pub reserved: u32,
    pub path: [u8; PATH_LEN],
}

crate::wire_pod!(UnixSocket, 4 * 8 + 48 + 10 * 4 + PATH_LEN);
