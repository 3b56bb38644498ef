//! nginx's word: uprobes on `ngx_log_error_core` and `ngx_http_special_response_handler`.
//!
//! Hook: uprobes at exported, cold functions, attached per binary; arguments by the C calling convention.
//! Context: process, the worker's own thread; its memory is read with checks at every step, because the layouts differ
//! by version: a request must carry nginx's signature, its upstream connection must point back at it, its peer must
//! point at the log. What fails its check is left out.
//! Layouts: src/core/ngx_log.h, ngx_connection.h, ngx_event_connect.h, src/http/ngx_http_request.h, ngx_http_upstream.h,
//! 1.18 to 1.30, x86-64 and aarch64.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_user_buf,
        bpf_probe_read_user_str_bytes},
    macros::uprobe,
    programs::ProbeContext,
};
use tracer_common::{
    event::{
        complaint::{
            ACTION_LEN, CACHED, CACHED_KNOWN, CLIENT_LEN, Complaint, HTTP, LITERAL_LEN, NAME_LEN, Request, SOCKET_BOUND,
            STATES_KNOWN, STREAM, TEXT_LEN, UNIX,
        },
        kind,
        status::Status,
    },
    loss::{Program, Reason},
    socket::{COMPLAINED, PREEXISTING, Socket},
};

use crate::{emit, maps::SOCKETS, owner, read, settings::setting};

/// NGX_LOG_ERR: lines less severe than this say nothing about a failure.
const NGX_LOG_ERR: u64 = 4;
/// NGX_HTTP_MODULE and NGX_STREAM_MODULE: first word of a request and of a stream session.
const HTTP_SIGNATURE: u32 = 0x5054_5448;
const STREAM_SIGNATURE: u32 = 0x4d52_5453;

mod log {
    pub(super) const LEVEL: u64 = 0;
    pub(super) const CONNECTION: u64 = 16;
    pub(super) const DATA: u64 = 40;
    pub(super) const ACTION: u64 = 64;
}
/// `ngx_http_log_ctx_t`
mod log_context {
    pub(super) const REQUEST: u64 = 8;
    pub(super) const CURRENT_REQUEST: u64 = 16;
}
mod connection {
    pub(super) const DATA: u64 = 0;
    pub(super) const FD: u64 = 24;
    pub(super) const LOG: u64 = 80;
    pub(super) const ADDR_TEXT: u64 = 120;
}
mod request {
    pub(super) const CONNECTION: u64 = 8;
    pub(super) const UPSTREAM: u64 = 72;
    pub(super) const UPSTREAM_STATES: u64 = 80;
}
mod upstream {
    pub(super) const PEER: u64 = 16;
}
/// `ngx_peer_connection_t`
mod peer {
    pub(super) const CONNECTION: u64 = 0;
    pub(super) const NAME: u64 = 24;
    pub(super) const LOG: u64 = 112;
    pub(super) const BITS: u64 = 120;
    pub(super) const CACHED_BIT: u8 = 1;
}
/// `ngx_http_upstream_state_t`
mod state {
    pub(super) const STATUS: u64 = 0;
    pub(super) const HEADER_TIME: u64 = 24;
    /// Smallest size that has these, largest that is plausible.
    pub(super) const SIZE: core::ops::RangeInclusive<u64> = 64..=160;
}

/// `void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const char *fmt, ...)`
#[uprobe]
pub(crate) fn log_error_core(context: ProbeContext) -> u32 {
    let level: u64 = context.arg(0).unwrap_or(u64::MAX);
    if level <= NGX_LOG_ERR {
        let log: u64 = context.arg(1).unwrap_or(0);
        complaint(&context, level, log);
    }
    0
}

/// `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
#[uprobe]
pub(crate) fn special_response(context: ProbeContext) -> u32 {
    let status: u64 = context.arg(1).unwrap_or(0);
    if matches!(status, 500 | 502 | 504) {
        let request: u64 = context.arg(0).unwrap_or(0);
        error_page(request, status as u32);
    }
    0
}

