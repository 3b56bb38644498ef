//! Whether an address is this host's own, in whatever network namespace: looked up aside, for there may be many of them, and
//! of processes.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use super::namespaces::{Snapshot, enter};

/// How long an answer is good for, and a question that could not be answered.
const FRESH: Duration = Duration::from_secs(10);
const OPEN: Duration = Duration::from_millis(250);
/// Answers kept, and questions on their way.
const CAPACITY: usize = 256;
const MOST: usize = 2;

#[derive(Debug)]
enum Answer {
    Awaited(Receiver<Option<bool>>),
    Known(Option<bool>),
}

/// Answers by address.
#[derive(Debug, Default)]
pub struct Addresses {
    known: HashMap<IpAddr, (Instant, Answer)>,
}

impl Addresses {
    /// Begins to look, unless the answer is known. While too many are on their way nothing is asked.
    pub fn ask(&mut self, address: IpAddr) {
        self.receive(address);
        if address.is_loopback() || self.known.get(&address).is_some_and(is_fresh) {
            return;
        }
        self.known.retain(|_, known| is_fresh(known));
        let awaited = self.known.values().filter(|(_, answer)| matches!(answer, Answer::Awaited(_))).count();
        if awaited >= MOST || self.known.len() >= CAPACITY {
            return;
        }
        let (sender, receiver) = channel();
        let look = move || {
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send(is_own(address));
        };
        if thread::Builder::new().name("look-at-address".into()).spawn(look).is_ok() {
            self.known.insert(address, (Instant::now(), Answer::Awaited(receiver)));
        }
    }

    /// Is the answer on its way?
    pub fn waits(&mut self, address: IpAddr) -> bool {
        self.receive(address);
        matches!(self.known.get(&address), Some((_, Answer::Awaited(_))))
    }

    /// Whether some network namespace of this host has it; None: not known, or not yet.
    pub fn is_own(&mut self, address: IpAddr) -> Option<bool> {
        if address.is_loopback() {
            return Some(true);
        }
        self.receive(address);
        match self.known.get(&address) {
            Some((_, Answer::Known(own))) => *own,
            _ => None,
        }
    }

    fn receive(&mut self, address: IpAddr) {
        let Some((_, answer)) = self.known.get_mut(&address) else { return };
        let Answer::Awaited(receiver) = answer else { return };
        match receiver.try_recv() {
            Ok(own) => *answer = Answer::Known(own),
            Err(TryRecvError::Disconnected) => *answer = Answer::Known(None),
            Err(TryRecvError::Empty) => {}
        }
    }
}

fn is_fresh((asked, answer): &(Instant, Answer)) -> bool {
    asked.elapsed() < if matches!(answer, Answer::Known(None)) { OPEN } else { FRESH }
}

/// Changes the network namespace of the calling thread. A namespace without a process is not looked into: nobody serves there.
fn is_own(address: IpAddr) -> Option<bool> {
    let snapshot = Snapshot::read();
    let mut all_asked = true;
    for pid in snapshot.processes()? {
        match enter(pid).and_then(|()| has(address)) {
            Ok(true) => return Some(true),
            Ok(false) => {}
            Err(_) => all_asked = false,
        }
    }
    all_asked.then_some(false)
}

/// In the network namespace of the calling thread: what is not its own cannot be bound to (inet_bind(), net/ipv4/af_inet.c), unless
/// net.ipv4.ip_nonlocal_bind lets it, which makes every address look like its own.
fn has(address: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        time::{Duration, Instant},
    };

    use super::{Addresses, has};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_can_be_bound_to_is_its_own() {
        assert!(has(address("127.0.0.1")).expect("an answer"));
        assert!(!has(address("192.0.2.7")).expect("an answer"), "reserved for documentation");
    }

    #[test]
    fn an_answer_comes_later() {
        let mut addresses = Addresses::default();
        let (own, other) = (address("127.0.0.1"), address("192.0.2.7"));
        assert_eq!((addresses.is_own(own), addresses.is_own(other)), (Some(true), None));
        assert!(!addresses.waits(other), "nobody asked");
        addresses.ask(other);
        let begun = Instant::now();
        while addresses.waits(other) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_ne!(addresses.is_own(other), Some(true));
    }
}
