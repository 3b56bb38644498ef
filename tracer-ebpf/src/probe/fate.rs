//! What ends or stops servers: `oom:mark_victim`, `signal:signal_generate`, and the exit of those that listen.
//!
//! Hook: raw tracepoints, `(struct task_struct *, uid_t)` or on older kernels `(int pid)`; `(int sig, struct
//! kernel_siginfo *, struct task_struct *, int group, int result)`; the exit and the fork are `process`'s.
//! Context: whoever runs out of memory; the sender; the dying process. Cost: a comparison per signal, a look-up per fork
//! and exit.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{
    event::{exit::Exit, kind},
    hooked::UNIX_EXIT,
    loss::Program,
    peer::{Fate, Stop},
    server::{FORKED, LOOKED_THROUGH},
};

use super::peer;
use crate::{
    emit,
    maps::{FATES, ORDERS, SERVERS, STOPS, hooked},
    read,
    settings::setting,
};

const ENOENT: i32 = 2;
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGABRT: i32 = 6;
const SIGTRAP: i32 = 5;
const SIGKILL: i32 = 9;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
/// A process that handles a signal and raises it again does so within this time.
const RAISED_NS: u64 = 10_000_000_000;
/// include/uapi/asm-generic/siginfo.h
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;
/// The last argument where the receiver ignores it, include/trace/events/signal.h.
const TRACE_SIGNAL_IGNORED: i32 = 1;
/// SEND_SIG_NOINFO and SEND_SIG_PRIV stand where a pointer would, include/linux/sched/signal.h.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;

#[raw_tracepoint(tracepoint = "mark_victim")]
pub(crate) fn mark_victim(context: RawTracePointContext) -> i32 {
    let tgid: u32 = if setting!(victim_is_task) == 1 {
        read::kernel(context.arg::<u64>(0), setting!(offsets.task_tgid))
    } else {
        context.arg(0)
    };
    // SAFETY: no arguments, no effects.
    let oom_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(fate) = FATES.get_ptr_mut(tgid) {
        // SAFETY: a live map entry; a process is made a victim once.
        unsafe { (*fate).oom_ns = oom_ns };
    } else {
        // An LRU map: there is always room.
        let _ = FATES.insert(tgid, Fate { oom_ns, ..Fate::default() }, 0);
    }
    0
}

#[raw_tracepoint(tracepoint = "signal_generate")]
pub(crate) fn signal_generate(context: RawTracePointContext) -> i32 {
    let signal: i32 = context.arg(0);
    // Who ignores it goes on all the same (prepare_signal(), kernel/signal.c).
    if signal == SIGCONT {
        return goes_on(context.arg(2));
    }
    if context.arg::<i32>(4) == TRACE_SIGNAL_IGNORED {
        return 0;
    }
    match signal {
        SIGINT | SIGQUIT | SIGABRT | SIGKILL | SIGTERM => ends(signal, context.arg(1), context.arg(2)),
        // Attaching, a debugger stops it so, and lets it go on without a signal.
        SIGSTOP if context.arg::<u64>(1) == SEND_SIG_PRIV => stops(SIGTRAP, context.arg(2), true),
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU | SIGTRAP => stops(signal, context.arg(2), signal != SIGTRAP),
        SIGHUP | SIGUSR2 => reloads(signal, context.arg(2)),
        _ => 0,
    }
}

#[inline(always)]
fn ends(signal: i32, info: u64, task: u64) -> i32 {
    // Sent by a process, which is the current one; timers and the like have codes below zero, too.
    let from_user = match info {
        SEND_SIG_NOINFO => true,
        SEND_SIG_PRIV => false,
        _ => matches!(read::kernel::<i32>(info, setting!(offsets.siginfo_code)), SI_USER | SI_QUEUE | SI_TKILL),
    };
    if !from_user {
        return 0;
    }
    let tgid: u32 = read::kernel(task, setting!(offsets.task_tgid));
    let sender = (bpf_get_current_pid_tgid() >> 32) as u32;
    let mut fate = Fate::default();
    if let Some(former) = FATES.get_ptr(tgid) {
        // SAFETY: a live map entry, read only.
        let former = unsafe { &*former };
        // Handled, and raised again to die of it: who sent it first counts.
        // SAFETY: no arguments, no effects.
        let recent = unsafe { bpf_ktime_get_ns() }.wrapping_sub(former.signal_ns) < RAISED_NS;
        if sender == tgid && former.signal == signal.cast_unsigned() && former.sender != tgid && recent {
            return 0;
        }
        fate.oom_ns = former.oom_ns;
    }
    // SAFETY: no arguments, no effects.
    fate.signal_ns = unsafe { bpf_ktime_get_ns() };
    fate.signal = signal.cast_unsigned();
    fate.sender = sender;
    fate.sender_comm = read::current_comm();
    let _ = FATES.insert(tgid, fate, 0);
    0
}

