//! Unix stream sockets: what can be read from one, and who closed its other end.
//!
//! Hook: fentry, or else kprobe, at `unix_release_sock(struct sock *sk, int embrion)`, 5.10 and later where the kernel has
//! either; where it has neither, raw tracepoint `sched:sched_process_exit` looks through the descriptors of an exiting server. Context: the process that
//! closes, exiting or not. Cost: two look-ups per unix socket closed on the host.
//! A unix socket makes no state change that any tracepoint tells: both ends stay ESTABLISHED, and the end that remains
//! keeps its pointer to the other (net/unix/af_unix.c).

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns, generated},
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_common::{
    event::{kind, unix::GivenUp},
    hooked::UNIX_RELEASE,
    loss::{Program, Reason},
    peer::PEER_EXITING,
    server::LOOKED_THROUGH,
    unix::{ACCEPTED, CONNECT_SEEN, CONNECTED, PATH_LEN, PEER_CLOSED, UnixClosed, UnixConnect, UnixSocket},
};

use super::{
    fate,
    nginx::words_of_nothing,
    peer::{self, Ending},
};
use crate::{
    emit,
    maps::{SERVERS, UNIX, UNIX_CLOSED, hooked},
    read::{self, Sock},
    settings::setting,
};

pub(in crate::probe) const AF_UNIX: u16 = 1;
/// `enum sock_flags`, include/net/sock.h: the first since 2.6.
const SOCK_DEAD: u64 = 1 << 0;
/// `sun_family` before `sun_path`.
pub(super) const FAMILY_LEN: u32 = 2;
/// `sun_path` itself.
pub(super) const PATH_MAX: u32 = 108;
/// Descriptors of an exiting server that are looked at.
const DESCRIPTORS: u32 = 256;

#[fentry(function = "unix_release_sock")]
pub(crate) fn unix_release(context: FEntryContext) -> i32 {
    released(context.arg(0), context.arg::<i32>(1).cast_unsigned())
}

#[kprobe]
pub(crate) fn unix_release_kprobe(context: ProbeContext) -> u32 {
    released(context.arg(0).unwrap_or(0), context.arg::<i32>(1).unwrap_or(0).cast_unsigned()).cast_unsigned()
}

/// Where no hook sees closes: what an exiting server still has open ends with it. Runs before `process_exit`, which forgets
/// the server.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn unix_exit(_context: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(server) = SERVERS.get_ptr_mut(tgid) else { return 0 };
    // SAFETY: no arguments; the current task exists.
    let task = unsafe { bpf_get_current_task() };
    if fate::is_last(task) {
        left_open(task, &peer::ending(task));
        // SAFETY: a live map entry; whoever writes it besides writes a word as well.
        unsafe { *server = LOOKED_THROUGH };
    }
    0
}

/// A connect has succeeded: remembered until the close, where that is seen.
#[inline(always)]
pub(super) fn connected(sk: u64) {
    if !hooked(UNIX_RELEASE) {
        return;
    }
    // SAFETY: no arguments, no effects.
    let started_ns = unsafe { bpf_ktime_get_ns() };
    let connect = UnixConnect { started_ns, tgid: (bpf_get_current_pid_tgid() >> 32) as u32, reserved: 0 };
    if UNIX.insert(sk, connect, 0).is_err() {
        emit::lost(Program::Connect, Reason::MapFull);
    }
}

#[inline(always)]
fn released(sk: u64, embryo: u32) -> i32 {
    if let Some(connect) = UNIX.get_ptr(sk) {
        // SAFETY: a live map entry, read only.
        given_up(sk, unsafe { (*connect).tgid });
        let _ = UNIX.remove(sk);
        return 0;
    }
    let other: u64 = read::kernel(sk, setting!(offsets.unix_peer));
    if other != 0 && UNIX.get_ptr(other).is_some() {
        other_closed(sk, embryo);
    }
    0
}

