//! Whose socket is it? Decided once per process, in its own context, and remembered until it exits or execs.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel_str_bytes};
use tracer_common::{
    event::{kind, process as wire},
    loss::{Program, Reason},
    process::{IGNORED, Process, TRACED},
    settings::{COMM_LEN, MAX_NAMES, MAX_PIDS},
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
    let comm: [u8; COMM_LEN] = read::kernel(task, setting!(offsets.task_comm));
    let traced = tgid != setting!(own_pid) && wanted(task, tgid, &comm);
    let process = Process { verdict: if traced { TRACED } else { IGNORED }, ..Process::default() };
    if PROCESSES.insert(tgid, process, 0).is_err() {
        emit::lost(program, Reason::MapFull);
    }
    if traced {
        announce(wire::APPEARED, tgid, comm, program);
    }
    u32::from(traced)
}

#[inline(always)]
pub(crate) fn announce(change: u32, tgid: u32, comm: [u8; COMM_LEN], program: Program) {
    if let Some(mut entry) = emit::reserve::<wire::Process>(program) {
        let event = wire::Process { header: emit::header(kind::PROCESS, program), change, tgid, comm };
        // SAFETY: the slot is ours until submitted.
        unsafe { emit::slot(&mut entry).write(event) };
        emit::submit(entry);
    }
}

#[inline(always)]
fn wanted(task: u64, tgid: u32, comm: &[u8; COMM_LEN]) -> bool {
    if setting!(pid_count) > 0 {
        let parent: u64 = read::kernel(task, setting!(offsets.task_real_parent));
        let same_program =
            u128::from_ne_bytes(read::kernel(parent, setting!(offsets.task_comm))) == u128::from_ne_bytes(*comm);
        let parent: u32 = read::kernel(parent, setting!(offsets.task_tgid));
        // A master that a traced one started, and its workers: a binary upgrade.
        if listed(tgid) || listed(parent) || (same_program && is_traced(parent)) {
            return true;
        }
    }
    setting!(name_count) > 0 && (named(comm) || named(&executable(task)))
}

#[inline(always)]
fn is_traced(tgid: u32) -> bool {
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
fn named(name: &[u8; COMM_LEN]) -> bool {
    for index in 0..MAX_NAMES {
        if index as u32 >= setting!(name_count) {
            break;
        }
        let wanted = setting!(names[index]);
        if u128::from_ne_bytes(wanted) == u128::from_ne_bytes(*name) {
            return true;
        }
    }
    false
}

/// Basename of the executable, cut like a comm: `mm->exe_file->f_path.dentry->d_name.name`.
#[inline(always)]
fn executable(task: u64) -> [u8; COMM_LEN] {
    let mut name = [0; COMM_LEN];
    let mm: u64 = read::kernel(task, setting!(offsets.task_mm));
    let file: u64 = read::kernel(mm, setting!(offsets.mm_exe_file));
    let dentry: u64 = read::kernel(file, setting!(offsets.file_dentry));
    let text: u64 = read::kernel(dentry, setting!(offsets.dentry_name));
    if text != 0 {
        // SAFETY: the helper checks the address; at most the length of `name` is written.
        let _ = unsafe { bpf_probe_read_kernel_str_bytes(text as *const u8, &mut name) };
    }
    name
}
