//! Idle connections that their upstream closes: after how long.
//!
//! Hook: none of its own; asked by `lifecycle` when a FIN or RST ends a traced connection. Context: softirq. Cost: two
//! comparisons per connection that was not idle.

use aya_ebpf::bindings::BPF_NOEXIST;
use tracer_common::{
    socket::Socket,
    upstream::{IDLE_CLASSES, IdleCloses},
};

use super::lifecycle::upstream_key;
use crate::maps::IDLE;

/// A connection that was used so shortly before was not closed for being idle: 25 ms to 250 ms, as HZ has it.
const IDLE_JIFFIES: u32 = 25;

/// The upstream ended a connection on which nothing was outstanding, so long after its last payload.
#[inline(always)]
pub(super) fn ended(socket: &Socket, idle_jiffies: u32) {
    if idle_jiffies >= IDLE_JIFFIES {
        count(socket, idle_jiffies);
    }
}

#[inline(never)]
fn count(socket: &Socket, idle_jiffies: u32) -> i32 {
    // In .rodata: on the stack it would be too big.
    static NONE: IdleCloses = IdleCloses { jiffies: [0; IDLE_CLASSES], closes: [0; IDLE_CLASSES] };
    let key = upstream_key(socket);
    if IDLE.get_ptr(key).is_none() {
        // Without room the upstream stays without a number.
        let _ = IDLE.insert(key, &NONE, u64::from(BPF_NOEXIST));
    }
    let Some(closes) = IDLE.get_ptr_mut(key) else { return 0 };
    let class = class(idle_jiffies);
    // SAFETY: this CPU's entry of a live map.
    let closes = unsafe { &mut *closes };
    if let (Some(jiffies), Some(count)) = (closes.jiffies.get_mut(class), closes.closes.get_mut(class)) {
        *jiffies += u64::from(idle_jiffies);
        *count += 1;
    }
    1
}

/// Highest bit, and the two below it. At least [`IDLE_JIFFIES`].
#[inline(always)]
fn class(jiffies: u32) -> usize {
    let mut highest = 2;
    for bit in 3..32 {
        if jiffies >> bit != 0 {
            highest = bit;
        }
    }
    (highest * 4 + (jiffies >> (highest - 2) & 3)) as usize
}
