//! The socket of a request's upstream connection.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_get_current_task;
use tracer_common::{
    event::complaint::{Complaint, SOCKET_BOUND},
    loss::{Program, Reason},
    socket::{COMPLAINED, PREEXISTING, Socket},
};

use super::layout::{HTTP_SIGNATURE, array, connection, request as http, upstream};
use crate::{
    emit,
    maps::{NEW_SOCKET, SOCKETS},
    probe::{lifecycle, unix::AF_UNIX},
    read,
    settings::setting,
};

pub(super) enum Bound {
    /// The upstream connection's TCP socket.
    Socket(u64),
    /// Its unix socket.
    Unix(u64),
    /// There is a connection, its socket could not be told.
    Unknown,
    /// The request has no upstream connection now.
    None,
}

/// The socket of the request's upstream connection, through its descriptor.
#[inline(always)]
pub(super) fn bind(request: u64, connection: u64) -> Bound {
    if request == 0 || connection == 0 {
        return Bound::None;
    }
    let mut words = MaybeUninit::<[u64; connection::HEAD_WORDS]>::uninit();
    let words = read::words(&mut words, connection, 0);
    let owner = words[connection::DATA];
    // Not yet set while connect() itself fails.
    if owner != request && owner != 0 {
        return Bound::Unknown;
    }
    let sk = socket_of(words[connection::FD] as u32);
    let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
    match family {
        AF_UNIX => Bound::Unix(sk),
        read::AF_INET | read::AF_INET6 => Bound::Socket(sk),
        _ => Bound::Unknown,
    }
}

/// `struct sock *` behind a descriptor of the current process; 0 when it is not a socket.
#[inline(always)]
pub(in crate::probe) fn socket_of(fd: u32) -> u64 {
    // SAFETY: no arguments; the current task exists.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read::kernel(task, setting!(offsets.task_files));
    let table: u64 = read::kernel(files, setting!(offsets.files_fdt));
    if fd >= read::kernel::<u32>(table, setting!(offsets.fdtable_max_fds)) {
        return 0;
    }
    let files: u64 = read::kernel(table, setting!(offsets.fdtable_fd));
    let file: u64 = read::kernel(files + u64::from(fd) * 8, 0);
    let socket: u64 = read::kernel(file, setting!(offsets.file_private_data));
    // A socket points back at its file; another kind of file has something else there.
    if file == 0 || read::kernel::<u64>(socket, setting!(offsets.socket_file)) != file {
        return 0;
    }
    read::kernel(socket, setting!(offsets.socket_sk))
}

/// Copies the socket's memory and its present state into the event; a socket older than the tracing gets an entry.
#[inline(never)]
pub(super) fn fill_socket(slot: *mut Complaint, sk: u64) -> bool {
    if slot.is_null() {
        return false;
    }
    if SOCKETS.get_ptr(sk).is_none() && !adopt(sk) {
        return false;
    }
    let Some(socket) = SOCKETS.get_ptr_mut(sk) else { return false };
    let state: u8 = read::kernel(sk, setting!(offsets.sock_state));
    let traffic = read::traffic(sk);
    // SAFETY: a live map entry, the event's slot is ours; both fields are written whole.
    unsafe {
        (*socket).flags |= COMPLAINED;
        lifecycle::who_reset(&mut *socket, (*socket).ended_ns);
        read::local(&mut *socket, sk);
        (&raw mut (*slot).socket).write(*socket);
        (&raw mut (*slot).live).write(read::live(sk, state, &traffic));
        (*slot).request.flags |= SOCKET_BOUND;
    }
    true
}

/// Remembers a socket that is older than the tracing; false: it was never connected, or there is no room.
#[inline(never)]
fn adopt(sk: u64) -> bool {
    // While connect() itself fails the socket has no peer yet: nginx's errno is all there is to know.
    if read::remote_port(sk) == 0 {
        return false;
    }
    if SOCKETS.insert(sk, &NEW_SOCKET, 0).is_err() {
        emit::lost(Program::LogErrorCore, Reason::MapFull);
        return false;
    }
    let Some(socket) = SOCKETS.get_ptr_mut(sk) else { return false };
    // SAFETY: the live map entry of a socket that only this worker uses.
    let socket = unsafe { &mut *socket };
    read::identity(socket, sk, read::kernel(sk, setting!(offsets.sock_family)), PREEXISTING);
    true
}

/// Nothing is known of the socket.
///
/// # Safety
/// `slot` must be writable.
#[inline(always)]
pub(super) unsafe fn zero(slot: *mut Complaint) {
    // SAFETY: the caller's promise.
    unsafe {
        words_of_nothing::<{ size_of::<Socket>() / 8 }>((&raw mut (*slot).socket).cast());
        (&raw mut (*slot).live).write(Default::default());
    }
}

/// Volatile: a call that zeroes byte by byte would be made of it.
///
/// # Safety
/// `words` must be writable for `N` words, and 8-aligned.
#[inline(always)]
pub(in crate::probe) unsafe fn words_of_nothing<const N: usize>(words: *mut u64) {
    for index in 0..N {
        // SAFETY: the caller's promise.
        unsafe { words.add(index).write_volatile(0) };
    }
}

/// The socket which the request is connecting with just now for another attempt; 0 when that cannot be told, or it is the first:
/// then the request is another one than that which was there before.
#[inline(always)]
pub(in crate::probe) fn retrying_socket(request: u64) -> u64 {
    if read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        return 0;
    }
    // ngx_http_upstream_connect() counts the attempt before it connects.
    let states = read::user::<u64>(request, http::UPSTREAM_STATES_AT);
    if read::user::<u64>(states, array::COUNT_AT) < 2 {
        return 0;
    }
    let upstream = read::user::<u64>(request, http::UPSTREAM_AT);
    if upstream == 0 {
        return 0;
    }
    let connection = read::user::<u64>(upstream, upstream::PEER_AT);
    if connection == 0 {
        return 0;
    }
    let mut words = MaybeUninit::<[u64; connection::HEAD_WORDS]>::uninit();
    let words = read::words(&mut words, connection, 0);
    socket_of(words[connection::FD] as u32)
}
