//! Local ports towards one upstream: which sockets have them, and how many there are.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::fd::AsFd as _,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::listeners::parse_address;

/// States as /proc/net/tcp numbers them, by the names that ss(8) uses.
const STATES: [(&str, &str); 5] =
    [("01", "ESTAB"), ("02", "SYN-SENT"), ("04", "FIN-WAIT-1"), ("05", "FIN-WAIT-2"), ("06", "TIME-WAIT")];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Sockets towards the upstream by state, those that there are.
    pub by_state: Vec<(&'static str, u64)>,
    /// net.ipv4.ip_local_port_range
    pub range: (u16, u16),
    /// net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 over loopback.
    pub reuse: Option<u32>,
}

/// Looks, from the network namespace of process `pid`, which the calling thread moves into and stays in. Reads the table of
/// all sockets: not for the thread that must keep up with events.
pub fn look(pid: u32, upstream: SocketAddr) -> Option<Ports> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).ok()?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut range = range.split_ascii_whitespace().filter_map(|port| port.parse().ok());
    let range = (range.next()?, range.next()?);
    let reuse = fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").ok().and_then(|text| text.trim().parse().ok());
    let table = if upstream.is_ipv4() { "tcp" } else { "tcp6" };
    let table = BufReader::new(File::open(format!("/proc/{pid}/net/{table}")).ok()?);
    let mut counts = [0; STATES.len()];
    for line in table.lines().map_while(Result::ok) {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let (Some(remote), Some(state)) = (fields.next(), fields.next()) else { continue };
        if parse_address(remote) == Some(upstream)
            && let Some(index) = STATES.iter().position(|(number, _)| *number == state)
        {
            counts[index] += 1;
        }
    }
    let by_state = STATES.iter().zip(counts).filter(|(_, count)| *count > 0);
    Some(Ports { by_state: by_state.map(|((_, name), count)| (*name, count)).collect(), range, reuse })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn our_own_connections_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("it listens");
        let looked = std::thread::spawn(move || super::look(std::process::id(), address)).join().expect("no panic");
        // Without the right to change namespaces there is nothing to see.
        if let Some(ports) = looked {
            assert_eq!(ports.by_state, [("ESTAB", 1)]);
            assert!(ports.range.0 < ports.range.1);
        }
        drop(client);
    }
}
