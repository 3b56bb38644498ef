//! Which socket a line is about: a worker writes the line and then closes the socket, one after the other. So lines and sockets
//! of one worker and one peer are in the same order, and the n-th line is about the n-th socket, if there are as many.

use std::collections::{HashMap, VecDeque};

use crate::model::address::Address;

/// A socket waits so long for its line.
pub(super) const HOLD_NS: u64 = 1_000_000_000;
/// Sockets kept at most.
const CAPACITY: usize = 16_384;

/// Numbers of lines, sockets with the time when they came, and when a line was told last.
#[derive(Debug)]
struct Pair<T> {
    lines: VecDeque<u64>,
    sockets: VecDeque<(u64, T)>,
    told_ns: Option<u64>,
    /// There was not one socket for each line: which is whose cannot be known before both are gone.
    mixed: bool,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Self { lines: VecDeque::new(), sockets: VecDeque::new(), told_ns: None, mixed: false }
    }
}

/// Lines, by their numbers, and sockets that wait for each other, by worker and peer.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    of: HashMap<(u32, Address), Pair<T>>,
    sockets: usize,
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), sockets: 0 }
    }
}

impl<T> Pairs<T> {
    /// A line came; numbers ascend.
    pub(super) fn line(&mut self, worker: u32, peer: &Address, number: u64) {
        self.of.entry((worker, peer.clone())).or_default().lines.push_back(number);
    }

    /// A socket was closed; given back where too many wait.
    pub(super) fn socket(&mut self, worker: u32, peer: &Address, socket: T, now_ns: u64) -> Option<T> {
        if self.sockets >= CAPACITY {
            return Some(socket);
        }
        self.sockets += 1;
        self.of.entry((worker, peer.clone())).or_default().sockets.push_back((now_ns, socket));
        None
    }

    /// The line is told: its socket, if that can be known.
    pub(super) fn tell(&mut self, worker: u32, peer: &Address, number: u64, now_ns: u64) -> Option<T> {
        let pair = self.of.get_mut(&(worker, peer.clone()))?;
        pair.told_ns = Some(now_ns);
        pair.mixed |= pair.lines.len() != pair.sockets.len();
        let place = pair.lines.iter().position(|line| *line == number)?;
        pair.lines.remove(place);
        let socket = if pair.mixed { None } else { pair.sockets.remove(place) };
        self.sockets -= usize::from(socket.is_some());
        socket.map(|(_, socket)| socket)
    }

    /// Sockets of this worker, or all, wait no longer.
    pub(super) fn ripen(&mut self, worker: Option<u32>) {
        let concerned = self.of.iter_mut().filter(|((other, _), _)| worker.is_none_or(|worker| worker == *other));
        concerned.flat_map(|(_, pair)| &mut pair.sockets).for_each(|(arrived_ns, _)| *arrived_ns = 0);
    }

    /// Sockets that have waited for long enough and that no line is about.
    pub(super) fn unspoken(&mut self, now_ns: u64) -> Vec<T> {
        let mut unspoken = Vec::new();
        for pair in self.of.values_mut() {
            let told = pair.told_ns.is_some_and(|told_ns| now_ns.saturating_sub(told_ns) < 2 * HOLD_NS);
            let old = |(arrived_ns, _): &(u64, T)| now_ns.saturating_sub(*arrived_ns) >= HOLD_NS;
            let count = pair.sockets.iter().take_while(|socket| old(socket)).count();
            self.sockets -= count;
            // Where a line was told without its socket, it may be one of these.
            unspoken.extend(pair.sockets.drain(..count).filter(|_| !told).map(|(_, socket)| socket));
            pair.mixed &= !(pair.lines.is_empty() && pair.sockets.is_empty());
            pair.told_ns = pair.told_ns.filter(|_| told);
        }
        self.of.retain(|_, pair| !pair.lines.is_empty() || !pair.sockets.is_empty() || pair.told_ns.is_some());
        unspoken
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, HOLD_NS, Pairs};

    fn peer() -> Address {
        Address::from_nginx("127.0.0.1:80")
    }

    #[test]
    fn the_second_line_is_about_the_second_socket_whoever_is_told_first() {
        let mut pairs = Pairs::default();
        for (number, socket) in [(1, "a"), (2, "b"), (3, "c")] {
            pairs.line(7, &peer(), number);
            assert_eq!(pairs.socket(7, &peer(), socket, 1), None);
        }
        let told = [1, 3, 2].map(|number| pairs.tell(7, &peer(), number, 2));
        assert_eq!(told, [Some("a"), Some("c"), Some("b")]);
    }

    #[test]
    fn as_long_as_one_is_missing_no_line_has_a_socket() {
        let mut pairs = Pairs::default();
        (1..=3).for_each(|number| pairs.line(7, &peer(), number));
        for socket in ["a", "b"] {
            assert_eq!(pairs.socket(7, &peer(), socket, 1), None);
        }
        assert_eq!(pairs.tell(7, &peer(), 1, 2), None);
        assert_eq!(pairs.tell(7, &peer(), 2, 2), None, "as many as sockets now, and which is whose is not known");
        pairs.socket(7, &peer(), "c", 3);
        assert_eq!(pairs.tell(7, &peer(), 3, 4), None);
        assert!(pairs.unspoken(3 + HOLD_NS).is_empty(), "a line was told without");
        pairs.line(7, &peer(), 4);
        pairs.socket(7, &peer(), "d", 5 + HOLD_NS);
        assert_eq!(pairs.tell(7, &peer(), 4, 6 + HOLD_NS), Some("d"), "it began anew");
    }

    #[test]
    fn what_no_line_is_about_is_told_in_time() {
        let mut pairs = Pairs::default();
        pairs.socket(7, &peer(), "a", 1);
        pairs.socket(8, &peer(), "b", 1);
        assert!(pairs.unspoken(HOLD_NS).is_empty());
        pairs.ripen(Some(8));
        assert_eq!(pairs.unspoken(HOLD_NS), ["b"]);
        assert_eq!(pairs.unspoken(HOLD_NS + 1), ["a"]);
        assert!(pairs.of.is_empty() && pairs.sockets == 0);
    }
}
