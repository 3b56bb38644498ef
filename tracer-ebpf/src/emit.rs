//! Getting an event out, and counting what could not be delivered.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{
    event::Header,
    loss::{Program, Reason, counter},
};

use crate::maps::{EMITTED, EVENTS, LOSSES, PROCESSES};

/// Do not wake the reader: it looks every few milliseconds, and a wake-up per event costs more than all else.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// Counts a loss.
#[inline(always)]
pub(crate) fn lost(program: Program, reason: Reason) {
    if let Some(count) = LOSSES.get_ptr_mut(counter(program, reason)) {
        // SAFETY: a per-CPU entry of a live map; tracing programs on one CPU do not preempt each other mid-increment.
        unsafe { *count += 1 };
    }
}

/// Reserves room for an event; a full ring is counted.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(program: Program) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        lost(program, Reason::RingFull);
    }
    entry
}

/// Submits a written event.
#[inline(always)]
pub(crate) fn submit<T: 'static>(entry: RingBufEntry<T>) {
    if let Some(count) = EMITTED.get_ptr_mut(0) {
        // SAFETY: as in `lost`.
        unsafe { *count += 1 };
    }
    entry.submit(BPF_RB_NO_WAKEUP);
}

/// The header of an event about what the current process does as a client of upstreams: one of a sequence.
#[inline(always)]
pub(crate) fn header(kind: u16, program: Program) -> Header {
    let mut header = aside(kind, program);
    if let Some(process) = PROCESSES.get_ptr_mut(header.tgid) {
        // SAFETY: a live map entry; only the process's own thread counts here.
        unsafe {
            (*process).sequence += 1;
            header.sequence = (*process).sequence;
        }
    }
    header
}

/// The header of an event about the host: it happens in the context of the current process, and its place among that
/// process's events means nothing.
#[inline(always)]
pub(crate) fn aside(kind: u16, program: Program) -> Header {
    let ids = bpf_get_current_pid_tgid();
    Header {
        // SAFETY: no arguments, no effects.
        time_ns: unsafe { bpf_ktime_get_ns() },
        sequence: 0,
        tgid: (ids >> 32) as u32,
        tid: ids as u32,
        kind,
        program: program as u16,
        // SAFETY: as above.
        cpu: unsafe { bpf_get_smp_processor_id() },
    }
}

/// Where an event is written, field by field.
#[inline(always)]
pub(crate) fn slot<T>(entry: &mut RingBufEntry<T>) -> *mut T {
    let slot: &mut MaybeUninit<T> = entry;
    slot.as_mut_ptr()
}
