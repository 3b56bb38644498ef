//! nginx's word: uprobes on `ngx_log_error_core` and `ngx_http_special_response_handler`.
//!
//! Hook: uprobes at exported, cold functions, attached per binary; arguments by the C calling convention.
//! Context: process, the worker's own thread; its memory is read with checks at every step, because the layouts differ
//! by version: a request must carry nginx's signature, its upstream connection must point back at it, its peer must
//! point at the log. What fails its check is left out.
//! Layouts: src/core/ngx_log.h, ngx_connection.h, ngx_event_connect.h, src/http/ngx_http_request.h, ngx_http_upstream.h,
//! 1.18 to 1.30, x86-64 and aarch64.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_task, bpf_probe_read_user_buf, generated},
    macros::uprobe,
    programs::ProbeContext,
};
use tracer_common::{
    event::{
        closed::{RESPONSE_COMPLETE, RESPONSE_CUT, RESPONSE_UNKNOWN},
        complaint::{
            ACTION_LEN, CACHED, CACHED_KNOWN, CLIENT_LEN, Complaint, HTTP, LINE_KNOWN, LINE_LEN, LITERAL_LEN, NAME_LEN,
            Request, SOCKET_BOUND, STATES_KNOWN, STREAM, TEXT_LEN, UNIX,
        },
        kind,
        status::Status,
    },
    loss::{Program, Reason},
    process::Process,
    socket::{COMPLAINED, PREEXISTING, Socket},
};

use super::lifecycle;
use crate::{
    emit,
    maps::{LAST_UNBOUND, NEW_SOCKET, NOWHERE, PROCESSES, SCRATCH, SCRATCH_WORDS, SOCKETS},
    owner, read,
    settings::setting,
};

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
    /// Right after the peer: without and with what --with-compat reserves there.
    pub(super) const PIPE: [u64; 4] = [144, 152, 160, 168];
}
/// `ngx_event_pipe_t`
mod pipe {
    pub(super) const UPSTREAM: u64 = 0;
    pub(super) const DOWNSTREAM: u64 = 8;
    pub(super) const FLAGS_WITHOUT_THREADS: u64 = 104;
    pub(super) const FLAGS_WITH_THREADS: u64 = 128;
    /// Fifth of the one-bit fields.
    pub(super) const UPSTREAM_DONE: u64 = 1 << 4;
}
/// `ngx_peer_connection_t`
mod peer {
    pub(super) const CONNECTION: u64 = 0;
    pub(super) const NAME: u64 = 24;
    pub(super) const LOG: u64 = 112;
    pub(super) const BITS: u64 = 120;
    /// Two pointers more (`hint`, `sid`).
    pub(super) const BITS_SINCE_1_29_6: u64 = 136;
    pub(super) const CACHED_BIT: u32 = 1;

    /// Six one-bit fields, the last two of which hold NGX_ERROR_ERR (1) for every HTTP upstream
    /// (ngx_http_upstream_init_request()).
    #[inline(always)]
    pub(super) const fn are_bits(word: u32) -> bool {
        word & !0xf == 0x10
    }
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
    on_the_kernel_stack(&context, level);
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
    on_the_kernel_stack(&context, status);
    if matches!(status, 500 | 502 | 504) {
        let request: u64 = context.arg(0).unwrap_or(0);
        error_page(request, status as u32);
    }
    0
}

/// Keeps the program on the kernel's stack.
///
/// Since 6.13 the frames of tracing programs lie on a stack per program and CPU, for which the kernel counts on the same
/// program not running twice at once on a CPU. A uprobe's program can be preempted, and another worker's then runs over
/// its frames: seen on 7.2 as a page fault in this program. A program with a tail call gets no such stack
/// (check_max_stack_depth(), kernel/bpf/verifier.c); this one is never made.
#[inline(always)]
fn on_the_kernel_stack(context: &ProbeContext, argument: u64) {
    const NEVER: u64 = 0x6e65_7665_7200;
    if argument == NEVER {
        // SAFETY: the array is empty: the call fails, and the program goes on.
        unsafe { NOWHERE.tail_call(context, 0) };
    }
}

