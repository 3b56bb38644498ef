//! ICMP errors about TCP segments that this host sent.
//!
//! Hook: fentry, or else kprobe, at `tcp_v4_err(skb, info)` and `tcp_v6_err(skb, opt, type, code, offset, info)`, 5.10 and
//! later where the kernel has either. Context: softirq. Cost: nothing but for such an error.
//! `skb->data` is at the header of the segment that the error is about (icmp_unreach(), net/ipv4/icmp.c; icmpv6_notify(),
//! net/ipv6/icmp.c).

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::{
    address::{is_loopback, mapped},
    drop::DropKey,
    icmp::IcmpError,
};

use crate::{maps::ICMP, read, settings::setting};

#[fentry(function = "tcp_v4_err")]
pub(crate) fn icmp_error(context: FEntryContext) -> i32 {
    about_v4(context.arg(0))
}

#[kprobe]
pub(crate) fn icmp_error_kprobe(context: ProbeContext) -> u32 {
    about_v4(context.arg(0).unwrap_or(0)).cast_unsigned()
}

#[fentry(function = "tcp_v6_err")]
pub(crate) fn icmp6_error(context: FEntryContext) -> i32 {
    about_v6(context.arg(0), context.arg::<i32>(4).cast_unsigned())
}

#[kprobe]
pub(crate) fn icmp6_error_kprobe(context: ProbeContext) -> u32 {
    about_v6(context.arg(0).unwrap_or(0), context.arg::<i32>(4).unwrap_or(0).cast_unsigned()).cast_unsigned()
}

#[inline(always)]
fn about_v4(skb: u64) -> i32 {
    let inner: u64 = read::kernel(skb, setting!(offsets.skb_data));
    let header = u64::from(read::kernel::<u8>(inner, 0) & 15) * 4;
    let ends = (mapped(read::kernel(inner, 12)), mapped(read::kernel(inner, 16)));
    let sender = mapped(read::kernel(network_header(skb), 12));
    note(skb, ends, inner + header, sender, 4)
}

#[inline(always)]
fn about_v6(skb: u64, offset: u32) -> i32 {
    let inner: u64 = read::kernel(skb, setting!(offsets.skb_data));
    let ends = (read::kernel(inner, 8), read::kernel(inner, 24));
    let sender = read::kernel(network_header(skb), 8);
    note(skb, ends, inner + u64::from(offset), sender, 6)
}

#[inline(always)]
fn network_header(skb: u64) -> u64 {
    let head: u64 = read::kernel(skb, setting!(offsets.skb_head));
    head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_network_header)))
}

#[inline(always)]
fn note(skb: u64, (source, destination): ([u64; 2], [u64; 2]), ports: u64, sender: [u64; 2], version: u8) -> i32 {
    let head: u64 = read::kernel(skb, setting!(offsets.skb_head));
    let message = head + u64::from(read::kernel::<u16>(skb, setting!(offsets.skb_transport_header)));
    let key = DropKey {
        source,
        destination,
        source_port: u16::from_be(read::kernel(ports, 0)),
        destination_port: u16::from_be(read::kernel(ports, 2)),
        netns: if is_loopback(destination) { read::device_namespace(skb) } else { 0 },
    };
    let error = IcmpError {
        // SAFETY: no arguments, no effects.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sender,
        kind: read::kernel(message, 0),
        code: read::kernel(message, 1),
        version,
        reserved: [0; 5],
    };
    // An LRU map: there is always room.
    i32::from(ICMP.insert(key, error, 0).is_ok())
}
