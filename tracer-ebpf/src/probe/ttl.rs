//! How far an upstream's segments have come, by the time to live that is left to them: a RST that another host on the way sends has
//! often come less far than the answers.
//!
//! Hook: raw tracepoint `tcp:tcp_probe`, `(struct sock *, struct sk_buff *)`, 4.16 and later: at the beginning of
//! tcp_rcv_established(), net/ipv4/tcp_input.c, so that RSTs that refuse are not among them, nor those after a FIN.
//! Context: softirq, or backlog. Cost: a map look-up for each segment that any connection of the host receives, hence user space
//! takes it away where there are many, but while other hosts reset traced connections.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::{
    address::is_loopback,
    drop::DropKey,
    passing,
    socket::Socket,
    ttl::{Ttls, UpstreamTtl},
};

use super::{lifecycle::upstream_key, passed};
use crate::{
    maps::{SOCKETS, TTLS, UPSTREAM_TTL},
    read,
    settings::setting,
};

/// RST among the flags in the 14th octet of a TCP header.
const RST: u8 = 4;
/// Routes change: what came longer ago says nothing of now.
const MEMORY_NS: u64 = 600_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;
const NOTHING: UpstreamTtl = UpstreamTtl { time_ns: 0, ttl: 0 };

#[raw_tracepoint(tracepoint = "tcp_probe")]
pub(crate) fn segment(context: RawTracePointContext) -> i32 {
    passed(passing::SEGMENTS);
    let sk: u64 = context.arg(0);
    let Some(socket) = SOCKETS.get_ptr(sk) else { return 0 };
    // SAFETY: a live map entry, of which what never changes is read.
    let socket = unsafe { &*socket };
    if is_loopback(socket.remote_address) {
        return 0;
    }
    received(sk, socket, context.arg(1))
}

#[inline(never)]
fn received(sk: u64, socket: &Socket, skb: u64) -> i32 {
    let head: u64 = read::kernel(skb, setting!(offsets.skb_head));
    let network = head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_network_header)));
    let transport = head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_transport_header)));
    let start: [u8; 9] = read::kernel(network, 0);
    let ttl = match start[0] >> 4 {
        4 => start[8],
        6 => start[7],
        _ => return 0,
    };
    let flags: u8 = read::kernel(transport, 13);
    let key = DropKey {
        source: socket.remote_address,
        destination: read::local_address(sk, socket.family),
        source_port: socket.remote_port,
        destination_port: read::local_port(sk),
        netns: 0,
    };
    let new = Ttls { started_ns: socket.started_ns, ..Ttls::default() };
    // SAFETY: a live map entry, which is copied.
    let before = TTLS.get_ptr(key).map_or(new, |ttls| unsafe { *ttls });
    // The same addresses and ports may have served another before.
    let before = if before.started_ns == new.started_ns { before } else { new };
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_ktime_get_ns() };
    let minute = (now / MINUTE_NS) as u8;
    let ttls = if flags & RST != 0 {
        let reset_ns = now;
        // SAFETY: a live map entry, which is copied.
        let seen = UPSTREAM_TTL.get_ptr(upstream_key(socket)).map_or(NOTHING, |seen| unsafe { *seen });
        let elsewhere = if reset_ns.wrapping_sub(seen.time_ns) < MEMORY_NS { seen.ttl as u8 } else { 0 };
        Ttls { reset_ns, reset: ttl, elsewhere, ..before }
    } else if before.answer == ttl && before.reset == 0 && before.minute == minute {
        return 0;
    } else {
        let seen = UpstreamTtl { time_ns: now, ttl: u64::from(ttl) };
        let _ = UPSTREAM_TTL.insert(upstream_key(socket), seen, 0);
        // What came after a RST shows that it was none of this connection's.
        Ttls { answer: ttl, minute, ..new }
    };
    // An LRU map: there is always room.
    i32::from(TTLS.insert(key, ttls, 0).is_ok())
}