#[inline(never)]
fn other_closed(sk: u64, embryo: u32) -> u32 {
    // SAFETY: no arguments; the current task exists.
    let by = peer::ending(unsafe { bpf_get_current_task() }).closes();
    let mut end = UnixClosed { by, unread: 0, embryo };
    closed(sk, &mut end)
}

/// This end of a connection is being closed by the current process: remembers it for the other end.
#[inline(never)]
fn closed(sk: u64, end: &mut UnixClosed) -> u32 {
    let inode = inode_of(read::kernel(sk, setting!(offsets.unix_peer)));
    if inode == 0 {
        return 0; // There is no other end, or it is being closed itself.
    }
    end.unread = read::kernel(sk, setting!(offsets.sock_receive_queue_length));
    // An LRU map: there is always room.
    u32::from(UNIX_CLOSED.insert(inode, &*end, 0).is_ok())
}

/// A traced process closes its own end. What the other end had left unread, or dying, is worth telling: nginx may say
/// nothing.
#[inline(never)]
fn given_up(sk: u64, owner: u32) -> u32 {
    let inode = inode_of(sk);
    let Some(closed) = UNIX_CLOSED.get_ptr(inode) else { return 0 };
    // SAFETY: a live map entry, read only.
    let closed = unsafe { *closed };
    let died = closed.by.flags & PEER_EXITING != 0 && closed.by.exit_code != 0;
    // Another process closes for one that has exited: no decision of nginx.
    if (closed.unread == 0 && !died) || owner != (bpf_get_current_pid_tgid() >> 32) as u32 {
        return 0;
    }
    let Some(mut entry) = emit::reserve::<GivenUp>(Program::UnixRelease) else { return 0 };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::UNIX, Program::UnixRelease);
    // SAFETY: the slot is ours until submitted; both fields are written whole.
    unsafe {
        (&raw mut (*slot).header).write(header);
        describe(&raw mut (*slot).socket, sk);
    }
    emit::submit(entry);
    1
}

/// Writes all that is known of a unix stream socket of the current process.
#[inline(never)]
pub(in crate::probe) fn describe(slot: *mut UnixSocket, sk: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let inode = inode_of(sk);
    let mut flags = 0;
    let mut started_ns = 0;
    if let Some(connect) = UNIX.get_ptr(sk) {
        // SAFETY: a live map entry, read only.
        started_ns = unsafe { (*connect).started_ns };
        flags |= CONNECT_SEEN;
    }
    let error = read::kernel(sk, setting!(offsets.sock_err));
    let shutdown: u8 = read::kernel(sk, setting!(offsets.sock_shutdown));
    let unread = read::kernel(sk, setting!(offsets.sock_receive_queue_length));
    let netns = sk.network_namespace();
    // SAFETY: the caller's slot; every field is written, here and by the last call.
    unsafe {
        (&raw mut (*slot).sk).write(sk);
        (&raw mut (*slot).inode).write(inode);
        (&raw mut (*slot).started_ns).write(started_ns);
        (&raw mut (*slot).tgid).write((bpf_get_current_pid_tgid() >> 32) as u32);
        (&raw mut (*slot).netns).write(netns);
        (&raw mut (*slot).error).write(error);
        (&raw mut (*slot).shutdown).write(u32::from(shutdown));
        (&raw mut (*slot).unread).write(unread);
        (&raw mut (*slot).reserved).write(0);
        (&raw mut (*slot).flags).write(flags);
    }
    closed_of(slot, inode);
    other_end(slot, sk)
}

/// Word by word, so that it never is on the stack.
#[inline(never)]
fn closed_of(slot: *mut UnixSocket, inode: u64) -> u32 {
    const WORDS: usize = size_of::<UnixClosed>() / 8;
    if slot.is_null() {
        return 0;
    }
    // SAFETY: the caller's slot; a live map entry, read only; both are 8-aligned and of this length.
    unsafe {
        let into = (&raw mut (*slot).closed).cast::<u64>();
        match UNIX_CLOSED.get_ptr(inode) {
            Some(closed) if inode != 0 => {
                for index in 0..WORDS {
                    into.add(index).write_volatile(closed.cast::<u64>().add(index).read_volatile());
                }
            }
            _ => words_of_nothing::<WORDS>(into),
        }
    }
    1
}

