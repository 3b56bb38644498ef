//! What socket(2), bind(2) and connect(2) return: they fail at once, or a unix socket is connected.
//!
//! Hook: fexit at `__sys_connect(fd, uservaddr, addrlen)`, `__sys_bind(fd, umyaddr, addrlen)` and `__sys_socket(family, type,
//! protocol)`, 5.10 and later; else a kprobe and a kretprobe at each. Context: process. Cost: one look-up per such call of
//! the host that fails, or connects without waiting; nothing on any other system call.
//! A connect that has been begun is `lifecycle`'s.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use tracer_common::{
    address::mapped,
    call::Call,
    event::{
        kind,
        refused::{BIND, CONNECT, Refused, SOCKET},
    },
    loss::{Program, Reason},
};

use super::{
    lifecycle,
    nginx::socket_of,
    unix::{self, AF_UNIX, FAMILY_LEN, PATH_MAX},
};
use crate::{
    emit,
    maps::CALLS,
    owner,
    read::{self, Sock},
    settings::setting,
};

/// `enum sock_type`, include/linux/net.h.
const SOCK_STREAM: u16 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EISCONN: i32 = 106;
const EALREADY: i32 = 114;
const EINPROGRESS: i32 = 115;
/// The first of the errors that never leave the kernel (ERESTARTSYS …), include/linux/errno.h.
const ERESTARTSYS: i32 = 512;

#[fexit(function = "__sys_connect")]
pub(crate) fn connect(context: FExitContext) -> i32 {
    returned(CONNECT, called(context.arg(0), context.arg(1), context.arg(2)), context.arg(3))
}

#[fexit(function = "__sys_bind")]
pub(crate) fn bind(context: FExitContext) -> i32 {
    returned(BIND, called(context.arg(0), context.arg(1), context.arg(2)), context.arg(3))
}

#[fexit(function = "__sys_socket")]
pub(crate) fn socket(context: FExitContext) -> i32 {
    returned(SOCKET, NO_ARGUMENTS, context.arg(3))
}

#[kprobe]
pub(crate) fn connect_kprobe(context: ProbeContext) -> u32 {
    enter(&context, Program::Connect)
}

#[kprobe]
pub(crate) fn bind_kprobe(context: ProbeContext) -> u32 {
    enter(&context, Program::Bind)
}

#[kretprobe]
pub(crate) fn connect_kretprobe(context: RetProbeContext) -> u32 {
    leave(&context, CONNECT)
}

#[kretprobe]
pub(crate) fn bind_kretprobe(context: RetProbeContext) -> u32 {
    leave(&context, BIND)
}

#[kretprobe]
pub(crate) fn socket_kretprobe(context: RetProbeContext) -> u32 {
    returned(SOCKET, NO_ARGUMENTS, context.ret()).cast_unsigned()
}

const NO_ARGUMENTS: Call = Call { address: 0, descriptor: u32::MAX, length: 0 };

#[inline(always)]
fn called(descriptor: i32, address: u64, length: i32) -> Call {
    Call { address, descriptor: descriptor.cast_unsigned(), length: length.cast_unsigned() }
}

/// A return probe does not see the arguments: they are kept until then.
#[inline(always)]
fn enter(context: &ProbeContext, program: Program) -> u32 {
    if owner::current_traced(program).is_none() {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid() as u32;
    if CALLS.get_ptr(thread).is_some() {
        // The former call's return was missed: so many calls of the host were under way (maxactive of the kretprobe).
        emit::lost(program, Reason::KretprobeMissed);
    }
    let call =
        called(context.arg::<i32>(0).unwrap_or(-1), context.arg(1).unwrap_or(0), context.arg::<i32>(2).unwrap_or(0));
    // An LRU map: there is always room.
    let _ = CALLS.insert(thread, call, 0);
    0
}

#[inline(always)]
fn leave(context: &RetProbeContext, function: u16) -> u32 {
    let thread = bpf_get_current_pid_tgid() as u32;
    let Some(call) = CALLS.get_ptr(thread) else { return 0 };
    // SAFETY: a live map entry, written only by this thread.
    let call = unsafe { *call };
    let _ = CALLS.remove(thread);
    returned(function, call, context.ret()).cast_unsigned()
}

#[inline(always)]
fn returned(function: u16, call: Call, result: i32) -> i32 {
    if result > 0 || (result == 0 && function != CONNECT) || pending(result) {
        return 0;
    }
    let program = program(function);
    let Some(process) = owner::current_traced(program) else { return 0 };
    if function == SOCKET {
        return refused(function, call, 0, 0, result);
    }
    let sk = socket_of(call.descriptor);
    if sk == 0 || read::kernel::<u16>(sk, setting!(offsets.sock_type)) != SOCK_STREAM {
        return 0;
    }
    let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
    if result == 0 {
        if family == AF_UNIX {
            unix::connected(sk);
            lifecycle::again(process, sk, program);
        }
        return 0;
    }
    // Of TCP a wait, of a unix socket the end.
    if result == -EAGAIN && family != AF_UNIX {
        return 0;
    }
    refused(function, call, sk, family, result)
}

/// Neither success nor failure.
#[inline(always)]
const fn pending(result: i32) -> bool {
    matches!(-result, EINTR | EISCONN | EALREADY | EINPROGRESS) || result <= -ERESTARTSYS
}

#[inline(always)]
const fn program(function: u16) -> Program {
    match function {
        SOCKET => Program::Socket,
        BIND => Program::Bind,
        _ => Program::Connect,
    }
}

#[inline(never)]
fn refused(function: u16, call: Call, sk: u64, family: u16, result: i32) -> i32 {
    let program = program(function);
    let Some(mut entry) = emit::reserve::<Refused>(program) else { return 0 };
    let slot = emit::slot(&mut entry);
    let header = emit::header(kind::REFUSED, program);
    let is_unix = family == AF_UNIX;
    let mut path = 0;
    if is_unix && call.length > FAMILY_LEN {
        path = call.length - FAMILY_LEN;
        if path > PATH_MAX {
            path = PATH_MAX;
        }
    }
    // As in `struct sockaddr_in` and `struct sockaddr_in6`; the address of the wrong family is not looked at.
    let named: u16 = read::user(call.address, 0);
    let address = match named {
        read::AF_INET => mapped(read::user(call.address, 4)),
        read::AF_INET6 => read::user(call.address, 8),
        _ => [0; 2],
    };
    let netns = if sk == 0 { 0 } else { sk.network_namespace() };
    // SAFETY: the slot is ours until submitted; every field is written; the helper checks the source.
    unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).sk).write(sk);
        (&raw mut (*slot).errno).write((-result).cast_unsigned());
        (&raw mut (*slot).netns).write(netns);
        (&raw mut (*slot).address).write(address);
        (&raw mut (*slot).port).write(u16::from_be(read::user(call.address, 2)));
        (&raw mut (*slot).family).write(if is_unix { AF_UNIX } else { named });
        (&raw mut (*slot).call).write(function);
        (&raw mut (*slot).reserved).write(0);
        (&raw mut (*slot).path_length).write(path);
        (&raw mut (*slot).padding).write(0);
        if is_unix {
            let text = call.address + u64::from(FAMILY_LEN);
            generated::bpf_probe_read_user((&raw mut (*slot).path).cast(), path, text as *const c_void);
        }
    }
    emit::submit(entry);
    1
}
