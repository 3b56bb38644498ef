//! TCP sockets as the kernel lists them, of the network namespace that the calling thread is in.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
};

use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};

use super::{
    backlog::is_full,
    listeners::parse_address,
    sock_diag::{About, ask},
};

/// States that a connection is in until its own end closes (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
/// Any socket, whatever its cookie (INET_DIAG_NOCOOKIE, include/uapi/linux/inet_diag.h).
const ANY: [u8; 8] = [0xff; 8];

/// An end that has not been closed by its own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// None: nobody has accepted it yet.
    pub inode: Option<u64>,
    /// Bytes that its process has not read; an end of the stream counts as one.
    pub unread: u32,
    /// Bytes that it has sent, and that were not received as far as it knows.
    pub unacknowledged: u32,
}

/// One that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub inode: u64,
    /// Connections that were not accepted yet.
    pub queued: u32,
    /// How many there may be: one more. None: not known.
    pub limit: Option<u32>,
}

impl Listener {
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| is_full(self.queued, limit))
    }
}

/// The end at `local` of the connection from `remote`; None: there is none, it is closing, or it cannot be seen.
pub fn end(local: SocketAddr, remote: SocketAddr) -> Option<End> {
    let found = if answers() {
        let request = request(local.is_ipv6(), &StateFlags::all(), local, remote);
        // Where there is no such connection, the kernel finds the listener.
        sockets(ask(About::One, request).ok()?).into_iter().next()?
    } else {
        table().into_iter().find(|socket| socket.local == local && socket.remote == remote)?
    };
    matches!(found.state, ESTABLISHED | CLOSE_WAIT).then(|| End {
        inode: (found.inode != 0).then_some(found.inode),
        unread: found.receiving,
        unacknowledged: found.sending,
    })
}

/// Those that listen on this port, on any address.
pub fn listeners(port: u16) -> Vec<Listener> {
    let found = of_port(port, &StateFlags::LISTEN, |state| state == LISTEN).into_iter().map(|socket| Listener {
        address: socket.local,
        inode: socket.inode,
        queued: socket.receiving,
        limit: answers().then_some(socket.sending),
    });
    found.collect()
}

/// Inodes of the connections to this port of `local` that somebody has accepted; `local` may be unspecified.
pub fn accepted(local: SocketAddr) -> Vec<u64> {
    let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
    let there = |address: SocketAddr| local.ip().is_unspecified() || address.ip() == local.ip();
    let found = of_port(local.port(), &states, |state| matches!(state, ESTABLISHED | CLOSE_WAIT)).into_iter();
    found.filter(|socket| socket.inode != 0 && there(socket.local)).map(|socket| socket.inode).collect()
}

/// A socket of either source.
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
    /// Of a listener how many wait, of a connection bytes.
    receiving: u32,
    sending: u32,
}

fn of_port(port: u16, states: &StateFlags, wanted: fn(u8) -> bool) -> Vec<Socket> {
    if !answers() {
        let mut found = table();
        found.retain(|socket| socket.local.port() == port && wanted(socket.state));
        return found;
    }
    let both = [false, true].into_iter().flat_map(|six| {
        let any: IpAddr = if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let request = request(six, states, SocketAddr::new(any, port), SocketAddr::new(any, 0));
        sockets(ask(About::All, request).unwrap_or_default())
    });
    both.collect()
}

fn sockets(answer: Vec<SockDiagMessage>) -> Vec<Socket> {
    let found = answer.into_iter().filter_map(|message| {
        let SockDiagMessage::InetResponse(response) = message else { return None };
        let header = response.header;
        let id = &header.socket_id;
        Some(Socket {
            local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            state: header.state,
            inode: u64::from(header.inode),
            receiving: header.recv_queue,
            sending: header.send_queue,
        })
    });
    found.collect()
}

/// Does the kernel list TCP sockets this way? It may be a module that is not there, and then no socket is found either.
fn answers() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    *ANSWERS.get_or_init(|| {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 1);
        ask(About::All, request(false, &StateFlags::LISTEN, any, any)).is_ok()
    })
}

/// The tables in /proc, which are slow where there are many connections.
fn table() -> Vec<Socket> {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
    tables.iter().flatten().flat_map(|table| table.lines().skip(1)).filter_map(row).collect()
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 24541 …`
fn row(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let mut address = || parse_address(fields.next()?);
    let (local, remote) = (address()?, address()?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (sending, receiving) = fields.next()?.split_once(':')?;
    Some(Socket {
        local,
        remote,
        state,
        sending: u32::from_str_radix(sending, 16).ok()?,
        receiving: u32::from_str_radix(receiving, 16).ok()?,
        // After the queues: timer, retransmits, uid, timeout.
        inode: fields.nth(4)?.parse().ok()?,
    })
}

fn request(six: bool, states: &StateFlags, local: SocketAddr, remote: SocketAddr) -> SockDiagMessage {
    SockDiagMessage::InetRequest(InetRequest {
        family: if six { AF_INET6 } else { AF_INET },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states.clone(),
        socket_id: SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address: local.ip(),
            destination_address: remote.ip(),
            interface_id: 0,
            cookie: ANY,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::{accepted, end, listeners, row, table};

    #[test]
    fn an_end_is_accepted_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(there).expect("it listens");
        let here = client.local_addr().expect("connected");
        client.write_all(b"12345").expect("written");
        let found = end(there, here).expect("it is there");
        assert_eq!((found.inode, found.unread), (None, 5));
        assert!(accepted(there).is_empty());
        let ours = listeners(there.port());
        assert_eq!((ours.len(), ours[0].address, ours[0].queued), (1, there, 1));
        let kept = listener.accept().expect("a connection");
        assert!(end(there, here).expect("it is there").inode.is_some());
        assert_eq!(accepted(there).len(), 1);
        drop(kept);
        assert_eq!(end(there, here), None);
    }

    #[test]
    fn the_tables_say_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = listener.local_addr().expect("bound");
        let client = TcpStream::connect(there).expect("it listens");
        let here = client.local_addr().expect("connected");
        let rows = table();
        let waiting = rows.iter().find(|row| row.local == there && row.remote == here).expect("it is there");
        assert_eq!((waiting.inode, waiting.state), (0, super::ESTABLISHED));
        let listening = rows.iter().find(|row| row.local == there && row.state == super::LISTEN).expect("we listen");
        assert_eq!((listening.inode, listening.receiving), (listeners(there.port())[0].inode, 1));
        assert!(row("0: 0100007F:1F90").is_none() && row("").is_none());
    }
}
