//! Resets: `tcp:tcp_receive_reset` and `tcp:tcp_send_reset`.
//!
//! Hook: raw tracepoints, `(struct sock *)` and `(const struct sock * or NULL, const struct sk_buff * or NULL[,
//! enum sk_rst_reason])`, 5.10 and later; the reason, and calls without a socket, from 6.10 on. Before, those are seen by
//! fentry, or else kprobe, at `tcp_v4_send_reset(sk, skb)` and `tcp_v6_send_reset(sk, skb)`.
//! Context: receive in softirq or backlog; send in the closing process when a close sends it, else softirq.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_common::{
    address::{is_loopback, mapped},
    reset::{ANSWER, QUEUE_FULL, ResetKey, ResetSent, ResetSlot},
    settings::ABSENT,
    socket::{NO_REASON, NO_SOCKET, RESET_RECEIVED, RESET_SENT},
    tcp_state::{CLOSE, LISTEN, NEW_SYN_RECV, TIME_WAIT},
};

use super::{overflow, peer};
use crate::{
    maps::{CLOSERS, RESETS, SOCKETS},
    read::{self, Sock},
    settings::setting,
};

/// `transport_header` of an skb whose transport header was never set, include/linux/skbuff.h.
const NO_TRANSPORT_HEADER: u16 = u16::MAX;
/// A listener's close resets all that waits in its queue: thousands, on a processor's time that may be rationed.
const LISTEN_STOP_NS: u64 = 30_000_000_000;

#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub(crate) fn receive_reset(context: RawTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    if let Some(socket) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a live map entry; the socket's lock is held by the receive path.
        let socket = unsafe { &mut *socket };
        socket.flags |= RESET_RECEIVED;
        socket.reset_state = read::kernel(sk, setting!(offsets.sock_state));
    }
    0
}

#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub(crate) fn send_reset(context: RawTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    let skb: u64 = context.arg(1);
    let reason = if setting!(reset_has_reason) == 1 { context.arg::<u32>(2) } else { NO_REASON };
    if sk != 0
        && let Some(socket) = SOCKETS.get_ptr_mut(sk)
    {
        // SAFETY: a live map entry, written under the socket's lock.
        unsafe { (*socket).flags |= RESET_SENT };
        return 0;
    }
    let queue_full = sk != 0 && skb != 0 && overflow::answered_with_reset(sk) == 1;
    let flags = if queue_full { QUEUE_FULL } else { 0 };
    if remember(sk, skb, reason, flags) == BY_CLOSE {
        // What waits in an accept queue is reset without a close of its own.
        peer::reset(sk);
    }
    0
}

#[fentry(function = "tcp_v4_send_reset")]
pub(crate) fn refuse(context: FEntryContext) -> i32 {
    without_socket(context.arg(0), context.arg(1)).cast_signed()
}

#[kprobe]
pub(crate) fn refuse_kprobe(context: ProbeContext) -> u32 {
    without_socket(context.arg(0).unwrap_or(1), context.arg(1).unwrap_or(0))
}

#[fentry(function = "tcp_v6_send_reset")]
pub(crate) fn refuse6(context: FEntryContext) -> i32 {
    without_socket(context.arg(0), context.arg(1)).cast_signed()
}

#[kprobe]
pub(crate) fn refuse6_kprobe(context: ProbeContext) -> u32 {
    without_socket(context.arg(0).unwrap_or(1), context.arg(1).unwrap_or(0))
}

/// A segment is answered for which there is no socket any more; of the others the tracepoint tells.
#[inline(always)]
fn without_socket(sk: u64, skb: u64) -> u32 {
    if skb == 0 {
        return 0;
    }
    if sk == 0 {
        return remember(0, skb, NO_SOCKET, 0);
    }
    if is_whole(sk) { 0 } else { remember(sk, skb, NO_REASON, 0) }
}

/// A `struct sock`, and not one of the small ones that stand for it: those begin with the same `struct sock_common` and have nothing of
/// what follows it (sk_fullsock(), include/net/sock.h).
#[inline(always)]
fn is_whole(sk: u64) -> bool {
    let state: u8 = read::kernel(sk, setting!(offsets.sock_state));
    state != TIME_WAIT && state != NEW_SYN_RECV
}

