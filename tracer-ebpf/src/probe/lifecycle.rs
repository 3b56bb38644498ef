//! From connect to close: `sock:inet_sock_set_state` and `tcp:tcp_destroy_sock`.
//!
//! Hook: `tp_btf`, `(const struct sock *, int old, int new)` and `(struct sock *)`, 5.10 and later: the socket's fields are
//! plain loads, and these programs run for every connection of the host.
//! Context: connect and the worker's own close run in its process context; FIN, RST and timers in softirq, or in the
//! backlog of whatever task holds the socket: the current process means something only for the former.
//! Cost: two comparisons for most transitions; one map look-up for those that could be ours.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::info;
use tracer_common::{
    address::is_loopback,
    event::{
        closed::{Closed, RESPONSE_UNKNOWN},
        kind,
        retry::Retry,
    },
    loss::{Program, Reason},
    process::Process,
    reset::{QUEUE_FULL, ResetKey, ResetSlot},
    socket::{
        self, ACCEPT_QUEUE_FULL, COMPLAINED, FIN_RECEIVED, OUTSTANDING, RESET_RECEIVED, RESET_SEEN_AT_SENDER, Socket,
    },
    tcp_state::{CLOSE, CLOSE_WAIT, ESTABLISHED, LISTEN, SYN_SENT},
    upstream::{LATENCY_CLASSES, UpstreamCounts, UpstreamKey},
};

use super::{idle, listen, nginx, peer};
use crate::{
    emit,
    maps::{LAST_UNBOUND, NEW_SOCKET, PROCESSES, RESETS, SOCKETS, UPSTREAMS},
    owner,
    read::{self, Sock, TcpSock},
    settings::setting,
};

/// RCV_SHUTDOWN | SEND_SHUTDOWN: tcp_close() sets both before it changes the state, `__tcp_close()` in net/ipv4/tcp.c.
const SHUTDOWN_MASK: u8 = 3;
/// What nothing but a RST leaves in sk_err: tcp_reset(), net/ipv4/tcp_input.c, which sets it before the state.
const ECONNRESET: u32 = 104;
const EPIPE: u32 = 32;
/// nginx closes the socket right after it complained about it.
const UNBOUND_MEMORY_NS: u64 = 50_000_000;
/// A RST sent longer ago than this has nothing to do with the one received now.
const RESET_MEMORY_NS: u64 = 2_000_000_000;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn set_state(context: BtfTracePointContext) -> i32 {
    let old: i32 = context.arg(1);
    let new: i32 = context.arg(2);
    let (old, new) = (old as u8, new as u8);
    if new == SYN_SENT {
        if old == CLOSE {
            connecting(&context);
        }
    } else if old == SYN_SENT || old == ESTABLISHED || old == CLOSE_WAIT {
        let sk: u64 = context.arg(0);
        if let Some(socket) = SOCKETS.get_ptr_mut(sk) {
            let Some(sk) = TcpSock::of(sk) else { return 0 };
            // SAFETY: a live map entry, and one socket's transitions are serialised by its lock.
            changed(sk, unsafe { &mut *socket }, old, new);
        } else if old != SYN_SENT && new != CLOSE_WAIT {
            let Some(sk) = TcpSock::of(sk) else { return 0 };
            peer::closing(sk);
        }
    } else if new == LISTEN || (old == LISTEN && new == CLOSE) {
        let Some(sk) = TcpSock::of(context.arg(0)) else { return 0 };
        listen::changed(sk, new);
    }
    0
}

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn destroy_sock(context: BtfTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    if let Some(socket) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a live map entry; the socket is at its end and nobody else holds it.
        let socket = unsafe { &mut *socket };
        if let Some(tcp) = TcpSock::of(sk) {
            closing(tcp, socket, socket.ended_state, Program::DestroySock);
        }
        let _ = SOCKETS.remove(sk);
    }
    0
}

/// connect() of a traced process, in its own context.
#[inline(always)]
fn connecting(context: &BtfTracePointContext) {
    let Some(process) = owner::current_traced(Program::SetState) else { return };
    let Some(tcp) = TcpSock::of(context.arg(0)) else { return };
    let family: u16 = tcp.field(setting!(offsets.sock_family));
    if (family != read::AF_INET && family != read::AF_INET6) || remember(tcp, family) == 0 {
        return;
    }
    let sk = tcp.address();
    again(process, sk, Program::SetState);
    if setting!(debug) == 1 {
        info!(context, "connect sk={:x} port={}", sk, read::remote_port(tcp));
    }
}

/// Remembers a new socket; 0: no room.
#[inline(never)]
fn remember(sk: TcpSock, family: u16) -> u32 {
    let mut socket = NEW_SOCKET;
    read::identity(&mut socket, sk, family, 0);
    if SOCKETS.insert(sk.address(), &socket, 0).is_err() {
        emit::lost(Program::SetState, Reason::MapFull);
        return 0;
    }
    1
}