#[inline(always)]
fn complaint(context: &ProbeContext, level: u64, log: u64) {
    let Some(process) = owner::current_traced(Program::LogErrorCore) else { return };
    let data = read::user::<u64>(log, log::DATA);
    let request = current_request(data);
    let upstream = read::user::<u64>(request, request::UPSTREAM);
    if request != 0 && upstream == 0 {
        return; // About something else than an upstream: a missing file, say.
    }
    let Some(mut entry) = emit::reserve::<Complaint>(Program::LogErrorCore) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::COMPLAINT, Program::LogErrorCore);
    // SAFETY: the slot is ours until submitted; every field is written, here and by the three calls.
    unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).level).write(level as u32);
        (&raw mut (*slot).errno).write(context.arg::<u64>(2).unwrap_or(0) as u32);
        (&raw mut (*slot).arguments).write([context.arg(4).unwrap_or(0), context.arg(5).unwrap_or(0)]);
        describe(&raw mut (*slot).request, request, log, process);
        (*slot).literal[0] = 0;
        (*slot).text[0] = 0;
        (*slot).action[0] = 0;
        let literal: u64 = context.arg(3).unwrap_or(0);
        let action = read::user(log, log::ACTION);
        (&raw mut (*slot).literal_address).write(literal);
        (&raw mut (*slot).action_address).write(action);
        string(literal, (&raw mut (*slot).literal).cast(), LITERAL_LEN);
        string(action, (&raw mut (*slot).action).cast(), ACTION_LEN);
        text(context, (&raw mut (*slot).text).cast());
        (*process).complained_request = request;
    }
    if find_socket(slot, request, upstream) != 0 {
        // SAFETY: the process entry is live and written only in its own context.
        unsafe { (*process).complained_unbound = 1 };
        if let Some(last) = LAST_UNBOUND.get_ptr_mut(0) {
            // SAFETY: a live map entry.
            unsafe { *last = header.time_ns };
        }
    }
    emit::submit(entry);
}

/// Fills in the socket; 1: there is one, and it could not be told.
#[inline(never)]
fn find_socket(slot: *mut Complaint, request: u64, upstream: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let mut unbound = u32::from(request == 0);
    let mut filled = false;
    match bind(request, upstream) {
        Bound::Socket(sk) => filled = fill_socket(slot, sk),
        // SAFETY: the caller's slot.
        Bound::Unix => unsafe { (*slot).request.flags |= UNIX },
        Bound::Unknown => unbound = 1,
        Bound::None => {}
    }
    if !filled {
        // SAFETY: the caller's slot.
        unsafe { zero(slot) };
    }
    unbound
}

#[inline(always)]
fn error_page(request: u64, status: u32) {
    let Some(process) = owner::current_traced(Program::SpecialResponse) else { return };
    if read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        emit::lost(Program::SpecialResponse, Reason::UserRead);
        return;
    }
    let client = read::user::<u64>(request, request::CONNECTION);
    let log = read::user::<u64>(client, connection::LOG);
    let Some(mut entry) = emit::reserve::<Status>(Program::SpecialResponse) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::STATUS, Program::SpecialResponse);
    // SAFETY: the slot is ours until submitted, the process entry is live; every field is written.
    unsafe {
        (*process).complained_request = 0;
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).status).write(status);
        (&raw mut (*slot).reserved).write(0);
        describe(&raw mut (*slot).request, request, log, process);
    }
    emit::submit(entry);
}

/// The HTTP request a log line is about, or 0.
#[inline(always)]
fn current_request(data: u64) -> u64 {
    let main = read::user::<u64>(data, log_context::REQUEST);
    let current = read::user::<u64>(data, log_context::CURRENT_REQUEST);
    let request = if current == 0 { main } else { current };
    if read::user::<u32>(request, 0) == HTTP_SIGNATURE && read::user::<u32>(main, 0) == HTTP_SIGNATURE {
        request
    } else {
        0
    }
}

