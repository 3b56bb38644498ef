//! TCP listeners of a network namespace, as /proc/PID/net shows them at the moment of asking.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

/// How long an answer is good for: a flood of refused connects asks once.
const FRESH: Duration = Duration::from_secs(1);
/// Answers kept.
const CAPACITY: usize = 1024;

/// Listeners by network namespace and port, asked for once a second at most.
#[derive(Debug, Default)]
pub struct Listeners {
    /// By network namespace and port.
    known: HashMap<(u32, u16), Answer>,
}

/// What was found, and when; None: it could not be read.
type Answer = (Instant, Option<Vec<SocketAddr>>);

impl Listeners {
    /// As [`on_port`], of the network namespace `netns` that process `pid` is in.
    pub fn on_port(&mut self, netns: u32, pid: u32, port: u16) -> Option<&[SocketAddr]> {
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        let (asked, answer) = self.known.entry((netns, port)).or_insert_with(|| (Instant::now(), on_port(pid, port)));
        if asked.elapsed() > FRESH {
            (*asked, *answer) = (Instant::now(), on_port(pid, port));
        }
        answer.as_deref()
    }
}

/// `st` of a listening socket.
const LISTEN: &str = "0A";

/// Addresses on which something listens on `port`, in the network namespace of process `pid`; None: it cannot be read.
///
/// The kernel lists listeners first (tcp_seq_start(), net/ipv4/tcp_ipv4.c), so that reading ends where the connections
/// begin, however many there are.
pub fn on_port(pid: u32, port: u16) -> Option<Vec<SocketAddr>> {
    let found = all(pid)?.into_iter().map(|(address, _)| address);
    Some(found.filter(|address| address.port() == port).collect())
}

/// All listeners in the network namespace of process `pid`, with the inodes of their sockets; None: it cannot be read.
pub fn all(pid: u32) -> Option<Vec<(SocketAddr, u64)>> {
    let mut found = Vec::new();
    for (file, parse) in [("tcp", v4 as fn(&str) -> Option<SocketAddr>), ("tcp6", v6)] {
        let Ok(file) = File::open(format!("/proc/{pid}/net/{file}")) else {
            if file == "tcp" {
                return None;
            }
            continue; // No IPv6 here.
        };
        for line in BufReader::new(file).lines().skip(1) {
            let line = line.ok()?;
            let mut fields = line.split_ascii_whitespace();
            let (Some(local), Some(_), Some(state)) = (fields.nth(1), fields.next(), fields.next()) else { continue };
            if state != LISTEN {
                break;
            }
            // After the state: queues, timer, retransmits, uid, timeout, inode.
            let inode = fields.nth(5).and_then(|inode| inode.parse().ok()).unwrap_or(0);
            found.extend(parse(local).map(|address| (address, inode)));
        }
    }
    Some(found)
}

/// An address of either table.
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    if text.len() > "0100007F:1F90".len() { v6(text) } else { v4(text) }
}

/// `0100007F:1F90`: the address as the machine's word order has it.
fn v4(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let address = Ipv4Addr::from(address.to_ne_bytes());
    Some(SocketAddr::new(IpAddr::V4(address), u16::from_str_radix(port, 16).ok()?))
}

/// Four words, each as for IPv4.
fn v6(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = [0; 16];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        let digits = address.get(index * 8..index * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{on_port, v4, v6};

    #[test]
    fn addresses_of_proc() {
        assert_eq!(v4("0100007F:1F90").map(|address| address.to_string()).as_deref(), Some("127.0.0.1:8080"));
        let v6 = v6("00000000000000000000000001000000:0050").map(|address| address.to_string());
        assert_eq!(v6.as_deref(), Some("[::1]:80"));
        assert_eq!(v4("nonsense"), None);
    }

    #[test]
    fn our_own_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        assert_eq!(on_port(std::process::id(), address.port()), Some(vec![address]));
        assert_eq!(on_port(u32::MAX, 80), None);
    }
}
