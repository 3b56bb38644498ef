//! Which socket a line is about: one of the same worker, peer and fate. A worker writes the line and then closes the socket, so
//! that both are in the same order; the n-th line is about the n-th socket where there are as many, else about none.

use std::collections::{HashMap, VecDeque};

use crate::{
    model::{address::Address, event::Connection},
    nginx::log::spoken::Spoken,
};

/// A socket waits so long for its line.
pub(super) const HOLD_NS: u64 = 1_000_000_000;
/// Sockets kept at most.
const CAPACITY: usize = 16_384;
const EPIPE: i32 = 32;
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;

/// How a connection ended, as line and socket both tell. What has the same fate at the same peer can hardly be mistaken for each
/// other to anyone's harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fate {
    established: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Error(i32),
    Closed,
    Silent,
}

impl Fate {
    /// None: nginx gave up for what it had read, and the socket tells nothing of that.
    pub(super) fn of_line(spoken: &Spoken) -> Option<Self> {
        let end = if spoken.literal.contains("timed out") {
            End::Silent
        } else if spoken.literal.contains("prematurely closed") {
            End::Closed
        } else if spoken.errno != 0 {
            Self::error(spoken.errno)
        } else {
            return None;
        };
        Some(Self { established: spoken.action != "connecting to upstream", end })
    }

    pub(super) fn of_socket(connection: &Connection) -> Self {
        let established = connection.established_ns.is_some() || connection.preexisting;
        let error = connection.ended.map_or(connection.now.error, |ended| ended.error);
        let end = if error != 0 {
            Self::error(error)
        } else if connection.reset.is_some() {
            Self::error(if established { ECONNRESET } else { ECONNREFUSED })
        } else if connection.fin_seen() {
            End::Closed
        } else {
            End::Silent
        };
        Self { established, end }
    }

    /// A RST after a FIN is EPIPE (tcp_reset(), net/ipv4/tcp_input.c), and so may be what send(2) says of one.
    const fn error(errno: i32) -> End {
        End::Error(if errno == EPIPE { ECONNRESET } else { errno })
    }
}

/// Worker, peer and fate.
pub(super) type Key = (u32, Address, Fate);

/// Numbers of lines, ascending; sockets with the time when they came; when a line was told last.
#[derive(Debug)]
struct Pair<T> {
    lines: VecDeque<u64>,
    sockets: VecDeque<(u64, Box<T>)>,
    told_ns: Option<u64>,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Self { lines: VecDeque::new(), sockets: VecDeque::new(), told_ns: None }
    }
}

/// Lines, by their numbers, and sockets that wait for each other.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    of: HashMap<Key, Pair<T>>,
    sockets: usize,
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), sockets: 0 }
    }
}

impl<T> Pairs<T> {
    /// A line came; numbers ascend.
    pub(super) fn line(&mut self, key: Key, number: u64) {
        self.of.entry(key).or_default().lines.push_back(number);
    }

    /// A socket was closed; given back where too many wait.
    pub(super) fn socket(&mut self, key: Key, socket: T, now_ns: u64) -> Option<T> {
        if self.sockets >= CAPACITY {
            return Some(socket);
        }
        self.sockets += 1;
        self.of.entry(key).or_default().sockets.push_back((now_ns, Box::new(socket)));
        None
    }

    /// The line is told: its socket, if that can be known. If not, a socket goes all the same: one of them was its own.
    pub(super) fn tell(&mut self, key: &Key, number: u64, now_ns: u64) -> Option<T> {
        let pair = self.of.get_mut(key)?;
        pair.told_ns = Some(now_ns);
        let as_many = pair.lines.len() == pair.sockets.len();
        let place = pair.lines.binary_search(&number).ok()?;
        pair.lines.remove(place);
        let (_, socket) = pair.sockets.remove(if as_many { place } else { 0 })?;
        self.sockets -= 1;
        as_many.then_some(*socket)
    }

