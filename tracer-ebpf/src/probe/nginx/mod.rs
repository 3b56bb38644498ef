//! nginx's word: uprobes on `ngx_log_error_core` and `ngx_http_special_response_handler`.
//!
//! Hook: uprobes at exported, cold functions, attached per binary; arguments by the C calling convention.
//! Context: process, the worker's own thread; its memory is read with checks at every step, because the layouts differ
//! by version: a request must carry nginx's signature, its upstream connection must point back at it, its peer must
//! point at the log. What fails its check is left out.

mod layout;
mod line;
mod request;
mod response;
mod socket;
mod storm;
mod text;

use core::mem::MaybeUninit;

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_common::{
    event::{
        complaint::{ACTION_LEN, Complaint, LITERAL_LEN, UNIX},
        kind,
        status::Status,
    },
    loss::{Program, Reason},
    unix::UnixSocket,
};

use self::{
    layout::{HTTP_SIGNATURE, connection, log, log_context, request as http},
    request::{About, Head, describe},
    socket::{Bound, bind, fill_socket, zero},
    text::{string, takes_arguments, text},
};
pub(super) use self::{
    response::response_read,
    socket::{retrying_socket, socket_of, words_of_nothing},
    storm::{just_counted, went_on},
};
use crate::{
    emit,
    maps::{LAST_UNBOUND, NOWHERE},
    owner,
    probe::unix,
    read,
};

/// What connections fail of.
const ENETUNREACH: u32 = 101;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: u32 = 113;
/// NGX_LOG_ERR: lines less severe than this say nothing about a failure.
const NGX_LOG_ERR: u64 = 4;

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
    let (mut about, mut head) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (about, head) = whose(log, &mut about, &mut head);
    let literal: u64 = context.arg(3).unwrap_or(0);
    let errno = context.arg::<u64>(2).unwrap_or(0) as u32;
    if about.request != 0 && head[http::UPSTREAM] == 0 {
        if !matches!(errno, ENETUNREACH | ECONNRESET | ETIMEDOUT | ECONNREFUSED | EHOSTUNREACH) {
            return; // About something else than a connection: a missing file, say.
        }
        // A script's own connection (Lua's): no attempt of the request's.
        (about.request, about.main) = (0, 0);
        no_words(head);
    }
    if storm::counted(about, head, process, literal, errno) != 0 {
        return;
    }
    let Some(mut entry) = emit::reserve::<Complaint>(Program::LogErrorCore) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::COMPLAINT, Program::LogErrorCore);
    // SAFETY: the slot is ours until submitted; every field is written, here and by the three calls.
    let connection = unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).level).write(level as u32);
        (&raw mut (*slot).errno).write(errno);
        (&raw mut (*slot).arguments).write([context.arg(4).unwrap_or(0), context.arg(5).unwrap_or(0)]);
        let connection = describe(&raw mut (*slot).request, about, head, process);
        (*slot).literal[0] = 0;
        (*slot).text[0] = 0;
        (*slot).action[0] = 0;
        let action = about.action;
        (&raw mut (*slot).literal_address).write(literal);
        (&raw mut (*slot).action_address).write(action);
        string(literal, (&raw mut (*slot).literal).cast(), LITERAL_LEN);
        string(action, (&raw mut (*slot).action).cast(), ACTION_LEN);
        if takes_arguments(&raw const (*slot).literal) {
            text(context, (&raw mut (*slot).text).cast());
        }
        (*process).complained_request = about.request;
        (*process).counted_request = 0;
        (*process).unwritten_ns = header.time_ns;
        connection
    };
    // SAFETY: the slot is ours until submitted.
    unsafe { (&raw mut (*slot).unix.sk).write(0) };
    let unbound = find_socket(slot, about.request, connection);
    fill_unix(slot);
    if unbound != 0 {
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
fn find_socket(slot: *mut Complaint, request: u64, connection: u64) -> u32 {
    if slot.is_null() {
        return 0;
    }
    let mut unbound = u32::from(request == 0);
    let mut filled = false;
    match bind(request, connection) {
        Bound::Socket(sk) => filled = fill_socket(slot, sk),
        // SAFETY: the caller's slot.
        Bound::Unix(sk) => unsafe { (&raw mut (*slot).unix.sk).write(sk) },
        Bound::Unknown => unbound = 1,
        Bound::None => {}
    }
    if !filled {
        // SAFETY: the caller's slot.
        unsafe { zero(slot) };
    }
    unbound
}

/// Fills in the unix socket, where there is one: a function of its own, because chains of calls have little stack.
#[inline(never)]
fn fill_unix(slot: *mut Complaint) -> u32 {
    if slot.is_null() {
        return 0;
    }
    // SAFETY: the caller's slot.
    unsafe {
        let sk = (*slot).unix.sk;
        if sk == 0 {
            words_of_nothing::<{ size_of::<UnixSocket>() / 8 }>((&raw mut (*slot).unix).cast());
        } else {
            (*slot).request.flags |= UNIX;
            unix::describe(&raw mut (*slot).unix, sk);
        }
    }
    1
}

#[inline(always)]
fn error_page(request: u64, status: u32) {
    let Some(process) = owner::current_traced(Program::SpecialResponse) else { return };
    if read::user::<u32>(request, 0) != HTTP_SIGNATURE {
        emit::lost(Program::SpecialResponse, Reason::UserRead);
        return;
    }
    if storm::answered(request, status, process) != 0 {
        return;
    }
    let client = read::user::<u64>(request, http::CONNECTION_AT);
    let log = read::user::<u64>(client, connection::LOG_AT);
    let (mut about, mut head) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (about, head) = whose(log, &mut about, &mut head);
    if about.request != request {
        about.request = request;
        read::words_again(head, request, 0);
    }
    let Some(mut entry) = emit::reserve::<Status>(Program::SpecialResponse) else { return };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::STATUS, Program::SpecialResponse);
    // SAFETY: the slot is ours until submitted, the process entry is live; every field is written.
    unsafe {
        (*process).complained_request = 0;
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).status).write(status);
        (&raw mut (*slot).reserved).write(0);
        describe(&raw mut (*slot).request, about, head, process);
        storm::recall(&raw mut (*slot).request, header.tgid);
    }
    emit::submit(entry);
}

