//! TCP listeners of a network namespace, as /proc/PID/net shows them, kept current by the kernel's events for a while.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    kernel::clock,
    model::host::{Change, HostEvent},
};

/// How long a list is good for, at least, and by how long it took to read: a flood of refused connects reads once.
const FRESH: Duration = Duration::from_secs(1);
const SHARE: u32 = 50;
/// Network namespaces that are kept.
const CAPACITY: usize = 64;

/// Listeners by network namespace.
#[derive(Debug, Default)]
pub struct Listeners {
    known: HashMap<u32, List>,
}

#[derive(Debug)]
struct List {
    begun: Instant,
    taken_ns: u64,
    took: Duration,
    /// None: it could not be read.
    by_port: Option<HashMap<u16, Vec<SocketAddr>>>,
}

impl List {
    fn read(pid: u32) -> Self {
        let (begun, taken_ns) = (Instant::now(), clock::monotonic_ns());
        let by_port = all(pid).map(|all| {
            let mut by_port: HashMap<u16, Vec<SocketAddr>> = HashMap::new();
            for (address, _) in all {
                by_port.entry(address.port()).or_default().push(address);
            }
            by_port
        });
        Self { begun, taken_ns, took: begun.elapsed(), by_port }
    }

    fn is_fresh(&self) -> bool {
        self.begun.elapsed() < FRESH.max(self.took * SHARE)
    }
}

impl Listeners {
    /// Addresses on which something listens on `port` in the network namespace `netns`, which process `pid` is in; None: it
    /// cannot be read.
    pub fn on_port(&mut self, netns: u32, pid: u32, port: u16) -> Option<&[SocketAddr]> {
        if self.known.get(&netns).is_none_or(|list| !list.is_fresh()) {
            if self.known.len() >= CAPACITY {
                self.known.clear();
            }
            self.known.insert(netns, List::read(pid));
        }
        let by_port = self.known.get(&netns)?.by_port.as_ref()?;
        Some(by_port.get(&port).map_or(&[], Vec::as_slice))
    }

    /// Takes in that something listens, or does no more.
    pub fn event(&mut self, event: &HostEvent) {
        let (Change::Listens(place) | Change::ListensNoMore { place, .. }) = event.change else { return };
        let Some(list) = self.known.get_mut(&place.netns).filter(|list| list.taken_ns < event.time_ns) else { return };
        let Some(by_port) = &mut list.by_port else { return };
        let addresses = by_port.entry(place.address.port()).or_default();
        if event.change == Change::Listens(place) {
            addresses.push(place.address);
        } else if let Some(index) = addresses.iter().position(|address| *address == place.address) {
            // Where several share the place, one of them.
            addresses.swap_remove(index);
        }
    }
}

/// `st` of a listening socket.
const LISTEN: &str = "0A";

/// All listeners in the network namespace of process `pid`, with the inodes of their sockets; None: it cannot be read.
///
/// The kernel lists listeners first (tcp_seq_start(), net/ipv4/tcp_ipv4.c), so that reading ends where the connections
/// begin, however many there are.
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

/// Four words, each as for IPv4. One that is IPv4 in an IPv6 socket (`::ffff:10.0.0.5`) is IPv4, as everywhere else.
fn v6(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = [0; 16];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        let digits = address.get(index * 8..index * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    Some(SocketAddr::new(Ipv6Addr::from(bytes).to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{Listeners, v4, v6};
    use crate::{
        kernel::clock::monotonic_ns,
        model::host::{Actor, Change, Ending, HostEvent, Name, Place},
    };

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
        let (mut listeners, own) = (Listeners::default(), std::process::id());
        let (earlier, port) = (monotonic_ns(), address.port());
        assert_eq!(listeners.on_port(7, own, port), Some([address].as_slice()));
        assert_eq!(listeners.on_port(8, u32::MAX, 80), None);
        let name = Name { pid: own, comm: "app".into() };
        let actor = Actor { name, parent: 1, master: None, ending: Ending::Alive };
        let mut happens = |time_ns, change| {
            listeners.event(&HostEvent { time_ns, actor: actor.clone(), change });
            listeners.on_port(7, own, port).map(<[_]>::len)
        };
        let place = Place { netns: 7, address };
        assert_eq!(happens(earlier, Change::Listens(place)), Some(1), "it is in the list already");
        assert_eq!(happens(u64::MAX, Change::Listens(place)), Some(2), "another shares the port");
        assert_eq!(happens(u64::MAX, Change::ceases(place)), Some(1));
        assert_eq!(happens(u64::MAX, Change::ceases(place)), Some(0));
        assert_eq!(happens(u64::MAX, Change::ceases(place)), Some(0));
    }
}
