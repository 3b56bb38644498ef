//! The line that nginx writes for a complaint, taken as it is written: where it goes to standard error or to syslog, and no
//! file can be read.
//!
//! Hook: fentry, or else kprobe, at `vfs_write(file, buf, count, pos)` and `__sys_sendto(fd, buff, len, ...)`, 5.10 and
//! later where the kernel has either. Context: process. Cost: one look-up per write of the host, hence user space attaches
//! them only while a traced process has no log that can be read.
//! ngx_log_error_core() (src/core/ngx_log.c) writes on the thread that complained, before anything else: the first such
//! write after a complaint is its line, whatever it says.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_common::{
    event::{
        kind,
        line::{LONG, Line, SHORT, Written},
    },
    loss::Program,
};

use crate::{
    emit,
    maps::{PROCESSES, WRITERS},
    read,
};

/// `2026/03/04 05:06:07 [crit] 1#1: ` and a message.
const SHORTEST: u64 = 36;

#[fentry(function = "vfs_write")]
pub(crate) fn write_line(context: FEntryContext) -> i32 {
    written(context.arg(1), context.arg(2), Program::WriteLine)
}

#[kprobe]
pub(crate) fn write_line_kprobe(context: ProbeContext) -> u32 {
    written(context.arg(1).unwrap_or(0), context.arg(2).unwrap_or(0), Program::WriteLine).cast_unsigned()
}

#[fentry(function = "__sys_sendto")]
pub(crate) fn send_line(context: FEntryContext) -> i32 {
    written(context.arg(1), context.arg(2), Program::SendLine)
}

#[kprobe]
pub(crate) fn send_line_kprobe(context: ProbeContext) -> u32 {
    written(context.arg(1).unwrap_or(0), context.arg(2).unwrap_or(0), Program::SendLine).cast_unsigned()
}

#[inline(always)]
fn written(text: u64, length: u64, program: Program) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if WRITERS.get_ptr(tgid).is_none() {
        return 0;
    }
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else { return 0 };
    // SAFETY: a live map entry, written only in its process's context, which this is.
    let complaint_ns = unsafe { (*process).unwritten_ns };
    if complaint_ns == 0 || length < SHORTEST || !is_line(text, program) {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (*process).unwritten_ns = 0 };
    if length <= SHORT as u64 {
        tell::<SHORT>(text, length, complaint_ns, program)
    } else {
        tell::<LONG>(text, length, complaint_ns, program)
    }
}

/// Begins as a line does: with a date, or with syslog's priority.
#[inline(always)]
fn is_line(text: u64, program: Program) -> bool {
    let start: [u8; 11] = read::user::<[u8; 11]>(text, 0);
    match program {
        Program::SendLine => start[0] == b'<',
        _ => start[4] == b'/' && start[7] == b'/' && start[10] == b' ',
    }
}

#[inline(never)]
fn tell<const ROOM: usize>(text: u64, length: u64, complaint_ns: u64, program: Program) -> i32 {
    let Some(mut entry) = emit::reserve::<Written<ROOM>>(program) else { return 0 };
    let slot = emit::slot(&mut entry);
    let length = if length < ROOM as u64 { length } else { ROOM as u64 };
    let header = emit::aside(kind::LINE, program);
    // SAFETY: the slot is ours until submitted; the helper checks the source.
    unsafe {
        (&raw mut (*slot).line).write(Line { header, complaint_ns, length: length as u32, reserved: 0 });
        generated::bpf_probe_read_user((&raw mut (*slot).text).cast(), length as u32, text as *const c_void);
    }
    emit::submit(entry);
    1
}