/// Whose log it is, and the beginning of its HTTP request: zeroes, where it is none's.
#[inline(always)]
fn whose<'a>(
    log: u64,
    about: &'a mut MaybeUninit<About>,
    head: &'a mut MaybeUninit<Head>,
) -> (&'a mut About, &'a mut Head) {
    find_out(log, about, head);
    // SAFETY: both have just been filled in.
    unsafe { (about.assume_init_mut(), head.assume_init_mut()) }
}

/// Fills in both.
#[inline(never)]
fn find_out(log: u64, about: &mut MaybeUninit<About>, head: &mut MaybeUninit<Head>) -> u32 {
    let mut words = MaybeUninit::<[u64; log::WORDS]>::uninit();
    let words = read::words(&mut words, log, 0);
    let data = words[log::DATA];
    let mut context = MaybeUninit::<[u64; log_context::WORDS]>::uninit();
    let context = read::words(&mut context, data, 0);
    let main = context[log_context::REQUEST];
    let current = context[log_context::CURRENT_REQUEST];
    let request = if current == 0 { main } else { current };
    let head = read::words(head, request, 0);
    let is_http = head[http::SIGNATURE] as u32 == HTTP_SIGNATURE
        && (main == request || read::user::<u32>(main, 0) == HTTP_SIGNATURE);
    if !is_http {
        no_words(head);
    }
    about.write(About {
        request: if is_http { request } else { 0 },
        main: if is_http { main } else { 0 },
        log,
        data,
        connection: words[log::CONNECTION],
        action: words[log::ACTION],
        log_level: words[log::LEVEL] as u32,
    });
    0
}

#[inline(always)]
fn no_words<const N: usize>(words: &mut [u64; N]) {
    // SAFETY: an array of so many words.
    unsafe { words_of_nothing::<N>(words.as_mut_ptr()) };
}