#[inline(always)]
fn complaint(context: &ProbeContext, level: u64, log: u64) {
    let Some(process) = owner::current_traced(Program::LogErrorCore) else { return };
    let Some(data) = read::user::<u64>(log, log::DATA) else {
        emit::lost(Program::LogErrorCore, Reason::UserRead);
        return;
    };
    let request = current_request(data);
    let upstream = read::user::<u64>(request, request::UPSTREAM).unwrap_or(0);
    if request != 0 && upstream == 0 {
        return; // About something else than an upstream: a missing file, say.
    }
    let Some(mut entry) = emit::reserve::<Complaint>(Program::LogErrorCore) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::COMPLAINT, Program::LogErrorCore);
    // SAFETY: the slot is ours until submitted; every field is written.
    unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).level).write(level as u32);
        (&raw mut (*slot).errno).write(context.arg::<u64>(2).unwrap_or(0) as u32);
        (&raw mut (*slot).number).write(context.arg::<u64>(5).unwrap_or(0));
        (*slot).literal[0] = 0;
        (*slot).text[0] = 0;
        (*slot).action[0] = 0;
        let literal = &mut *(&raw mut (*slot).literal);
        string::<LITERAL_LEN>(context.arg(3).unwrap_or(0), literal);
        if literal[0] == b'%' && literal[1] == b'*' {
            text(context, &mut *(&raw mut (*slot).text));
        }
        string::<ACTION_LEN>(read::user(log, log::ACTION).unwrap_or(0), &mut *(&raw mut (*slot).action));
    }
    let mut flags = describe(slot.cast::<u8>().wrapping_add(core::mem::offset_of!(Complaint, request)).cast(), request, log, data);
    let found = bind(request, upstream);
    let mut unbound = request == 0;
    match found {
        Bound::Socket(sk) => {
            if fill_socket(slot, sk, header.time_ns) {
                flags |= SOCKET_BOUND;
            }
        }
        Bound::Unix => flags |= UNIX,
        Bound::Unknown => unbound = true,
        Bound::None => {}
    }
    if flags & SOCKET_BOUND == 0 {
        // SAFETY: as above.
        unsafe { zero(slot) };
    }
    // SAFETY: as above; the process entry is live and written only in its own context.
    unsafe {
        (*process).complained_request = request;
        if unbound {
            (*process).complained_unbound = 1;
        }
        (*slot).request.flags = flags;
    }
    emit::submit(entry);
}

#[inline(always)]
fn error_page(request: u64, status: u32) {
    let Some(process) = owner::current_traced(Program::SpecialResponse) else { return };
    if read::user::<u32>(request, 0) != Some(HTTP_SIGNATURE) {
        emit::lost(Program::SpecialResponse, Reason::UserRead);
        return;
    }
    let client = read::user::<u64>(request, request::CONNECTION).unwrap_or(0);
    let log = read::user::<u64>(client, connection::LOG).unwrap_or(0);
    let data = read::user::<u64>(log, log::DATA).unwrap_or(0);
    let Some(mut entry) = emit::reserve::<Status>(Program::SpecialResponse) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::STATUS, Program::SpecialResponse);
    let flags = describe(slot.cast::<u8>().wrapping_add(core::mem::offset_of!(Status, request)).cast(), request, log, data);
    // SAFETY: the slot is ours until submitted, the process entry is live; every field is written.
    unsafe {
        (*process).complained_request = 0;
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).status).write(status);
        (&raw mut (*slot).reserved).write(0);
        (*slot).request.flags = flags;
    }
    emit::submit(entry);
}

/// The HTTP request a log line is about, or 0.
#[inline(always)]
fn current_request(data: u64) -> u64 {
    let main = read::user::<u64>(data, log_context::REQUEST).unwrap_or(0);
    let current = read::user::<u64>(data, log_context::CURRENT_REQUEST).unwrap_or(0);
    let request = if current == 0 { main } else { current };
    if read::user::<u32>(request, 0) == Some(HTTP_SIGNATURE) && read::user::<u32>(main, 0) == Some(HTTP_SIGNATURE) {
        request
    } else {
        0
    }
}