/// A connect of the current process: of the request that nginx complained about last?
#[inline(always)]
pub(super) fn again(process: *mut Process, sk: u64, program: Program) {
    nginx::went_on(process, sk);
    // SAFETY: a live map entry, written only in its process's context, which this is.
    let request = unsafe { (*process).complained_request };
    if request != 0 {
        // SAFETY: as above.
        unsafe { (*process).complained_request = 0 };
        if nginx::retrying_socket(request) == sk {
            retried(request, sk, program);
        }
    }
}

#[inline(never)]
fn retried(request: u64, sk: u64, program: Program) -> i32 {
    if let Some(mut entry) = emit::reserve::<Retry>(program) {
        let event = Retry { header: emit::header(kind::RETRY, program), request, sk };
        // SAFETY: the slot is ours until submitted.
        unsafe { emit::slot(&mut entry).write(event) };
        emit::submit(entry);
    }
    0
}

#[inline(always)]
fn changed(sk: TcpSock, socket: &mut Socket, old: u8, new: u8) {
    if old == SYN_SENT && new == ESTABLISHED {
        // SAFETY: no arguments, no effects.
        let now = unsafe { bpf_ktime_get_ns() };
        socket.established_ns = now;
        let class = log2((now - socket.started_ns) / 1000);
        count(&upstream_key(socket), |counts| {
            counts.connects += 1;
            counts.established += 1;
            if let Some(class) = counts.connect_latency.get_mut(class) {
                *class += 1;
            }
        });
    } else if sk.field::<u8>(setting!(offsets.sock_shutdown)) & SHUTDOWN_MASK == SHUTDOWN_MASK {
        closing(sk, socket, old, Program::SetState);
        // What follows is the kernel's own tidying up.
        let _ = SOCKETS.remove(sk.address());
    } else if new == CLOSE || new == CLOSE_WAIT {
        ended(sk, socket, old, new);
    }
}

/// The other side, or the kernel, ended the connection while the worker still has it open.
#[inline(never)]
fn ended(sk: TcpSock, socket: &mut Socket, old: u8, new: u8) -> u32 {
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_ktime_get_ns() };
    let fin = u64::from(new == CLOSE_WAIT || old == CLOSE_WAIT);
    let traffic = read::traffic(sk);
    socket.ended_ns = now;
    socket.ended_state = old;
    socket.ended_bytes_sent = traffic.bytes_sent;
    socket.ended_bytes_received = traffic.bytes_received.wrapping_sub(fin);
    socket.ended_since_sent_jiffies = traffic.since_sent_jiffies;
    socket.ended_since_received_jiffies = traffic.since_received_jiffies;
    if new == CLOSE_WAIT {
        socket.fin_ns = now;
        socket.flags |= FIN_RECEIVED;
    } else {
        socket.ended_error = sk.field(setting!(offsets.sock_err));
        let by_reset = socket.ended_error == ECONNRESET || (socket.ended_error == EPIPE && old == CLOSE_WAIT);
        if by_reset && socket.flags & RESET_RECEIVED == 0 {
            // The program that sees it arrive was skipped, or is not attached.
            socket.flags |= RESET_RECEIVED;
            socket.reset_state = old;
        }
        read::local(socket, sk);
        who_reset(socket, now);
    }
    if old == SYN_SENT {
        count(&upstream_key(socket), |counts| counts.connects += 1);
    }
    if traffic.bytes_received > fin && !traffic.outstanding(fin) {
        idle::ended(socket, traffic.since_sent_jiffies.min(traffic.since_received_jiffies));
    }
    // Ended before anything was sent is nobody's request, unless an error ended it (`connect_reset`).
    let unsent_error = traffic.bytes_sent == 0 && socket.ended_error != 0;
    if old == SYN_SENT || unsent_error || traffic.outstanding(fin) {
        socket.flags |= OUTSTANDING;
    }
    socket.flags & OUTSTANDING
}

/// Looks up the RST when its sender is on this host.
///
/// Asked again when the socket is reported: tcp_send_active_reset() (net/ipv4/tcp_output.c) transmits first and traces
/// then, and over loopback the RST is received in between.
#[inline(never)]
pub(super) fn who_reset(socket: &mut Socket, now: u64) -> u32 {
    if socket.flags & (RESET_RECEIVED | RESET_SEEN_AT_SENDER) != RESET_RECEIVED {
        return 0;
    }
    let pair = 2 * ResetKey::pair(socket.local_port);
    of_sender(socket, pair, now);
    of_sender(socket, pair + 1, now);
    socket.flags & RESET_SEEN_AT_SENDER
}