/// Writes what nginx knows of the request.
///
/// Flags go to memory, which the verifier does not track: returned, each combination of them would be a path of its own
/// through the rest of the program.
#[inline(never)]
fn describe(slot: *mut Request, request: u64, log: u64, process: *mut Process) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let data = read::user::<u64>(log, log::DATA);
    let mut flags = 0;
    let mut main = 0;
    if request != 0 {
        flags |= HTTP;
        main = read::user::<u64>(data, log_context::REQUEST);
    } else if read::user::<u32>(data, 0) == STREAM_SIGNATURE {
        flags |= STREAM;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM);
    let client = read::user::<u64>(request, request::CONNECTION);
    let mut attempt = 0;
    let mut state_status = 0;
    let mut header_time = u64::MAX;
    if let Some((count, last)) = attempts(request) {
        flags |= STATES_KNOWN;
        attempt = count;
        state_status = read::user::<u64>(last, state::STATUS) as u32;
        header_time = read::user::<u64>(last, state::HEADER_TIME);
    }
    let peer = upstream + upstream::PEER;
    if upstream != 0 && log != 0 && read::user::<u64>(peer, peer::LOG) == log {
        let before = read::user::<u32>(peer, peer::BITS);
        let since = read::user::<u32>(peer, peer::BITS_SINCE_1_29_6);
        let bits = if peer::are_bits(before) { before } else { since };
        if peer::are_bits(bits) {
            flags |= CACHED_KNOWN;
        }
        if bits & peer::CACHED_BIT != 0 {
            flags |= CACHED;
        }
    }
    let start = if main == 0 { 0 } else { start_of_request(main, process) };
    let mut start_ms = 0;
    if start != 0 {
        flags |= LINE_KNOWN;
        let seconds = read::user::<u64>(start, 0);
        start_ms = seconds * 1000 + read::user::<u64>(start, start::MSEC);
    }
    // SAFETY: the caller's slot; every field is written.
    unsafe {
        (&raw mut (*slot).start_ms).write(start_ms);
        (&raw mut (*slot).start_offset).write(if start == 0 { 0 } else { (start - main) as u32 });
        (&raw mut (*slot).reserved).write(0);
        let line = if start == 0 { 0 } else { start + start::REQUEST_LINE };
        ngx_str(line, (&raw mut (*slot).line).cast(), LINE_LEN);
        (&raw mut (*slot).request).write(request);
        (&raw mut (*slot).main).write(main);
        (&raw mut (*slot).connection).write(read::user(log, log::CONNECTION));
        (&raw mut (*slot).upstream).write(upstream);
        (&raw mut (*slot).state_header_time).write(header_time);
        (&raw mut (*slot).state_status).write(state_status);
        (&raw mut (*slot).attempt).write(attempt);
        (&raw mut (*slot).log_level).write(read::user::<u64>(log, log::LEVEL) as u32);
        let name = if upstream == 0 { 0 } else { read::user::<u64>(peer, peer::NAME) };
        ngx_str(name, (&raw mut (*slot).peer).cast(), NAME_LEN);
        let address = if client == 0 { 0 } else { client + connection::ADDR_TEXT };
        ngx_str(address, (&raw mut (*slot).client).cast(), CLIENT_LEN);
        (&raw mut (*slot).flags).write(flags);
    }
    0
}

/// Number of attempts and the address of the last one's state, from `r->upstream_states` (an `ngx_array_t`).
#[inline(always)]
fn attempts(request: u64) -> Option<(u32, u64)> {
    let array = read::user::<u64>(request, request::UPSTREAM_STATES);
    let elements = read::user::<u64>(array, 0);
    let count = read::user::<u64>(array, 8);
    let size = read::user::<u64>(array, 16);
    let capacity = read::user::<u64>(array, 24);
    if count == 0 || count > capacity || capacity > 65_536 || !state::SIZE.contains(&size) {
        return None;
    }
    Some((count as u32, elements + (count - 1) * size))
}