/// A process closes or disconnects it: it has locked the socket then (lock_sock(), in close(2), connect(2) to nothing, and
/// `ss --kill`), or it closes the listener that had not handed it out yet (inet_csk_listen_stop(), which has set TCP_CLOSE). Who holds the
/// spinlock alone may be anything that a softirq interrupts: a timer's (keepalive probes that are not answered, FIN_WAIT2; they set the state
/// afterwards), or the last segment of a handshake with a listener that has just gone (inet_csk_reqsk_queue_add()). The kernel's own
/// threads close for others.
#[inline(always)]
fn by_process(sk: u64) -> bool {
    if peer::is_kernel_thread() {
        return false;
    }
    let owned = setting!(offsets.sock_owned);
    if owned == ABSENT || read::kernel::<u32>(sk, owned) != 0 {
        return true;
    }
    let thread = bpf_get_current_pid_tgid() as u32;
    // SAFETY: no arguments, no effects; a live map entry, read only.
    let stops = |closed: *const u64| unsafe { bpf_ktime_get_ns() - *closed } < LISTEN_STOP_NS;
    read::kernel::<u8>(sk, setting!(offsets.sock_state)) == CLOSE && CLOSERS.get_ptr(thread).is_some_and(stops)
}

/// A process's own close sent the RST.
const BY_CLOSE: u32 = 1;

/// Remembers the RST for its receiver. A frame of its own: the kernel counts the stack of all callers together.
#[inline(never)]
fn remember(sk: u64, skb: u64, reason: u32, flags: u32) -> u32 {
    let Some((key, answers, netns)) = receiver(sk, skb) else { return 0 };
    let by_close = !answers && by_process(sk);
    let mut sent = ResetSent {
        // SAFETY: no arguments, no effects.
        time_ns: unsafe { bpf_ktime_get_ns() },
        reason,
        tgid: 0,
        comm: [0; 2],
        flags: flags | if answers { ANSWER } else { 0 },
        netns,
    };
    if by_close {
        sent.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        sent.comm = read::current_comm();
    }
    put(&key, &sent);
    u32::from(by_close)
}

/// Into the older place of its pair; an earlier one of the same ports goes.
#[inline(always)]
fn put(key: &ResetKey, sent: &ResetSent) {
    let pair = 2 * ResetKey::pair(key.local_port);
    let (Some(first), Some(second)) = (RESETS.get_ptr_mut(pair), RESETS.get_ptr_mut(pair + 1)) else {
        return;
    };
    // SAFETY: live entries of an array; what another processor writes at the same time shows in `check`.
    unsafe {
        let same = |slot: *mut ResetSlot| {
            let (local, remote) = ((key.local_address, key.local_port), (key.remote_address, key.remote_port));
            (*slot).key.is(local, remote, key.netns)
        };
        let older = (*first).sent.time_ns <= (*second).sent.time_ns;
        let slot = if same(first) || (older && !same(second)) { first } else { second };
        (*slot).key = *key;
        (*slot).sent = *sent;
        (*slot).check = ResetSlot::sum(key, sent);
    }
}

/// The connection as the receiver of the RST sees it, whether a segment is answered with it, and the sender's network namespace.
#[inline(always)]
fn receiver(sk: u64, skb: u64) -> Option<(ResetKey, bool, u32)> {
    let header: u16 =
        if skb == 0 { NO_TRANSPORT_HEADER } else { read::kernel(skb, setting!(offsets.skb_transport_header)) };
    if sk != 0 && is_whole(sk) && read::kernel::<u8>(sk, setting!(offsets.sock_state)) != LISTEN {
        let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
        let remote_address = read::local_address(sk, family);
        let netns = sk.network_namespace();
        let key = ResetKey {
            local_address: read::remote_address(sk, family),
            remote_address,
            local_port: read::remote_port(sk),
            remote_port: read::local_port(sk),
            netns: if is_loopback(remote_address) { netns } else { 0 },
        };
        return Some((key, header != NO_TRANSPORT_HEADER, netns));
    }
    if header == NO_TRANSPORT_HEADER {
        return None;
    }
    // The segment that is being answered: its source is the receiver of the RST.
    let head: u64 = read::kernel(skb, setting!(offsets.skb_head));
    let network = head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_network_header)));
    let transport = head + u64::from(header);
    // An IPv4 header without options and the ports behind it, in one read: each costs the same, however short it is.
    let [first, _, _, from, to, ports]: [u32; 6] = read::kernel(network, 0);
    let (source, destination) = match first.to_ne_bytes()[0] >> 4 {
        4 => (mapped(from), mapped(to)),
        6 => {
            let [a, b, c, d]: [u64; 4] = read::kernel(network, 8);
            ([a, b], [c, d])
        }
        _ => return None,
    };
    let ports: u32 = if transport == network + 20 { ports } else { read::kernel(transport, 0) };
    let [a, b, c, d] = ports.to_ne_bytes();
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let netns = if sk != 0 { sk.network_namespace() } else { read::device_namespace(skb) };
    let key = ResetKey {
        local_address: source,
        remote_address: destination,
        local_port: source_port,
        remote_port: destination_port,
        netns: if is_loopback(destination) { netns } else { 0 },
    };
    Some((key, true, netns))
}
