//! What this host's routes say about an address, in a network namespace: by the error that a datagram socket gets when it is
//! connected there. Nothing is sent by that (ip4_datagram_connect(), net/ipv4/datagram.c, v6.12).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use super::namespaces::enter;

/// How long an answer is good for: a flood of failures asks once.
const FRESH: Duration = Duration::from_secs(1);
/// Answers kept.
const CAPACITY: usize = 256;

/// Answers by process and address.
#[derive(Debug, Default)]
pub struct Routes {
    known: HashMap<(u32, IpAddr), (Instant, Option<i32>)>,
}

impl Routes {
    /// The errno that the routes of the network namespace of process `pid` have for this address; None: there is a way, or it
    /// cannot be asked.
    pub fn refusal(&mut self, pid: u32, remote: SocketAddr) -> Option<i32> {
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        let key = (pid, remote.ip());
        if self.known.get(&key).is_none_or(|(asked, _)| asked.elapsed() > FRESH) {
            self.known.insert(key, (Instant::now(), ask(pid, remote)));
        }
        self.known.get(&key).and_then(|(_, answer)| *answer)
    }
}

fn ask(pid: u32, remote: SocketAddr) -> Option<i32> {
    let ask = move || {
        enter(pid).ok()?;
        let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(remote).err()?.raw_os_error()
    };
    thread::Builder::new().name("route".into()).spawn(ask).ok()?.join().ok()?
}

#[cfg(test)]
mod tests {
    use super::Routes;

    #[test]
    fn there_is_a_way_to_loopback() {
        let remote = "127.0.0.1:9".parse().expect("an address");
        assert_eq!(Routes::default().refusal(std::process::id(), remote), None);
        assert_eq!(Routes::default().refusal(u32::MAX, remote), None, "no such process");
    }
}