/// The signals that stop, whoever sends them: a debugger's attaching is one. Where it stands still already, the first of
/// several SIGSTOPs did it; of those that may be handled or ignored, the last is nearest to the truth.
#[inline(always)]
fn stops(signal: i32, task: u64, sent: bool) -> i32 {
    let tgid: u32 = read::kernel(task, setting!(offsets.task_tgid));
    let mut stop = Stop::default();
    if let Some(former) = STOPS.get_ptr(tgid) {
        // SAFETY: a live map entry, read only.
        stop = unsafe { *former };
        if signal == SIGSTOP && stop.signal == SIGSTOP.cast_unsigned() {
            return 0;
        }
    } else if !sent {
        return 0;
    }
    // SAFETY: no arguments, no effects.
    stop.time_ns = unsafe { bpf_ktime_get_ns() };
    stop.signal = signal.cast_unsigned();
    if sent {
        stop.sender = (bpf_get_current_pid_tgid() >> 32) as u32;
        stop.sender_comm = read::current_comm();
    }
    // An LRU map: there is always room.
    let _ = STOPS.insert(tgid, stop, 0);
    0
}

/// What a master may end its workers for.
#[inline(always)]
fn reloads(signal: i32, task: u64) -> i32 {
    let tgid: u32 = read::kernel(task, setting!(offsets.task_tgid));
    if SERVERS.get_ptr(tgid).is_none() {
        return 0;
    }
    let order = Stop {
        // SAFETY: no arguments, no effects.
        time_ns: unsafe { bpf_ktime_get_ns() },
        signal: signal.cast_unsigned(),
        sender: (bpf_get_current_pid_tgid() >> 32) as u32,
        sender_comm: read::current_comm(),
    };
    // An LRU map: there is always room.
    let _ = ORDERS.insert(tgid, order, 0);
    0
}

#[inline(always)]
fn goes_on(task: u64) -> i32 {
    let tgid: u32 = read::kernel(task, setting!(offsets.task_tgid));
    let _ = STOPS.remove(tgid);
    0
}

/// A process forks: the child of a server has its listeners.
#[inline(always)]
pub(super) fn forked(parent: u32, child: u64) {
    if SERVERS.get_ptr(parent).is_none() {
        return;
    }
    let tgid: u32 = read::kernel(child, setting!(offsets.task_tgid));
    if tgid != parent {
        let _ = SERVERS.insert(tgid, FORKED, 0);
        // Of a former process of that number.
        let _ = FATES.remove(tgid);
        let _ = STOPS.remove(tgid);
    }
}

/// A process became another program: what a server forked is none any more. One that listens itself has only restarted.
#[inline(always)]
pub(super) fn replaced(tgid: u32) {
    // SAFETY: a live map entry, read only.
    if SERVERS.get_ptr(tgid).is_some_and(|server| unsafe { *server } == FORKED) {
        let _ = SERVERS.remove(tgid);
    }
}

/// A thread exits: tells of it when it is the last one of a server.
#[inline(always)]
pub(super) fn exited(tgid: u32) {
    if SERVERS.get_ptr(tgid).is_some() {
        server_exited(tgid);
    }
}

/// The leader of a process exits.
#[inline(always)]
pub(super) fn gone(tgid: u32) {
    let _ = STOPS.remove(tgid);
}

/// The last thread of its process: do_exit() (kernel/exit.c) counts down before the tracepoint.
#[inline(always)]
pub(super) fn is_last(task: u64) -> bool {
    let signal: u64 = read::kernel(task, setting!(offsets.task_signal));
    read::kernel::<i32>(signal, setting!(offsets.signal_live)) == 0
}

/// The last thread came to its exit after `unix_exit` had run for this one: it is told of there.
#[inline(always)]
fn is_still_to_be_looked_through(tgid: u32) -> bool {
    // SAFETY: a live map entry, read only.
    let looked_through = SERVERS.get_ptr(tgid).is_none_or(|server| unsafe { *server } == LOOKED_THROUGH);
    hooked(UNIX_EXIT) && !looked_through
}

#[inline(never)]
fn server_exited(tgid: u32) -> i32 {
    // SAFETY: no arguments; the current task exists.
    let task = unsafe { bpf_get_current_task() };
    // Two threads may both be the last: the first takes the entry. What the map could not do for now is no such thing.
    if !is_last(task) || is_still_to_be_looked_through(tgid) || SERVERS.remove(tgid) == Err(-ENOENT) {
        return 0;
    }
    let ending = peer::ending(task);
    let Some(mut entry) = emit::reserve::<Exit>(Program::ProcessExit) else { return 0 };
    let event = Exit {
        header: emit::aside(kind::EXIT, Program::ProcessExit),
        exit_code: ending.exit_code,
        parent: ending.parent,
        flags: ending.flags,
        reserved: 0,
        comm: ending.comm,
    };
    // SAFETY: the slot is ours until submitted.
    unsafe { emit::slot(&mut entry).write(event) };
    emit::submit(entry);
    1
}