/// Writes what nginx knows of the request; returns the flags.
#[inline(never)]
fn describe(slot: *mut Request, request: u64, log: u64, data: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let mut flags = 0;
    let mut main = 0;
    if request != 0 {
        flags |= HTTP;
        main = read::user::<u64>(data, log_context::REQUEST).unwrap_or(0);
    } else if read::user::<u32>(data, 0) == Some(STREAM_SIGNATURE) {
        flags |= STREAM;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM).unwrap_or(0);
    let client = read::user::<u64>(request, request::CONNECTION).unwrap_or(0);
    let mut attempt = 0;
    let mut state_status = 0;
    let mut header_time = u64::MAX;
    if let Some((count, last)) = attempts(request) {
        flags |= STATES_KNOWN;
        attempt = count;
        state_status = read::user::<u64>(last, state::STATUS).unwrap_or(0) as u32;
        header_time = read::user::<u64>(last, state::HEADER_TIME).unwrap_or(u64::MAX);
    }
    let peer = upstream + upstream::PEER;
    if upstream != 0 && log != 0 && read::user::<u64>(peer, peer::LOG) == Some(log) {
        flags |= CACHED_KNOWN;
        if read::user::<u8>(peer, peer::BITS).unwrap_or(0) & peer::CACHED_BIT != 0 {
            flags |= CACHED;
        }
    }
    // SAFETY: the caller's slot; every field is written.
    unsafe {
        (&raw mut (*slot).request).write(request);
        (&raw mut (*slot).main).write(main);
        (&raw mut (*slot).connection).write(read::user(log, log::CONNECTION).unwrap_or(0));
        (&raw mut (*slot).upstream).write(upstream);
        (&raw mut (*slot).state_header_time).write(header_time);
        (&raw mut (*slot).state_status).write(state_status);
        (&raw mut (*slot).attempt).write(attempt);
        (&raw mut (*slot).log_level).write(read::user::<u64>(log, log::LEVEL).unwrap_or(0) as u32);
        let name = if upstream == 0 { 0 } else { read::user::<u64>(peer, peer::NAME).unwrap_or(0) };
        ngx_str::<NAME_LEN>(name, &mut *(&raw mut (*slot).peer));
        let address = if client == 0 { 0 } else { client + connection::ADDR_TEXT };
        ngx_str::<CLIENT_LEN>(address, &mut *(&raw mut (*slot).client));
    }
    flags
}

/// Number of attempts and the address of the last one's state, from `r->upstream_states` (an `ngx_array_t`).
#[inline(always)]
fn attempts(request: u64) -> Option<(u32, u64)> {
    let array = read::user::<u64>(request, request::UPSTREAM_STATES)?;
    let elements = read::user::<u64>(array, 0)?;
    let count = read::user::<u64>(array, 8)?;
    let size = read::user::<u64>(array, 16)?;
    let capacity = read::user::<u64>(array, 24)?;
    if count == 0 || count > capacity || capacity > 65_536 || !state::SIZE.contains(&size) {
        return None;
    }
    Some((count as u32, elements + (count - 1) * size))
}

enum Bound {
    /// The upstream connection's TCP socket.
    Socket(u64),
    Unix,
    /// There is a connection, its socket could not be told.
    Unknown,
    /// The request has no upstream connection now.
    None,
}

/// The socket of the request's upstream connection, through its descriptor.
#[inline(always)]
fn bind(request: u64, upstream: u64) -> Bound {
    if request == 0 || upstream == 0 {
        return Bound::None;
    }
    let Some(connection) = read::user::<u64>(upstream + upstream::PEER, peer::CONNECTION) else { return Bound::Unknown };
    if connection == 0 {
        return Bound::None;
    }
    let owner = read::user::<u64>(connection, connection::DATA).unwrap_or(0);
    // Not yet set while connect() itself fails.
    if owner != request && owner != 0 {
        return Bound::Unknown;
    }
    let Some(fd) = read::user::<u32>(connection, connection::FD) else { return Bound::Unknown };
    let sk = socket_of(fd);
    let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
    match family {
        1 => Bound::Unix,
        read::AF_INET | read::AF_INET6 => Bound::Socket(sk),
        _ => Bound::Unknown,
    }
}

