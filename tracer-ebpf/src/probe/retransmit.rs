//! SYN retransmits: `tcp:tcp_retransmit_skb`.
//!
//! Hook: raw tracepoint, `(const struct sock *, const struct sk_buff *[, int err])`, 5.10 and later.
//! Context: timer softirq. Silent before 6.18 when the segment could not be sent; `tcp_sock.total_retrans`, read at the
//! end of the attempt, counts those that were.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};

use super::overflow;
use crate::maps::{LAST_RETRANSMIT, SOCKETS};

#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub(crate) fn retransmit_skb(context: RawTracePointContext) -> i32 {
    let sk: u64 = context.arg(0);
    if let Some(socket) = SOCKETS.get_ptr_mut(sk) {
        // SAFETY: a live map entry; the timer holds the socket's lock.
        let socket = unsafe { &mut *socket };
        socket.retransmits += 1;
        // SAFETY: no arguments, no effects.
        socket.last_retransmit_ns = unsafe { bpf_ktime_get_ns() };
        if let Some(last) = LAST_RETRANSMIT.get_ptr_mut(0) {
            // SAFETY: a live map entry; any of several writers will do.
            unsafe { *last = socket.last_retransmit_ns };
        }
        overflow::unanswered(sk, socket);
    }
    0
}
