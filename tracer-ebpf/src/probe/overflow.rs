//! Listeners that drop connections: judged by backlog over limit at the moment something went unanswered.
//!
//! Hook: fentry, or else kprobe, at `tcp_conn_request(rsk_ops, af_ops, struct sock *listener, skb)`; raw tracepoint
//! `tcp:tcp_retransmit_synack`, `(const struct sock *listener, const struct request_sock *)`; both 5.10 and later; `retransmit`
//! and `reset` ask as well. Context: softirq. Cost: three reads per SYN that arrives, where there is fentry; else nothing
//! unless segments are sent again.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::bpf_ktime_get_ns,
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_common::{
    address::{is_loopback, mapped},
    hooked::CONN_REQUEST,
    listener::{ListenerKey, Overflowed},
    settings::ABSENT,
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

/// A SYN arrives that the kernel will drop, for one of the reasons of tcp_conn_request(), net/ipv4/tcp_input.c.
#[inline(always)]
fn requested(listener: u64) -> i32 {
    let mut queues = Queues::of(listener);
    if queues.half_open > 0 && queues.syn_is_full(listener, false) {
        return note(listener, SYN_QUEUE_FULL, &queues);
    }
    if queues.accept_is_full() { note(listener, ACCEPT_QUEUE_FULL, &queues) } else { 0 }
}

/// The listener sends its SYN-ACK again: the final ACK did not come, or was dropped.
#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
pub(crate) fn retransmit_synack(context: RawTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    let queues = Queues::of(sk);
    if queues.accept_is_full() { note(sk, ACCEPT_QUEUE_FULL, &queues) } else { 0 }
}

/// A RST answers a segment that arrived at a listener; 1: because its accept queue is over its limit.
#[inline(always)]
pub(super) fn answered_with_reset(sk: u64) -> u32 {
    if read::kernel::<u8>(sk, setting!(offsets.sock_state)) != LISTEN {
        return 0;
    }
    let queues = Queues::of(sk);
    if !queues.accept_is_full() {
        return 0;
    }
    note(sk, ACCEPT_QUEUE_FULL, &queues);
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
    // A listener for all addresses has nothing to do with another host's. To one of its own this host comes from the same address,
    // unless nginx was told to come from another (`proxy_bind`): that is not followed.
    read::local(socket, sk);
    if listener == 0 && !is_loopback(socket.remote_address) && socket.local_address != socket.remote_address {
        return 0;
    }
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
    let mut queues = Queues::of(listener);
    let full = if queues.accept_is_full() {
        ACCEPT_QUEUE_FULL
    } else if state == SYN_SENT && queues.syn_is_full(listener, true) {
        SYN_QUEUE_FULL
    } else {
        return 0;
    };
    socket.flags |= full;
    // Else the SYN itself was counted when it arrived.
    if full == SYN_QUEUE_FULL || state != SYN_SENT || !hooked(CONN_REQUEST) {
        note(listener, full, &queues);
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

/// The queues of a listener at one moment.
struct Queues {
    queued: u32,
    half_open: u32,
    /// Of the accept queue; and of the SYN queue, unless the host's is less.
    limit: u32,
}

impl Queues {
    #[inline(always)]
    fn of(listener: u64) -> Self {
        Self {
            queued: read::kernel(listener, setting!(offsets.sock_ack_backlog)),
            half_open: read::kernel(listener, setting!(offsets.request_queue_length)),
            limit: read::kernel(listener, setting!(offsets.sock_max_ack_backlog)),
        }
    }

    /// sk_acceptq_is_full(), include/net/sock.h.
    #[inline(always)]
    fn accept_is_full(&self) -> bool {
        self.queued > self.limit
    }

    /// inet_csk_reqsk_queue_is_full(), include/net/inet_connection_sock.h: at its limit or above, from one patch level of a
    /// kernel to the next; the former counts only for a SYN that went `unanswered`. Of the host's limit a quarter is left for
    /// peers that it knows.
    #[inline(always)]
    fn syn_is_full(&mut self, listener: u64, unanswered: bool) -> bool {
        if self.half_open == 0 || answers_with_cookies(listener) {
            return false;
        }
        let host: u32 = read::kernel(network(listener), setting!(offsets.net_max_syn_backlog));
        let most = host - (host >> 2);
        if host != 0 && most < self.limit {
            self.limit = most;
            return self.half_open > most;
        }
        self.half_open > self.limit || unanswered && self.half_open == self.limit
    }
}

/// net.ipv4.tcp_syncookies: a SYN that does not fit is answered all the same. Where it cannot be read, it is the default.
#[inline(always)]
fn answers_with_cookies(listener: u64) -> bool {
    setting!(offsets.net_syncookies) == ABSENT
        || read::kernel::<u8>(network(listener), setting!(offsets.net_syncookies)) != 0
}

/// Its `struct net`.
#[inline(always)]
fn network(listener: u64) -> u64 {
    read::kernel(listener, setting!(offsets.sock_net))
}

/// Counts it with its listener.
#[inline(never)]
fn note(listener: u64, full: u32, queues: &Queues) -> i32 {
    let family: u16 = read::kernel(listener, setting!(offsets.sock_family));
    let key = listen::key(listener, family);
    if OVERFLOWS.get_ptr(&key).is_none() {
        static NONE: Overflowed = Overflowed {
            last_ns: 0,
            accept: 0,
            syn: 0,
            queued: 0,
            limit: 0,
            half_open: 0,
            half_open_limit: 0,
            somaxconn: 0,
            reserved: 0,
        };
        // An LRU map: there is always room. Another processor may have been faster.
        let _ = OVERFLOWS.insert(&key, &NONE, u64::from(BPF_NOEXIST));
    }
    let Some(seen) = OVERFLOWS.get_ptr_mut(&key) else { return 0 };
    // SAFETY: this processor's value of a live map entry.
    let seen = unsafe { &mut *seen };
    if full & ACCEPT_QUEUE_FULL != 0 {
        seen.accept += 1;
        (seen.queued, seen.limit) = (queues.queued, queues.limit);
    } else {
        seen.syn += 1;
        (seen.half_open, seen.half_open_limit) = (queues.half_open, queues.limit);
    }
    seen.somaxconn = read::kernel(network(listener), setting!(offsets.net_somaxconn));
    // SAFETY: no arguments, no effects.
    seen.last_ns = unsafe { bpf_ktime_get_ns() };
    1
}
