//! The other end: a process of this host closes a connection that a traced one may have on its side.
//!
//! Hook: none of its own; asked by `lifecycle` at ESTABLISHED → FIN_WAIT1 or CLOSE and CLOSE_WAIT → LAST_ACK or CLOSE of sockets that
//! are not traced, and by `reset` when a close sends a RST. Context: the process that closes, exiting or not; its `exit_code` is final by then
//! (do_exit() in kernel/exit.c sets it before exit_files()).
//! Cost: five reads per connection that is closed from its server's side.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_ktime_get_ns};
use tracer_common::{
    address::is_loopback,
    peer::{PEER_EXITING, PEER_RESETS, PEER_WORKER, PeerClosed, PeerKey},
    process::Comm,
};

use crate::{
    maps::PEERS,
    read::{self, Sock, TcpSock},
    settings::setting,
};

/// include/linux/sched.h, unchanged since 2.6.
const PF_EXITING: u32 = 0x0000_0004;
const PF_KTHREAD: u32 = 0x0020_0000;
/// shutdown(2) and close(2) set it before the state changes; what the network ends has it later.
const SEND_SHUTDOWN: u8 = 2;

/// A socket left ESTABLISHED otherwise than by the other side's FIN, or CLOSE_WAIT.
#[inline(always)]
pub(super) fn closing(sk: TcpSock) {
    // SAFETY: no arguments; the current task exists.
    let task = unsafe { bpf_get_current_task() };
    let flags: u32 = read::kernel(task, setting!(offsets.task_flags));
    if flags & PF_EXITING == 0 && !unanswered(sk) {
        return;
    }
    if flags & PF_KTHREAD == 0 && sk.field::<u8>(setting!(offsets.sock_shutdown)) & SEND_SHUTDOWN != 0 {
        closed(sk, task, 0);
    }
}

/// A process's own close sent a RST.
#[inline(always)]
pub(super) fn reset(sk: u64) {
    // SAFETY: no arguments; the current task exists.
    closed(sk, unsafe { bpf_get_current_task() }, PEER_RESETS);
}

/// Nothing that runs here is anybody's program.
#[inline(always)]
pub(super) fn is_kernel_thread() -> bool {
    // SAFETY: no arguments; the current task exists.
    let task = unsafe { bpf_get_current_task() };
    read::kernel::<u32>(task, setting!(offsets.task_flags)) & PF_KTHREAD != 0
}

/// Something was received after the last thing sent. A tie within a jiffy proves nothing.
#[inline(always)]
fn unanswered(sk: TcpSock) -> bool {
    let sent: u64 = sk.field(setting!(offsets.tcp_bytes_sent));
    if sent == 0 {
        return sk.field::<u64>(setting!(offsets.tcp_bytes_received)) > 0;
    }
    let last_sent: u32 = sk.field(setting!(offsets.tcp_lsndtime));
    let last_received: u32 = sk.field(setting!(offsets.icsk_lrcvtime));
    last_received.wrapping_sub(last_sent).cast_signed() > 0
}

/// Remembers who closed.
#[inline(never)]
fn closed(sk: impl Sock, task: u64, how: u32) -> i32 {
    let family: u16 = sk.field(setting!(offsets.sock_family));
    if family != read::AF_INET && family != read::AF_INET6 {
        return 0;
    }
    let local_address = read::local_address(sk, family);
    let key = PeerKey {
        local_address: read::remote_address(sk, family),
        remote_address: local_address,
        local_port: read::remote_port(sk),
        remote_port: read::local_port(sk),
        netns: if is_loopback(local_address) { sk.network_namespace() } else { 0 },
    };
    let mut closed = ending(task).closes();
    closed.flags |= how;
    // An LRU map: there is always room.
    i32::from(PEERS.insert(&key, &closed, 0).is_ok())
}

/// A process that may be at its end.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) tgid: u32,
    pub(super) parent: u32,
    pub(super) exit_code: u32,
    pub(super) flags: u32,
    pub(super) comm: Comm,
}

impl Ending {
    /// It closes something now.
    #[inline(always)]
    pub(super) fn closes(&self) -> PeerClosed {
        PeerClosed {
            // SAFETY: no arguments, no effects.
            time_ns: unsafe { bpf_ktime_get_ns() },
            tgid: self.tgid,
            parent: self.parent,
            exit_code: self.exit_code,
            flags: self.flags,
            comm: self.comm,
        }
    }
}

/// Reads it from one of its threads.
#[inline(always)]
pub(super) fn ending(task: u64) -> Ending {
    let leader: u64 = read::kernel(task, setting!(offsets.task_group_leader));
    let parent: u64 = read::kernel(leader, setting!(offsets.task_real_parent));
    let exiting = read::kernel::<u32>(task, setting!(offsets.task_flags)) & PF_EXITING != 0;
    let comm: Comm = read::kernel(leader, setting!(offsets.task_comm));
    let parent_comm: Comm = read::kernel(parent, setting!(offsets.task_comm));
    let mut flags = 0;
    if exiting {
        flags |= PEER_EXITING;
    }
    if comm == parent_comm {
        flags |= PEER_WORKER;
    }
    Ending {
        tgid: read::kernel(task, setting!(offsets.task_tgid)),
        parent: read::kernel(parent, setting!(offsets.task_tgid)),
        exit_code: if exiting { read::kernel(task, setting!(offsets.task_exit_code)) } else { 0 },
        flags,
        comm,
    }
}
