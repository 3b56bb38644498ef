//! Listeners that drop connections: judged by backlog over limit at the moment something went unanswered.
//!
//! Hook: fentry, or else kprobe, at `tcp_conn_request(rsk_ops, af_ops, struct sock *listener, skb)`; raw tracepoint
//! `tcp:tcp_retransmit_synack`, `(const struct sock *listener, const struct request_sock *)`; both 5.10 and later; `retransmit`
//! and `reset` ask as well. Context: softirq. Cost: three reads per SYN that arrives, where there is fentry; else nothing
//! unless segments are sent again.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_common::{
    address::mapped,
    hooked::CONN_REQUEST,
    listener::{ListenerKey, Overflowed},
    socket::{ACCEPT_QUEUE_FULL, SYN_QUEUE_FULL, Socket},
    tcp_state::{ESTABLISHED, LISTEN, SYN_SENT},
};

use super::listen;
use crate::{
    maps::{LISTENERS, OVERFLOWS, hooked},
    read::{self, Sock},
    settings::setting,
};

#[fentry(function = "tcp_conn_request")]
pub(crate) fn conn_request(context: FEntryContext) -> i32 {
    requested(context.arg(2))
}

#[kprobe]
pub(crate) fn conn_request_kprobe(context: ProbeContext) -> u32 {
    requested(context.arg(2).unwrap_or(0)).cast_unsigned()
}

/// A SYN arrives at a listener whose accept queue is over its limit: the kernel drops it (tcp_conn_request(),
/// net/ipv4/tcp_input.c). To a full SYN queue it may answer with a cookie: that is no loss.
#[inline(always)]
fn requested(listener: u64) -> i32 {
    if fullness(listener) & ACCEPT_QUEUE_FULL == 0 { 0 } else { note(listener, ACCEPT_QUEUE_FULL) }
}

/// The listener sends its SYN-ACK again: the final ACK did not come, or was dropped.
#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
pub(crate) fn retransmit_synack(context: RawTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    if fullness(sk) & ACCEPT_QUEUE_FULL != 0 {
        note(sk, ACCEPT_QUEUE_FULL);
    }
    0
}

/// A RST answers a segment that arrived at a listener; 1: because its accept queue is over its limit.
#[inline(always)]
pub(super) fn answered_with_reset(sk: u64) -> u32 {
    if read::kernel::<u8>(sk, setting!(offsets.sock_state)) != LISTEN || fullness(sk) & ACCEPT_QUEUE_FULL == 0 {
        return 0;
    }
    note(sk, ACCEPT_QUEUE_FULL);
    1
}

/// A traced connection sends something again: its SYN, or what should have completed the handshake at the other end.
#[inline(never)]
pub(super) fn unanswered(sk: u64, socket: &mut Socket) -> i32 {
    let state: u8 = read::kernel(sk, setting!(offsets.sock_state));
    // The SYN counts one in bytes_acked: with no more than that, the listener has no child for this connection yet.
    if state != SYN_SENT && !(state == ESTABLISHED && read::kernel::<u64>(sk, setting!(offsets.tcp_bytes_acked)) <= 1) {
        return 0;
    }
    let mut key =
        ListenerKey { address: socket.remote_address, port: socket.remote_port, reserved: 0, netns: socket.netns };
    let mut listener = live(&key);
    if listener == 0 {
        key.address = if socket.family == read::AF_INET { mapped(0) } else { [0; 2] };
        listener = live(&key);
    }
    if listener == 0 {
        key.address = [0; 2];
        listener = live(&key);
    }
    if listener == 0 {
        return 0;
    }
    let full = fullness(listener);
    if full != 0 {
        socket.flags |= full;
        // Else the SYN itself was counted when it arrived.
        if state != SYN_SENT || full & ACCEPT_QUEUE_FULL == 0 || !hooked(CONN_REQUEST) {
            note(listener, full);
        }
    }
    0
}

/// The one listener at this place; 0: none, or one of several.
#[inline(always)]
fn live(key: &ListenerKey) -> u64 {
    let Some(listening) = LISTENERS.get_ptr(key) else { return 0 };
    // SAFETY: a live map entry, read only.
    let listening = unsafe { &*listening };
    let sk = listening.sk;
    let same = listening.sockets == 1
        && read::kernel::<u8>(sk, setting!(offsets.sock_state)) == LISTEN
        && read::local_port(sk) == key.port
        && sk.network_namespace() == key.netns;
    if same { sk } else { 0 }
}

/// Which queue is over its limit: sk_acceptq_is_full() in include/net/sock.h, inet_csk_reqsk_queue_is_full() in
/// include/net/inet_connection_sock.h.
#[inline(always)]
fn fullness(listener: u64) -> u32 {
    let queued: u32 = read::kernel(listener, setting!(offsets.sock_ack_backlog));
    let limit: u32 = read::kernel(listener, setting!(offsets.sock_max_ack_backlog));
    let half_open: u32 = read::kernel(listener, setting!(offsets.request_queue_length));
    if queued > limit {
        ACCEPT_QUEUE_FULL
    } else if half_open > limit {
        SYN_QUEUE_FULL
    } else {
        0
    }
}

/// Counts it with its listener.
#[inline(never)]
fn note(listener: u64, full: u32) -> i32 {
    let family: u16 = read::kernel(listener, setting!(offsets.sock_family));
    let key = listen::key(listener, family);
    if OVERFLOWS.get_ptr(&key).is_none() {
        static NONE: Overflowed =
            Overflowed { last_ns: 0, accept: 0, syn: 0, queued: 0, limit: 0, half_open: 0, reserved: 0 };
        // An LRU map: there is always room.
        let _ = OVERFLOWS.insert(&key, &NONE, 0);
    }
    let Some(seen) = OVERFLOWS.get_ptr_mut(&key) else { return 0 };
    // SAFETY: a live map entry; CPUs that count at the same moment may lose one.
    let seen = unsafe { &mut *seen };
    if full & ACCEPT_QUEUE_FULL != 0 {
        seen.accept += 1;
    } else {
        seen.syn += 1;
    }
    // SAFETY: no arguments, no effects.
    seen.last_ns = unsafe { bpf_ktime_get_ns() };
    seen.queued = read::kernel(listener, setting!(offsets.sock_ack_backlog));
    seen.limit = read::kernel(listener, setting!(offsets.sock_max_ack_backlog));
    seen.half_open = read::kernel(listener, setting!(offsets.request_queue_length));
    1
}
