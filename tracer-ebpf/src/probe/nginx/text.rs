//! Text of the current process.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{helpers::generated, programs::ProbeContext};
use tracer_common::event::complaint::{LITERAL_LEN, TEXT_LEN};

use crate::read;

/// vm.mmap_min_addr of every distribution: no user address is lower.
const LOWEST_ADDRESS: u64 = 65_536;

/// A C string of the current process, cut to `capacity`.
#[inline(always)]
pub(super) fn string(address: u64, into: *mut u8, capacity: usize) {
    if address != 0 {
        // SAFETY: `into` has room for `capacity` bytes; the helper checks the source.
        unsafe { generated::bpf_probe_read_user_str(into.cast(), capacity as u32, address as *const c_void) };
    }
}

/// An `ngx_str_t` of the current process, NUL terminated; a longer one is cut.
#[inline(always)]
pub(super) fn ngx_str(address: u64, into: *mut u8, capacity: usize) {
    let mut words = MaybeUninit::uninit();
    let [length, data] = *read::words(&mut words, address, 0);
    copy(data, length, into, capacity as u64 - 1);
}

/// The text argument: length and address of `"%*s"`, else an `ngx_str_t` for `%V`; told apart by the first being too small
/// for an address, since the literal itself may not be readable yet. Where the literal takes neither, what is copied means
/// nothing, and user space does not look at it.
#[inline(always)]
pub(super) fn text(context: &ProbeContext, into: *mut u8) {
    let first: u64 = context.arg(4).unwrap_or(0);
    let second: u64 = context.arg(5).unwrap_or(0);
    if first < LOWEST_ADDRESS {
        copy(second, first, into, TEXT_LEN as u64 - 1);
    } else {
        ngx_str(first, into, TEXT_LEN);
    }
}

/// Is there a `%`? What stands behind the literal's end may have one too: then arguments are read that are none, which
/// costs a microsecond and harms nobody. A literal that could not be read may have one.
#[inline(always)]
pub(super) unsafe fn takes_arguments(literal: *const [u8; LITERAL_LEN]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    let words = literal.cast::<u64>();
    let mut found = 0;
    for index in 0..LITERAL_LEN / 8 {
        // SAFETY: the caller's literal, 8-aligned.
        let other = unsafe { *words.add(index) } ^ (ONES * u64::from(b'%'));
        found |= other.wrapping_sub(ONES) & !other & (ONES << 7);
    }
    // SAFETY: as above.
    found != 0 || unsafe { *words } as u8 == 0
}

/// Copies at most `room` of `length` bytes of the current process, and a NUL.
#[inline(never)]
pub(super) fn copy(address: u64, length: u64, into: *mut u8, room: u64) -> u32 {
    if into.is_null() {
        return 0;
    }
    let length = if length < room { length } else { room };
    // SAFETY: the caller's array has room + 1 bytes; the helper checks the source, and zeroes the destination when it
    // fails.
    unsafe {
        generated::bpf_probe_read_user(into.cast(), length as u32, address as *const c_void);
        *into.add(length as usize) = 0;
    }
    0
}
