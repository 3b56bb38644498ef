//! Where connections go whose addresses are rewritten on the way (NAT), as the kernel's connection tracking has it:
//! NETLINK_NETFILTER, NFNL_SUBSYS_CTNETLINK.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use netlink_sys::{Socket, SocketAddr as KernelAddress, protocols::NETLINK_NETFILTER};

use super::namespaces::{enter, of_host};
use crate::model::host::Ends;

/// A socket keeps its network namespace alive: none is kept for longer than this without a question.
const IDLE: Duration = Duration::from_secs(1);
/// Sockets kept.
const CAPACITY: usize = 64;
/// MSG_DONTWAIT: the kernel answers within send(2).
const AT_ONCE: i32 = libc::MSG_DONTWAIT;

/// Asks the kernel, one network namespace at a time.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "netlink-sys' socket has none")]
pub struct Conntrack {
    /// By network namespace.
    sockets: HashMap<u32, (Instant, Tracking)>,
}

/// Whether connections of a network namespace are tracked, and can be asked about.
enum Tracking {
    None,
    /// They are, and the kernel would have to load a module to answer.
    Mute,
    Asked(Asked),
}

/// A network namespace that can be asked.
struct Asked {
    socket: Socket,
    /// Packets to and from 127.0.0.0/8 may leave it (net.ipv4.conf.*.route_localnet): rules can lead them elsewhere.
    loopback_leaves: bool,
}

impl Conntrack {
    /// The same connection where it arrives, as its near end is seen from there; None: nothing is rewritten, or it is not
    /// told. `ends` are those of a socket of process `pid`.
    ///
    /// Rules of its own namespace come first, then those of this host's main one, which the ways of containers lead through.
    /// A connection that was refused at once is forgotten at once (nf_conntrack_tcp_packet(),
    /// net/netfilter/nf_conntrack_proto_tcp.c, v6.12: "If only reply is a RST").
    pub fn translated(&mut self, ends: Ends, pid: u32) -> Option<Ends> {
        let mut now = ends;
        for (netns, pid) in places(ends.netns, pid) {
            let Some(asked) = self.asked(netns, pid) else { continue };
            if let Ok(Some((local, remote))) = ask(&asked.socket, now) {
                now = Ends { netns, local, remote };
            }
        }
        ((now.local, now.remote) != (ends.local, ends.remote)).then_some(now)
    }

    /// Whether connections of this network namespace are tracked at all, there or on their way.
    pub fn tracks(&mut self, netns: u32, pid: u32) -> bool {
        places(netns, pid).any(|(netns, pid)| self.asked(netns, pid).is_some())
    }

    /// Whether they are tracked without being told of: then nobody knows what is rewritten.
    pub fn is_mute(&mut self, netns: u32, pid: u32) -> bool {
        places(netns, pid).any(|(netns, pid)| matches!(self.tracking(netns, pid), Tracking::Mute))
    }

    /// Whether connections to 127.0.0.0/8 may be led out of this network namespace.
    pub fn loopback_leaves(&mut self, netns: u32, pid: u32) -> bool {
        self.asked(netns, pid).is_some_and(|asked| asked.loopback_leaves)
    }

    /// Lets go of what was not asked for lately.
    pub fn rest(&mut self) {
        self.sockets.retain(|_, (last, _)| last.elapsed() < IDLE);
    }

    fn asked(&mut self, netns: u32, pid: u32) -> Option<&Asked> {
        match self.tracking(netns, pid) {
            Tracking::Asked(asked) => Some(asked),
            Tracking::None | Tracking::Mute => None,
        }
    }

    fn tracking(&mut self, netns: u32, pid: u32) -> &Tracking {
        if self.sockets.len() >= CAPACITY && !self.sockets.contains_key(&netns) {
            self.sockets.clear();
        }
        let (last, tracking) = self.sockets.entry(netns).or_insert_with(|| (Instant::now(), open(pid)));
        if matches!(tracking, Tracking::Asked(_)) {
            *last = Instant::now();
        }
        tracking
    }
}

/// Where it can be rewritten: network namespaces, with a process in each.
fn places(netns: u32, pid: u32) -> impl Iterator<Item = (u32, u32)> {
    [Some((netns, pid)), of_host().filter(|(main, _)| *main != netns)].into_iter().flatten()
}

