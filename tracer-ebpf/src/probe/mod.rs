//! The probe families, one file each.

mod connect;
mod drop;
mod fate;
mod freeze;
mod icmp;
mod idle;
mod lifecycle;
mod listen;
mod nginx;
mod overflow;
mod peer;
mod process;
mod reset;
mod retransmit;
mod ttl;
mod unix;

use crate::maps::PASSED;

/// Counts what passes by this program: [`tracer_common::passing`].
#[inline(always)]
fn passed(program: u32) {
    if let Some(count) = PASSED.get_ptr_mut(program) {
        // SAFETY: a live map entry, of this processor; one that is interrupted here may count one less.
        unsafe { *count += 1 };
    }
}