/// Address of the main request's `start_sec`; 0 when it cannot be told.
///
/// What precedes it in `ngx_http_request_t` has another size in every version, so it is found by what is there, once
/// per process: `start_sec, start_msec, method, http_version, request_line` follow each other since nginx 0.x.
#[inline(always)]
fn start_of_request(main: u64, process: *mut Process) -> u64 {
    // SAFETY: the live map entry of the current process.
    let mut offset = unsafe { (*process).start_sec_offset };
    if offset == 0 {
        offset = find_start(main);
        // SAFETY: as above; written only in the process's own context.
        unsafe { (*process).start_sec_offset = offset };
    }
    if offset == 0 {
        return 0;
    }
    let start = main + u64::from(offset);
    let plausible = is_version(read::user(start, start::HTTP_VERSION)) && read::user::<u64>(start, start::MSEC) < 1000;
    if plausible { start } else { 0 }
}

/// Offset of `start_sec` in the request; 0: not found.
#[inline(never)]
fn find_start(main: u64) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's entry. A preempting worker may overwrite it: with a request of the same layout, or another
    // nginx's, whose offset then fails the check at its use.
    let words = unsafe { &mut *scratch };
    // SAFETY: the helper checks the address and fails rather than faults; the slice is the entry's bytes.
    let read = unsafe {
        let bytes = core::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), SCRATCH_WORDS * 8);
        bpf_probe_read_user_buf(main as *const u8, bytes)
    };
    if read.is_err() {
        return 0;
    }
    for index in FIRST_START_WORD..SCRATCH_WORDS - START_WORDS {
        if is_start(words, index) != 0 {
            return index as u32 * 8;
        }
    }
    0
}

/// The words from `index` on look like `start_sec`, `start_msec`, `method`, `http_version`, `request_line.len`.
///
/// Not inlined: the verifier then forgets each word before it looks at the next.
#[inline(never)]
fn is_start(words: &[u64; SCRATCH_WORDS], index: usize) -> u32 {
    if index > SCRATCH_WORDS - START_WORDS {
        return 0;
    }
    let [second, millisecond, method, version, length] =
        [words[index], words[index + 1], words[index + 2], words[index + 3], words[index + 4]];
    // One bit of NGX_HTTP_GET … is set; times are past 2001, lines shorter than a megabyte.
    if !is_version(version) || method == 0 || method >= 1 << 20 || method & (method - 1) != 0 {
        return 0;
    }
    u32::from(millisecond < 1000 && length < 1 << 20 && second > 1_000_000_000 && second < 10_000_000_000)
}

/// `start_sec` lies behind `headers_in` and `headers_out`.
const FIRST_START_WORD: usize = 88;
/// Words that are looked at together.
const START_WORDS: usize = 5;

/// NGX_HTTP_VERSION_9 … _30, src/http/ngx_http_request.h.
#[inline(always)]
fn is_version(version: u64) -> bool {
    matches!(version, 9 | 1000 | 1001 | 2000 | 3000)
}

/// From `start_sec` on.
mod start {
    pub(super) const MSEC: u64 = 8;
    pub(super) const HTTP_VERSION: u64 = 24;
    pub(super) const REQUEST_LINE: u64 = 32;
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
    let connection = read::user::<u64>(upstream + upstream::PEER, peer::CONNECTION);
    if connection == 0 {
        return Bound::None;
    }
    let owner = read::user::<u64>(connection, connection::DATA);
    // Not yet set while connect() itself fails.
    if owner != request && owner != 0 {
        return Bound::Unknown;
    }
    let sk = socket_of(read::user(connection, connection::FD));
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
    if read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        return 0;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM);
    if upstream == 0 {
        return 0;
    }
    let connection = read::user::<u64>(upstream + upstream::PEER, peer::CONNECTION);
    if connection == 0 { 0 } else { socket_of(read::user(connection, connection::FD)) }
}

