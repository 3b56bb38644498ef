//! Packets that the kernel drops for a reason that has to do with the network: firewall, routes, filters.
//!
//! Hook: raw tracepoint `skb:kfree_skb`, `(struct sk_buff *, void *location[, enum skb_drop_reason[, struct sock *]])`,
//! from 5.17 on with the reason. Where there is none, the function that drops tells: `location` is in its code.
//! Context: any. Cost: some comparisons per packet freed on the host, hence user space takes it away where many are, but while
//! traced connections have to send things again, or are refused.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::{
    address::{is_loopback, mapped},
    drop::{AT_PLACE, DROP_PLACES, DropKey, Dropped},
    passing,
    settings::ABSENT,
};

use super::passed;
use crate::{
    maps::{DROP_CODE, DROPS},
    read,
    settings::setting,
};

const IPPROTO_TCP: u8 = 6;
/// An IPv6 header without extensions.
const IPV6_HEADER: u64 = 40;

#[raw_tracepoint(tracepoint = "kfree_skb")]
pub(crate) fn free_skb(context: RawTracePointContext) -> i32 {
    passed(passing::DROPS);
    let not_specified = setting!(drop_not_specified);
    let reason: u32 = if setting!(drop_has_reason) == 1 { context.arg(2) } else { not_specified };
    if wanted(reason) {
        return dropped(context.arg(0), reason);
    }
    if reason == not_specified
        && let Some(place) = place(context.arg(1))
    {
        return dropped(context.arg(0), AT_PLACE | place);
    }
    0
}

/// The function that the kernel was called from.
#[inline(always)]
fn place(location: u64) -> Option<u32> {
    for place in 0..DROP_PLACES as u32 {
        // User space may be writing it: an end without a beginning is none.
        if let Some([begin, end]) = DROP_CODE.get(place)
            && *begin != 0
            && location >= *begin
            && location < *end
        {
            return Some(place);
        }
    }
    None
}

#[inline(always)]
fn wanted(reason: u32) -> bool {
    let word = match reason >> 6 {
        0 => setting!(drop_reasons[0]),
        1 => setting!(drop_reasons[1]),
        2 => setting!(drop_reasons[2]),
        3 => setting!(drop_reasons[3]),
        _ => 0,
    };
    word >> (reason & 63) & 1 == 1
}

#[inline(never)]
fn dropped(skb: u64, reason: u32) -> i32 {
    let head: u64 = read::kernel(skb, setting!(offsets.skb_head));
    let network = head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_network_header)));
    let first: u8 = read::kernel(network, 0);
    let (protocol, length): (u8, u64) = match first >> 4 {
        4 => (read::kernel(network, 9), u64::from(first & 15) * 4),
        6 => (read::kernel(network, 6), IPV6_HEADER),
        _ => return 0,
    };
    if protocol != IPPROTO_TCP {
        return 0;
    }
    let (source, destination) = if first >> 4 == 4 {
        (mapped(read::kernel(network, 12)), mapped(read::kernel(network, 16)))
    } else {
        (read::kernel(network, 8), read::kernel(network, 24))
    };
    let netns = if is_loopback(destination) { namespace(skb) } else { 0 };
    let key = DropKey {
        source,
        destination,
        source_port: u16::from_be(read::kernel(network + length, 0)),
        destination_port: u16::from_be(read::kernel(network + length, 2)),
        netns,
    };
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut dropped = Dropped { first_ns: now, last_ns: now, reason, count: 1 };
    if let Some(former) = DROPS.get_ptr(key) {
        // SAFETY: a live map entry, read only.
        let former = unsafe { &*former };
        dropped.first_ns = former.first_ns;
        dropped.count = former.count + 1;
    }
    passed(passing::RECORDED);
    // An LRU map: there is always room.
    i32::from(DROPS.insert(key, dropped, 0).is_ok())
}

/// A packet that has just left its socket is at no device yet (ip_output(), net/ipv4/ip_output.c, v6.12, comes after the
/// rules for output).
#[inline(always)]
fn namespace(skb: u64) -> u32 {
    let sk: u64 = if setting!(offsets.skb_sock) == ABSENT { 0 } else { read::kernel(skb, setting!(offsets.skb_sock)) };
    if sk == 0 { read::device_namespace(skb) } else { read::Sock::network_namespace(sk) }
}
