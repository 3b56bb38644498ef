//! Traced processes coming and going: `sched:sched_process_exec`, `_fork`, `_exit`.
//!
//! Hook: raw tracepoints, `(struct task_struct *, pid_t, struct linux_binprm *)`, `(parent, child)`, `(task[, bool])`.
//! Context: process. Cost: one look-up per exec, fork and exit of the host.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_common::{event::process as wire, loss::Program, process::TRACED};

use super::fate;
use crate::{maps::PROCESSES, owner, read, settings::setting};

/// A process became another program: the old verdict is void. What nginx's master starts is its own for as long as it takes to exec.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn process_exec(context: RawTracePointContext) -> i32 {
    let task: u64 = context.arg(0);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    fate::replaced(tgid);
    let was_traced = owner::is_traced(tgid);
    let _ = PROCESSES.remove(tgid);
    if owner::judge(task, tgid, Program::ProcessExec) == 0 && was_traced {
        let comm = read::current_comm();
        owner::announce(wire::GONE, tgid, &comm, Program::ProcessExec);
    }
    0
}

/// A traced process forked: nginx's master starts a worker.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn process_fork(context: RawTracePointContext) -> i32 {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    fate::forked(parent, context.arg(1));
    if !owner::is_traced(parent) {
        return 0;
    }
    let child: u64 = context.arg(1);
    let tgid: u32 = read::kernel(child, setting!(offsets.task_tgid));
    if tgid != parent {
        owner::judge(child, tgid, Program::ProcessFork);
    }
    0
}

/// A thread exited: the last one of a server, or the leader of a traced process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn process_exit(_context: RawTracePointContext) -> i32 {
    let ids = bpf_get_current_pid_tgid();
    let tgid = (ids >> 32) as u32;
    fate::exited(tgid);
    if tgid != ids as u32 {
        return 0;
    }
    fate::gone(tgid);
    let Some(process) = PROCESSES.get_ptr(tgid) else { return 0 };
    // SAFETY: a live map entry.
    if unsafe { (*process).verdict } == TRACED {
        let comm = read::current_comm();
        owner::announce(wire::GONE, tgid, &comm, Program::ProcessExit);
    }
    let _ = PROCESSES.remove(tgid);
    0
}
