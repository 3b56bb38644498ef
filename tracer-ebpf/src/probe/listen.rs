//! Listeners of the whole host coming and going.
//!
//! Hook: none of its own; asked by `lifecycle` at → LISTEN and LISTEN → CLOSE, which run in the process that calls listen(2)
//! or closes, exiting or not. `listeners` is an iterator over the sockets of one network namespace (`bpf_iter__tcp`, 5.9 and
//! later), read once at the start. Cost: one event per listener opened or closed.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns};
use tracer_common::{
    event::{
        kind,
        listener::{CLOSED, Listener, ONLY_IPV6, OPENED},
    },
    listener::{ListenerKey, Listening},
    loss::{Program, Reason},
    server::LISTENS,
    settings::ABSENT,
    tcp_state::LISTEN,
};

use super::peer;
use crate::{
    emit,
    maps::{CLOSERS, LISTENERS, SERVERS},
    read::{self, Sock, TcpSock},
    settings::setting,
};

/// Where a listening socket listens.
#[inline(always)]
pub(super) fn key(sk: impl Sock, family: u16) -> ListenerKey {
    ListenerKey {
        address: read::local_address(sk, family),
        port: read::local_port(sk),
        reserved: 0,
        netns: sk.network_namespace(),
    }
}

/// A socket began or ceased to listen.
#[inline(never)]
pub(super) fn changed(sk: TcpSock, new: u8) -> i32 {
    let family: u16 = sk.field(setting!(offsets.sock_family));
    if family != read::AF_INET && family != read::AF_INET6 {
        return 0;
    }
    let key = key(sk, family);
    // SAFETY: no arguments; the current task exists.
    let ending = peer::ending(unsafe { bpf_get_current_task() });
    if new == LISTEN {
        opened(sk.address(), &key, ending.tgid);
        // An LRU map: there is always room.
        let _ = SERVERS.insert(ending.tgid, LISTENS, 0);
    } else {
        closed(&key);
        // SAFETY: no arguments, no effects.
        let now = unsafe { bpf_ktime_get_ns() };
        // An LRU map: there is always room.
        let _ = CLOSERS.insert(bpf_get_current_pid_tgid() as u32, now, 0);
    }
    let Some(mut entry) = emit::reserve::<Listener>(Program::SetState) else { return 0 };
    let slot = emit::slot(&mut entry);
    let header = emit::aside(kind::LISTENER, Program::SetState);
    // SAFETY: the slot is ours until submitted; every field is written.
    unsafe {
        (&raw mut (*slot).header).write(header);
        (&raw mut (*slot).sk).write(sk.address());
        (&raw mut (*slot).key).write(key);
        (&raw mut (*slot).change).write(if new == LISTEN { OPENED } else { CLOSED });
        (&raw mut (*slot).exit_code).write(ending.exit_code);
        (&raw mut (*slot).flags).write(ending.flags | only_ipv6(sk, family));
        (&raw mut (*slot).parent).write(ending.parent);
        (&raw mut (*slot).comm).write(ending.comm);
    }
    emit::submit(entry);
    1
}

#[inline(always)]
fn only_ipv6(sk: TcpSock, family: u16) -> u32 {
    let bit = setting!(offsets.sock_only_ipv6_bit);
    if family != read::AF_INET6 || bit == ABSENT {
        return 0;
    }
    if sk.field::<u8>(bit / 8) >> (bit % 8) & 1 == 1 { ONLY_IPV6 } else { 0 }
}

#[inline(always)]
fn opened(sk: u64, key: &ListenerKey, tgid: u32) {
    let mut listening = Listening { sk, sockets: 1, tgid };
    if let Some(others) = LISTENERS.get_ptr(key) {
        // SAFETY: a live map entry, read only.
        let others = unsafe { &*others };
        // Again by the same socket: a new backlog. A dead one that was missed does not count.
        if others.sk != sk && read::kernel::<u8>(others.sk, setting!(offsets.sock_state)) == LISTEN {
            listening.sockets = others.sockets + 1;
        }
    }
    if LISTENERS.insert(key, &listening, 0).is_err() {
        emit::lost(Program::SetState, Reason::MapFull);
    }
}

#[inline(always)]
fn closed(key: &ListenerKey) {
    let Some(listening) = LISTENERS.get_ptr_mut(key) else { return };
    // SAFETY: a live map entry; two that end at once miscount, and then the last of them is taken for one of several.
    let last = unsafe {
        (*listening).sockets = (*listening).sockets.saturating_sub(1);
        (*listening).sockets == 0
    };
    if last {
        let _ = LISTENERS.remove(key);
    }
}

/// `struct bpf_iter__tcp`, net/ipv4/tcp_ipv4.c: `{ meta, sk_common, uid }`, each 8 bytes apart.
const ITERATED_SOCKET: usize = 1;

/// One socket of a network namespace: a listener that was there before the tracing is remembered.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn listeners(context: *const u64) -> i32 {
    // SAFETY: the kernel passes a `struct bpf_iter__tcp`.
    let sk = unsafe { core::ptr::read_volatile(context.add(ITERATED_SOCKET)) };
    if sk == 0 {
        return 0;
    }
    if read::kernel::<u8>(sk, setting!(offsets.sock_state)) != LISTEN {
        return 0;
    }
    let family: u16 = read::kernel(sk, setting!(offsets.sock_family));
    let key = key(sk, family);
    opened(sk, &key, 0);
    0
}