    /// Sockets of this worker, or all, wait no longer.
    pub(super) fn ripen(&mut self, worker: Option<u32>) {
        let concerned = self.of.iter_mut().filter(|((other, ..), _)| worker.is_none_or(|worker| worker == *other));
        concerned.flat_map(|(_, pair)| &mut pair.sockets).for_each(|(arrived_ns, _)| *arrived_ns = 0);
    }

    /// Sockets that have waited for long enough and that no line is about.
    pub(super) fn unspoken(&mut self, now_ns: u64) -> Vec<T> {
        let mut unspoken = Vec::new();
        // Where a line waits, it will say which are whose.
        for pair in self.of.values_mut().filter(|pair| pair.lines.is_empty()) {
            let told = pair.told_ns.is_some_and(|told_ns| now_ns.saturating_sub(told_ns) < 2 * HOLD_NS);
            let old = |(arrived_ns, _): &(u64, Box<T>)| now_ns.saturating_sub(*arrived_ns) >= HOLD_NS;
            let count = pair.sockets.iter().take_while(|socket| old(socket)).count();
            self.sockets -= count;
            // Where a line was told without its socket, it is one of these.
            unspoken.extend(pair.sockets.drain(..count).filter(|_| !told).map(|(_, socket)| *socket));
            pair.told_ns = pair.told_ns.filter(|_| told);
        }
        self.of.retain(|_, pair| !pair.lines.is_empty() || !pair.sockets.is_empty() || pair.told_ns.is_some());
        unspoken
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, End, Fate, HOLD_NS, Key, Pairs};

    fn key(worker: u32) -> Key {
        (worker, Address::from_nginx("127.0.0.1:80"), Fate { established: true, end: End::Closed })
    }

    #[test]
    fn the_second_line_is_about_the_second_socket_whoever_is_told_first() {
        let mut pairs = Pairs::default();
        for (number, socket) in [(1, "a"), (2, "b"), (3, "c")] {
            pairs.line(key(7), number);
            assert_eq!(pairs.socket(key(7), socket, 1), None);
        }
        assert_eq!([1, 3, 2].map(|number| pairs.tell(&key(7), number, 2)), [Some("a"), Some("c"), Some("b")]);
    }

    #[test]
    fn as_long_as_one_is_missing_no_line_has_a_socket() {
        let mut pairs = Pairs::default();
        (1..=3).for_each(|number| pairs.line(key(7), number));
        for socket in ["a", "b"] {
            assert_eq!(pairs.socket(key(7), socket, 1), None);
        }
        assert_eq!([1, 2, 3].map(|number| pairs.tell(&key(7), number, 2)), [None; 3]);
        assert_eq!(pairs.socket(key(7), "c", 3), None);
        assert!(pairs.unspoken(3 + HOLD_NS).is_empty() && pairs.sockets == 0, "a line was told without it");
        pairs.line(key(7), 4);
        assert_eq!(pairs.socket(key(7), "d", 4 + HOLD_NS), None);
        assert_eq!(pairs.tell(&key(7), 4, 5 + HOLD_NS), Some("d"), "it began anew");
    }

    #[test]
    fn what_no_line_is_about_is_told_in_time() {
        let mut pairs = Pairs::default();
        for worker in [7, 8] {
            assert_eq!(pairs.socket(key(worker), worker, 1), None);
        }
        assert!(pairs.unspoken(HOLD_NS).is_empty());
        pairs.ripen(Some(8));
        assert_eq!(pairs.unspoken(HOLD_NS), [8]);
        pairs.line(key(7), 1);
        assert!(pairs.unspoken(HOLD_NS + 1).is_empty(), "its line has come");
        assert_eq!(pairs.tell(&key(7), 1, HOLD_NS + 1), Some(7));
        pairs.unspoken(4 * HOLD_NS);
        assert!(pairs.of.is_empty() && pairs.sockets == 0);
    }
}