/// Had nginx read all of the response of the request that was just complained about? Asked while it closes the upstream
/// connection. nginx logs a reset that it meets after the last byte as well; only its pipe then knows that all was read
/// (ngx_event_pipe_read_upstream(), src/event/ngx_event_pipe.c, reads once more before it parses what it has).
#[inline(never)]
pub(super) fn response_read(tgid: u32) -> u32 {
    let Some(process) = PROCESSES.get_ptr(tgid) else { return RESPONSE_UNKNOWN };
    // SAFETY: a live map entry.
    let request = unsafe { (*process).complained_request };
    if request == 0 || read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        return RESPONSE_UNKNOWN;
    }
    let upstream = read::user::<u64>(request, request::UPSTREAM);
    let connection = read::user::<u64>(upstream + upstream::PEER, peer::CONNECTION);
    let client = read::user::<u64>(request, request::CONNECTION);
    let mut pipe = 0;
    for place in upstream::PIPE {
        let candidate = read::user::<u64>(upstream, place);
        // The pipe must lie between this upstream connection and this client.
        if read::user::<u64>(candidate, pipe::UPSTREAM) == connection
            && read::user::<u64>(candidate, pipe::DOWNSTREAM) == client
        {
            pipe = candidate;
        }
    }
    if connection == 0 || client == 0 || pipe == 0 {
        return RESPONSE_UNKNOWN;
    }
    // Three pointers more with threads (and --with-compat): a pointer, or none, where else the flags are.
    let without_threads = read::user::<u64>(pipe, pipe::FLAGS_WITHOUT_THREADS) & 0xffff_ffff;
    let with_threads = read::user::<u64>(pipe, pipe::FLAGS_WITH_THREADS) & 0xffff_ffff;
    let flags = if without_threads != 0 && without_threads < 1 << 12 { without_threads } else { with_threads };
    if flags == 0 || flags >= 1 << 12 {
        return RESPONSE_UNKNOWN;
    }
    if flags & pipe::UPSTREAM_DONE == 0 { RESPONSE_CUT } else { RESPONSE_COMPLETE }
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
#[inline(never)]
fn fill_socket(slot: *mut Complaint, sk: u64) -> bool {
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

/// A C string of the current process, cut to `capacity`.
#[inline(always)]
fn string(address: u64, into: *mut u8, capacity: usize) {
    if address != 0 {
        // SAFETY: `into` has room for `capacity` bytes; the helper checks the source.
        unsafe { generated::bpf_probe_read_user_str(into.cast(), capacity as u32, address as *const c_void) };
    }
}

/// An `ngx_str_t` of the current process, NUL terminated; a longer one is cut.
#[inline(always)]
fn ngx_str(address: u64, into: *mut u8, capacity: usize) {
    copy(read::user(address, 8), read::user(address, 0), into, capacity as u64 - 1);
}

/// The text argument: length and address of `"%*s"`, else an `ngx_str_t` for `%V`; told apart by the first being too small
/// for an address, since the literal itself may not be readable yet. Where the literal takes neither, what is copied means
/// nothing, and user space does not look at it.
#[inline(always)]
fn text(context: &ProbeContext, into: *mut u8) {
    let first: u64 = context.arg(4).unwrap_or(0);
    let second: u64 = context.arg(5).unwrap_or(0);
    if first < LOWEST_ADDRESS {
        copy(second, first, into, TEXT_LEN as u64 - 1);
    } else {
        ngx_str(first, into, TEXT_LEN);
    }
}

/// vm.mmap_min_addr of every distribution: no user address is lower.
const LOWEST_ADDRESS: u64 = 65_536;

/// Copies at most `room` of `length` bytes of the current process, and a NUL.
#[inline(never)]
fn copy(address: u64, length: u64, into: *mut u8, room: u64) -> u32 {
    if into.is_null() {
        return 0;
    }
    let length = if length < room { length } else { room };
    // SAFETY: the caller's array has room + 1 bytes; the helper checks the source, and zeroes the destination when it
    // fails.
    unsafe {
        generated::bpf_probe_read_user(into.cast(), length as u32, address as *const c_void);
        *into.add(length as usize) = 0;
    }
    0
}