/// A socket in the network namespace of a process, if there is something to be asked.
fn open(pid: u32) -> Tracking {
    let open = move || -> io::Result<Tracking> {
        enter(pid)?;
        if !tracks() {
            return Ok(Tracking::None);
        }
        if !answers() {
            return Ok(Tracking::Mute);
        }
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&KernelAddress::new(0, 0))?;
        Ok(Tracking::Asked(Asked { socket, loopback_leaves: loopback_leaves() }))
    };
    let thread = thread::Builder::new().name("conntrack".into()).spawn(open).ok();
    // A process that is gone is asked about no more.
    thread.and_then(|thread| thread.join().ok()?.ok()).unwrap_or(Tracking::None)
}

/// In the network namespace of the calling thread.
fn tracks() -> bool {
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or_default();
    count.trim().parse::<u32>().is_ok_and(|count| count > 0)
}

/// A question would load a module that is not there (nfnetlink_rcv_msg(), net/netfilter/nfnetlink.c, v6.12): looking must not
/// change the host.
fn answers() -> bool {
    let modules = Path::new("/sys/module");
    !modules.join("nf_conntrack/initstate").exists() || modules.join("nf_conntrack_netlink").exists()
}

/// In the network namespace of the calling thread: IN_DEV_ROUTE_LOCALNET(), include/linux/inetdevice.h.
fn loopback_leaves() -> bool {
    let devices = fs::read_dir("/proc/sys/net/ipv4/conf").into_iter().flatten().flatten();
    devices.into_iter().any(|device| {
        fs::read_to_string(device.path().join("route_localnet")).is_ok_and(|setting| setting.trim() == "1")
    })
}

/// Near and far end of a connection at its other end; None: it is not tracked.
fn ask(socket: &Socket, ends: Ends) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let Ends { local, remote, .. } = ends;
    let tuple = vec![
        Tuple::Ip(vec![IPTuple::SourceAddress(local.ip()), IPTuple::DestinationAddress(remote.ip())]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(local.port()),
            ProtoTuple::DestinationPort(remote.port()),
        ]),
    ];
    let family = if remote.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let question = ConntrackMessage::Get(vec![ConntrackAttribute::CtaTupleOrig(tuple)]);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let question = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), question);
    let mut question = NetlinkMessage::new(header, NetlinkPayload::from(question));
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, AT_ONCE)?;
    let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer).map_err(io::Error::other)?;
    let NetlinkPayload::InnerMessage(message) = answer.payload else { return Ok(None) };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else { return Ok(None) };
    Ok(attributes.iter().find_map(|attribute| match attribute {
        // What the other end answers with goes the opposite way.
        ConntrackAttribute::CtaTupleReply(reply) => ends_of(reply).map(|(source, destination)| (destination, source)),
        _ => None,
    }))
}

/// Source and destination.
fn ends_of(tuples: &[Tuple]) -> Option<(SocketAddr, SocketAddr)> {
    let (mut source, mut destination): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut from, mut to) = (None, None);
    for tuple in tuples {
        match tuple {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(address) => source = Some(*address),
                IPTuple::DestinationAddress(address) => destination = Some(*address),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::SourcePort(port) => from = Some(*port),
                ProtoTuple::DestinationPort(port) => to = Some(*port),
                _ => {}
            }),
            _ => {}
        }
    }
    Some((SocketAddr::new(source?, from?), SocketAddr::new(destination?, to?)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_netfilter::conntrack::{IPTuple, ProtoTuple, Tuple};

    use super::{Conntrack, ends_of};
    use crate::model::host::Ends;

    #[test]
    fn both_ends_or_none() {
        let address = |text: &str| text.parse().expect("an address");
        let ip = Tuple::Ip(vec![
            IPTuple::SourceAddress(address("10.99.0.2")),
            IPTuple::DestinationAddress(address("10.0.0.1")),
        ]);
        let ports = Tuple::Proto(vec![ProtoTuple::SourcePort(80), ProtoTuple::DestinationPort(40_000)]);
        let ends = ends_of(&[ip.clone(), ports]).expect("both ends");
        assert_eq!((ends.0.to_string(), ends.1.to_string()), ("10.99.0.2:80".into(), "10.0.0.1:40000".into()));
        assert_eq!(ends_of(&[ip]), None);
    }

    #[test]
    fn what_is_not_tracked_is_not_translated() {
        let ends = Ends {
            netns: 0,
            local: "192.0.2.1:40000".parse().expect("an address"),
            remote: "192.0.2.2:80".parse().expect("an address"),
        };
        let mut conntrack = Conntrack::default();
        assert_eq!(conntrack.translated(ends, u32::MAX), None, "no such process");
        assert_eq!(conntrack.translated(Ends { netns: 1, ..ends }, std::process::id()), None);
    }
}
