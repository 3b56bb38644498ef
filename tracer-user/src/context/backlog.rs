//! The queues of TCP listeners at one moment, as the kernel lists them.

use std::{collections::BTreeMap, net::SocketAddr, thread};

use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};

use super::{
    namespaces::{enter, netns},
    sock_diag::dump,
};
use crate::model::host::Place;

/// A listener's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub place: Place,
    /// The kernel's name for the socket, not used again for another.
    pub cookie: u64,
    /// Connections in the accept queue, and its limit: one more fits in.
    pub queued: u32,
    pub limit: u32,
    /// What it dropped since it is there, for whatever reason: sk_drops, modulo 2³².
    pub drops: u32,
    /// It takes no IPv4 (IPV6_V6ONLY).
    pub only_ipv6: bool,
}

impl Backlog {
    pub const fn is_full(&self) -> bool {
        is_full(self.queued, self.limit)
    }
}

/// Whether no more fit into a queue: one more than its limit do. sk_acceptq_is_full(), include/net/sock.h; unix_recvq_full(),
/// net/unix/af_unix.c.
pub const fn is_full(queued: u32, limit: u32) -> bool {
    queued > limit
}

/// Those on `port` in the network namespace of process `pid`; none where the kernel cannot be asked.
pub fn on_port(pid: u32, port: u16) -> Vec<Backlog> {
    let look = thread::Builder::new().name("look-at-queues".into()).spawn(move || look(Some(port), [pid]));
    look.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// Those in the network namespaces of these processes. Changes the network namespace of the calling thread: for threads that
/// do nothing else. A namespace that cannot be asked has none.
pub fn backlogs(pids: impl IntoIterator<Item = u32>) -> Vec<Backlog> {
    look(None, pids)
}

fn look(port: Option<u16>, pids: impl IntoIterator<Item = u32>) -> Vec<Backlog> {
    let namespaces: BTreeMap<u64, u32> = pids.into_iter().filter_map(|pid| Some((netns(pid)?, pid))).collect();
    let mut found = Vec::new();
    for (netns, pid) in namespaces {
        let Ok(netns) = u32::try_from(netns) else { continue };
        if enter(pid).is_err() {
            continue;
        }
        for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let request = SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol: IPPROTO_TCP,
                extensions: ExtensionFlags::SKMEMINFO,
                states: StateFlags::LISTEN,
                socket_id: SocketId { source_port: port.unwrap_or(0), ..socket_id },
            });
            // Without IPv6 the other half is still good.
            let wanted = |backlog: &Backlog| port.is_none_or(|port| backlog.place.address.port() == port);
            found.extend(dump(request, |message| of(netns, message).filter(wanted)).unwrap_or_default());
        }
    }
    found
}

fn of(netns: u32, message: SockDiagMessage) -> Option<Backlog> {
    let SockDiagMessage::InetResponse(response) = message else { return None };
    let InetResponse { header, nlas } = *response;
    let drops = nlas.iter().find_map(|attribute| match attribute {
        Nla::MemInfo(memory) => Some(memory.drops),
        _ => None,
    })?;
    let only_ipv6 = nlas.iter().any(|attribute| matches!(attribute, Nla::SkV6Only(true)));
    let address = SocketAddr::new(header.socket_id.source_address.to_canonical(), header.socket_id.source_port);
    let cookie = u64::from_ne_bytes(header.socket_id.cookie);
    Some(Backlog {
        place: Place { netns, address },
        cookie,
        queued: header.recv_queue,
        limit: header.send_queue,
        drops,
        only_ipv6,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::{backlogs, on_port};

    #[test]
    fn our_own_listener_and_who_waits_there() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let _waiting = TcpStream::connect(address).expect("it listens");
        let own = std::process::id();
        let all = thread::spawn(move || backlogs([own, own, u32::MAX])).join().expect("no panic");
        // Kernels without sock_diag for TCP tell nothing.
        if all.is_empty() {
            return;
        }
        let ours: Vec<_> = all.iter().filter(|backlog| backlog.place.address == address).collect();
        assert_eq!(ours.len(), 1, "each namespace is asked once");
        assert_eq!((ours[0].queued, ours[0].drops), (1, 0));
        assert!(ours[0].limit > 0 && !ours[0].is_full());
        assert_eq!(on_port(own, address.port()).len(), ours.len());
        assert!(on_port(u32::MAX, address.port()).is_empty());
    }
}
