//! Whether an address is this host's own, in whatever network namespace: looked up aside, for there may be many of them, and
//! of processes.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::namespaces::{Snapshot, enter};

/// How long an answer is good for: a container may get the address meanwhile.
const FRESH: Duration = Duration::from_secs(2);
/// Answers kept.
const CAPACITY: usize = 256;
/// The part of the time that looking may take, one in so many, and the longest rest for that.
const SHARE: u32 = 20;
const REST: Duration = Duration::from_secs(1);

/// The answer, and how long it took to find.
type Found = (Option<bool>, Duration);

/// Answers by address, and the one address that is looked for.
#[derive(Debug, Default)]
pub struct Addresses {
    known: HashMap<IpAddr, (Instant, bool)>,
    awaited: Option<(IpAddr, Receiver<Found>)>,
    rests_until: Option<Instant>,
}

impl Addresses {
    /// Begins to look, unless the answer is known. While another is looked for, and a while after, nothing is asked.
    pub fn ask(&mut self, address: IpAddr) {
        self.settle(Duration::ZERO);
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        if rests || self.awaited.is_some() || self.is_own(address).is_some() {
            return;
        }
        let (sender, receiver) = channel();
        let look = move || {
            let begun = Instant::now();
            let own = look(address);
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send((own, begun.elapsed()));
        };
        if thread::Builder::new().name("look-at-address".into()).spawn(look).is_ok() {
            self.awaited = Some((address, receiver));
        }
    }

    /// Is the answer on its way?
    pub fn waits(&mut self, address: IpAddr) -> bool {
        self.settle(Duration::ZERO);
        self.awaited.as_ref().is_some_and(|(awaited, _)| *awaited == address)
    }

    /// Takes in the answer that is on its way, waiting so long for it.
    pub fn settle(&mut self, patience: Duration) {
        let Some((address, receiver)) = &self.awaited else { return };
        let (own, took) = match receiver.recv_timeout(patience) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => (None, REST),
        };
        self.known.retain(|_, (seen, _)| seen.elapsed() < FRESH);
        if let Some(own) = own
            && self.known.len() < CAPACITY
        {
            self.known.insert(*address, (Instant::now(), own));
        }
        self.rests_until = Some(Instant::now() + (took * SHARE).min(REST));
        self.awaited = None;
    }

    /// Whether some network namespace of this host has it; None: not known, or not yet.
    pub fn is_own(&self, address: IpAddr) -> Option<bool> {
        if address.is_loopback() {
            return Some(true);
        }
        self.known.get(&address).filter(|(seen, _)| seen.elapsed() < FRESH).map(|(_, own)| *own)
    }
}

/// Changes the network namespace of the calling thread. A namespace without a process is not looked into: nobody serves there.
fn look(address: IpAddr) -> Option<bool> {
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
    use std::{net::IpAddr, time::Duration};

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
        addresses.settle(Duration::from_secs(10));
        assert!(!addresses.waits(other));
        assert_ne!(addresses.is_own(other), Some(true));
    }
}