/// The socket which the request is connecting with just now; 0 when that cannot be told.
#[inline(always)]
pub(super) fn connecting_socket(request: u64) -> u64 {
    if read::user::<u32>(request, 0) != Some(HTTP_SIGNATURE) {
        return 0;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM).unwrap_or(0);
    if upstream == 0 {
        return 0;
    }
    let connection = read::user::<u64>(upstream + upstream::PEER, peer::CONNECTION).unwrap_or(0);
    match read::user::<u32>(connection, connection::FD) {
        Some(fd) => socket_of(fd),
        None => 0,
    }
}

/// `struct sock *` behind a descriptor of the current process; 0 when it is not a socket.
#[inline(always)]
fn socket_of(fd: u32) -> u64 {
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
#[inline(always)]
fn fill_socket(slot: *mut Complaint, sk: u64, now_ns: u64) -> bool {
    if SOCKETS.get_ptr(sk).is_none() {
        let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
        let mut socket = read::identity(sk, family, now_ns, bpf_get_current_pid_tgid());
        socket.flags = PREEXISTING;
        let _ = SOCKETS.insert(sk, socket, 0);
    }
    let Some(socket) = SOCKETS.get_ptr_mut(sk) else {
        emit::lost(Program::LogErrorCore, Reason::MapFull);
        return false;
    };
    let state: u8 = read::kernel(sk, setting!(offsets.sock_state));
    let traffic = read::traffic(sk);
    // SAFETY: a live map entry, the event's slot is ours; both fields are written whole.
    unsafe {
        (*socket).flags |= COMPLAINED;
        if (*socket).local_port == 0 {
            (*socket).local_port = read::local_port(sk);
            (*socket).local_address = read::local_address(sk, (*socket).family);
        }
        (&raw mut (*slot).socket).write(*socket);
        (&raw mut (*slot).live).write(read::live(sk, state, &traffic));
    }
    true
}

/// Nothing is known of the socket.
///
/// # Safety
/// `slot` must be writable.
#[inline(always)]
unsafe fn zero(slot: *mut Complaint) {
    // SAFETY: the caller's promise; the socket field is 8-aligned and a multiple of 8 long.
    unsafe {
        let words = (&raw mut (*slot).socket).cast::<u64>();
        for index in 0..size_of::<Socket>() / 8 {
            words.add(index).write(0);
        }
        (&raw mut (*slot).live).write(Default::default());
    }
}

/// A C string of the current process.
#[inline(always)]
fn string<const N: usize>(address: u64, into: &mut [u8; N]) {
    if address != 0 {
        // SAFETY: the helper checks the address; at most N bytes are written.
        let _ = unsafe { bpf_probe_read_user_str_bytes(address as *const u8, into) };
    }
}

/// An `ngx_str_t` of the current process; a longer one is cut, the rest is NUL.
#[inline(always)]
fn ngx_str<const N: usize>(address: u64, into: &mut [u8; N]) {
    *into = [0; N];
    let (Some(length), Some(data)) = (read::user::<u64>(address, 0), read::user::<u64>(address, 8)) else { return };
    if length == 0 || data == 0 {
        return;
    }
    let length = if length as usize >= N { N - 1 } else { length as usize };
    if let Some(into) = into.get_mut(..length) {
        // SAFETY: the helper checks the address; `length` bytes are written.
        let _ = unsafe { bpf_probe_read_user_buf(data as *const u8, into) };
    }
}

/// The text of `"%*s"`: length and address are the first two variadic arguments.
#[inline(always)]
fn text(context: &ProbeContext, into: &mut [u8; TEXT_LEN]) {
    let length: u64 = context.arg(4).unwrap_or(0);
    let data: u64 = context.arg(5).unwrap_or(0);
    *into = [0; TEXT_LEN];
    if length == 0 || data == 0 {
        return;
    }
    let length = if length as usize >= TEXT_LEN { TEXT_LEN - 1 } else { length as usize };
    if let Some(into) = into.get_mut(..length) {
        // SAFETY: the helper checks the address; `length` bytes are written.
        let _ = unsafe { bpf_probe_read_user_buf(data as *const u8, into) };
    }
}
