//! What the kernel programs remember of a process that made a TCP connect.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process name, NUL padded, as two words in memory order.
pub type Comm = [u64; 2];

/// Verdict on a process: its sockets are traced.
pub const TRACED: u32 = 1;
/// Verdict on a process: not ours, decided once so that its next connect costs one look-up.
pub const IGNORED: u32 = 2;

/// Keyed by tgid; removed at exit and judged anew after exec.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Process {
    /// Events emitted from this process's context so far; a gap seen by the collector is a lost event.
    pub sequence: u64,
    /// nginx's request (its address) whose attempt was just complained about: the connect that follows on this thread,
    /// and belongs to that request, is its retry. 0: none.
    pub complained_request: u64,
    /// When nginx made a complaint whose line it has not written yet; 0: none.
    pub unwritten_ns: u64,
    pub verdict: u32,
    /// 1: nginx complained, the socket could not be told: the next socket closed by this process is the one.
    pub complained_unbound: u32,
    /// Where `start_sec` is in this binary's `ngx_http_request_t`, once found; 0: not yet.
    pub start_sec_offset: u32,
    pub reserved: u32,
    /// nginx's request (its address) whose attempt was just complained about, and that was only counted; 0: none.
    pub counted_request: u64,
}

crate::wire_pod!(Process, 48);