/// Is the RST at this place of the table this connection's?
#[inline(always)]
fn of_sender(socket: &mut Socket, place: u32, now: u64) {
    let Some(slot) = RESETS.get_ptr(place) else { return };
    // SAFETY: a live entry of an array; what another processor is writing shows in `check`.
    let slot = unsafe { &*slot };
    let netns = if is_loopback(socket.remote_address) { socket.netns } else { 0 };
    let sent = &slot.sent;
    if slot.key.is((socket.local_address, socket.local_port), (socket.remote_address, socket.remote_port), netns)
        && now < sent.time_ns + RESET_MEMORY_NS
        && sent.time_ns < now + RESET_MEMORY_NS
        && slot.check == ResetSlot::sum(&slot.key, sent)
    {
        socket.reset_reason = sent.reason;
        socket.reset_by_tgid = sent.tgid;
        socket.reset_by_comm = sent.comm;
        socket.flags |= RESET_SEEN_AT_SENDER | if sent.flags & QUEUE_FULL != 0 { ACCEPT_QUEUE_FULL } else { 0 };
    }
}

/// The worker's own first close of the socket.
#[inline(never)]
fn closing(sk: TcpSock, socket: &mut Socket, old: u8, program: Program) -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let unbound = tgid == socket.tgid && take_unbound_complaint(tgid);
    let suspicious = if socket.ended_ns != 0 {
        socket.flags & OUTSTANDING != 0
    } else if old == SYN_SENT {
        count(&upstream_key(socket), |counts| counts.connects += 1);
        true
    } else {
        read::traffic(sk).outstanding(0)
    };
    if !(suspicious || unbound || socket.flags & COMPLAINED != 0) {
        return 0;
    }
    let connected = socket.established_ns != 0 || socket.flags & (COMPLAINED | socket::PREEXISTING) != 0;
    if !connected && !unbound && tgid == socket.tgid && nginx::just_counted(tgid) != 0 {
        return 0;
    }
    let traffic = read::traffic(sk);
    if tgid != socket.tgid {
        // Not the worker's decision: its descriptors are being closed for it (exit of the last holder, a passed
        // descriptor). Nothing nginx did about a request.
        socket.flags |= socket::EXITING;
    }
    read::local(socket, sk);
    who_reset(socket, socket.ended_ns);
    // Without a byte received there is no response to be read.
    let complained = tgid == socket.tgid && socket.flags & COMPLAINED != 0 && traffic.bytes_received > 0;
    let response = if complained { nginx::response_read(tgid) } else { RESPONSE_UNKNOWN };
    let Some(mut entry) = emit::reserve::<Closed>(program) else { return 0 };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::CLOSED, program);
    // SAFETY: the slot is ours until submitted; every field is written.
    unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).socket).write(*socket);
        (&raw mut (*slot).live).write(read::live(sk, old, &traffic));
        (&raw mut (*slot).response).write(response);
        (&raw mut (*slot).reserved).write(0);
    }
    emit::submit(entry);
    1
}

/// Was this process's last complaint about a socket that could not be told? Then this close is what it was about.
#[inline(always)]
fn take_unbound_complaint(tgid: u32) -> bool {
    // SAFETY: a live map entry.
    let last = LAST_UNBOUND.get_ptr(0).map_or(0, |last| unsafe { *last });
    // SAFETY: no arguments, no effects.
    if last == 0 || unsafe { bpf_ktime_get_ns() } > last + UNBOUND_MEMORY_NS {
        return false;
    }
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else { return false };
    // SAFETY: a live map entry, written only in its process's context, which this is.
    unsafe {
        let unbound = (*process).complained_unbound != 0;
        (*process).complained_unbound = 0;
        unbound
    }
}

pub(super) fn upstream_key(socket: &Socket) -> UpstreamKey {
    UpstreamKey { address: socket.remote_address, port: socket.remote_port, reserved: 0, netns: socket.netns }
}

#[inline(always)]
fn count(key: &UpstreamKey, change: impl FnOnce(&mut UpstreamCounts)) {
    if let Some(counts) = UPSTREAMS.get_ptr_mut(key) {
        // SAFETY: this CPU's entry of a live map.
        change(unsafe { &mut *counts });
        return;
    }
    new_upstream(key);
    if let Some(counts) = UPSTREAMS.get_ptr_mut(key) {
        // SAFETY: as above.
        change(unsafe { &mut *counts });
    }
}

#[inline(never)]
fn new_upstream(key: &UpstreamKey) -> i32 {
    // In .rodata: on the stack it would take half of it.
    static EMPTY: UpstreamCounts =
        UpstreamCounts { connects: 0, established: 0, connect_latency: [0; LATENCY_CLASSES] };
    if UPSTREAMS.insert(key, &EMPTY, u64::from(BPF_NOEXIST)).is_err() && UPSTREAMS.get_ptr(key).is_none() {
        emit::lost(Program::SetState, Reason::MapFull);
    }
    0
}

/// Position of the highest bit, at most the last latency class.
#[inline(always)]
fn log2(value: u64) -> usize {
    let highest = (u64::BITS - 1 - (value | 1).leading_zeros()) as usize;
    if highest < LATENCY_CLASSES { highest } else { LATENCY_CLASSES - 1 }
}