/// What the other end tells, closed or not: the end that remains keeps it in memory.
#[inline(never)]
fn other_end(slot: *mut UnixSocket, sk: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let other: u64 = read::kernel(sk, setting!(offsets.unix_peer));
    let mut flags = 0;
    if other != 0 {
        flags |= CONNECTED;
        if read::kernel::<u64>(other, setting!(offsets.sock_flags)) & SOCK_DEAD != 0 {
            flags |= PEER_CLOSED;
        }
        if read::kernel::<u64>(other, setting!(offsets.sock_socket)) != 0 {
            flags |= ACCEPTED;
        }
    }
    let inode = inode_of(other);
    let listener: u64 = read::kernel(sk, setting!(offsets.sock_peer_pid));
    let address: u64 = read::kernel(other, setting!(offsets.unix_address));
    let length: u32 = read::kernel(address, setting!(offsets.unix_address_length));
    let name = address.wrapping_add(u64::from(setting!(offsets.unix_address_name))) + u64::from(FAMILY_LEN);
    let listener = read::kernel(listener, setting!(offsets.pid_number));
    let unread = read::kernel(other, setting!(offsets.sock_receive_queue_length));
    // SAFETY: the caller's slot; the helper checks the source.
    unsafe {
        (*slot).flags |= flags;
        (&raw mut (*slot).peer_inode).write(inode);
        (&raw mut (*slot).listener_tgid).write(listener);
        (&raw mut (*slot).peer_unread).write(unread);
        words_of_nothing::<{ PATH_LEN / 8 }>((&raw mut (*slot).path).cast());
        let mut path = 0;
        if other != 0 && length > FAMILY_LEN {
            path = length - FAMILY_LEN;
            if path > PATH_MAX {
                path = PATH_MAX;
            }
            generated::bpf_probe_read_kernel((&raw mut (*slot).path).cast(), path, name as *const c_void);
        }
        (&raw mut (*slot).path_length).write(path);
    }
    flags
}

/// Number of the inode behind a socket that somebody still has open; else 0.
#[inline(always)]
fn inode_of(sk: u64) -> u64 {
    let socket: u64 = read::kernel(sk, setting!(offsets.sock_socket));
    let file: u64 = read::kernel(socket, setting!(offsets.socket_file));
    let inode: u64 = read::kernel(file, setting!(offsets.file_inode));
    read::kernel(inode, setting!(offsets.inode_number))
}

/// The current process is exiting: every unix connection that it still has open ends with it.
///
/// Little in the loop's body, and one branch: the verifier walks through it for each descriptor. What cannot be read reads
/// as zero.
#[inline(always)]
fn left_open(task: u64, ending: &Ending) {
    let files: u64 = read::kernel(task, setting!(offsets.task_files));
    let table: u64 = read::kernel(files, setting!(offsets.files_fdt));
    let descriptors: u32 = read::kernel(table, setting!(offsets.fdtable_max_fds));
    let files: u64 = read::kernel(table, setting!(offsets.fdtable_fd));
    let mut end = UnixClosed { by: ending.closes(), unread: 0, embryo: 0 };
    for descriptor in 0..DESCRIPTORS {
        if descriptor >= descriptors {
            break;
        }
        let file: u64 = read::kernel(files + u64::from(descriptor) * 8, 0);
        let socket: u64 = read::kernel(file, setting!(offsets.file_private_data));
        let back: u64 = read::kernel(socket, setting!(offsets.socket_file));
        let sk: u64 = read::kernel(socket, setting!(offsets.socket_sk));
        let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
        // A socket points back at its file; another kind of file has something else there.
        if (file ^ back) | u64::from(family ^ AF_UNIX) == 0 {
            closed(sk, &mut end);
        }
    }
}
