//! Whose socket is it? Decided once per process, in its own context, and remembered until it exits or execs.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, generated};
use tracer_common::{
    event::{kind, process as wire},
    loss::{Program, Reason},
    process::{Comm, IGNORED, Process, TRACED},
    settings::{MAX_NAMES, MAX_PIDS},
};

use crate::{emit, maps::PROCESSES, read, settings::setting};

/// The current process's entry when its sockets are traced.
#[inline(always)]
pub(crate) fn current_traced(program: Program) -> Option<*mut Process> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let process = match PROCESSES.get_ptr_mut(tgid) {
        Some(process) => process,
        None => {
            // SAFETY: no arguments; the current task exists.
            judge(unsafe { bpf_get_current_task() }, tgid, program);
            PROCESSES.get_ptr_mut(tgid)?
        }
    };
    // SAFETY: a live map entry.
    (unsafe { (*process).verdict } == TRACED).then_some(process)
}

/// Judges a process and remembers the verdict; a traced one is announced.
#[inline(never)]
pub(crate) fn judge(task: u64, tgid: u32, program: Program) -> u32 {
    let comm: Comm = read::kernel(task, setting!(offsets.task_comm));
    let traced = tgid != setting!(own_pid) && wanted(task, tgid, &comm);
    let process = Process { verdict: if traced { TRACED } else { IGNORED }, ..Process::default() };
    if PROCESSES.insert(tgid, process, 0).is_err() {
        emit::lost(program, Reason::MapFull);
    }
    if traced {
        announce(wire::APPEARED, tgid, &comm, program);
    }
    u32::from(traced)
}

#[inline(never)]
pub(crate) fn announce(change: u32, tgid: u32, comm: &Comm, program: Program) -> u32 {
    if let Some(mut entry) = emit::reserve::<wire::Process>(program) {
        let event = wire::Process { header: emit::header(kind::PROCESS, program), change, tgid, comm: *comm };
        // SAFETY: the slot is ours until submitted.
        unsafe { emit::slot(&mut entry).write(event) };
        emit::submit(entry);
    }
    0
}

/// Not inlined: the stack of a program's calls together is small.
#[inline(never)]
fn wanted(task: u64, tgid: u32, comm: &Comm) -> bool {
    if setting!(pid_count) > 0 {
        let parent: u64 = read::kernel(task, setting!(offsets.task_real_parent));
        let same_program = read::kernel::<Comm>(parent, setting!(offsets.task_comm)) == *comm;
        let parent: u32 = read::kernel(parent, setting!(offsets.task_tgid));
        // Its workers, and a master that a traced one started, with its workers (a binary upgrade): nothing else that it starts.
        if listed(tgid) || (same_program && (listed(parent) || is_traced(parent))) {
            return true;
        }
    }
    setting!(name_count) > 0 && (named(comm) || named(&executable(task)))
}

#[inline(always)]
pub(crate) fn is_traced(tgid: u32) -> bool {
    // SAFETY: a live map entry.
    PROCESSES.get_ptr(tgid).is_some_and(|process| unsafe { (*process).verdict } == TRACED)
}

#[inline(always)]
fn listed(pid: u32) -> bool {
    for index in 0..MAX_PIDS {
        if index as u32 >= setting!(pid_count) {
            break;
        }
        if setting!(pids[index]) == pid {
            return true;
        }
    }
    false
}

#[inline(always)]
fn named([first, second]: &Comm) -> bool {
    for index in 0..MAX_NAMES {
        if index as u32 >= setting!(name_count) {
            break;
        }
        if setting!(names[index][0]) == *first && setting!(names[index][1]) == *second {
            return true;
        }
    }
    false
}

/// Basename of the executable, cut like a comm: `mm->exe_file->f_path.dentry->d_name.name`.
#[inline(always)]
fn executable(task: u64) -> Comm {
    let mut name = [0; 2];
    let mm: u64 = read::kernel(task, setting!(offsets.task_mm));
    let file: u64 = read::kernel(mm, setting!(offsets.mm_exe_file));
    let dentry: u64 = read::kernel(file, setting!(offsets.file_dentry));
    let text: u64 = read::kernel(dentry, setting!(offsets.dentry_name));
    if text != 0 {
        // SAFETY: the helper checks the address; at most the length of `name` is written.
        unsafe {
            generated::bpf_probe_read_kernel_str(
                (&raw mut name).cast(),
                size_of::<Comm>() as u32,
                text as *const c_void,
            );
        }
    }
    name
}
