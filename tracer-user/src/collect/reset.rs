//! RSTs that TCP of this host sent, in whatever network namespace, as the kernel programs remember them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use tracer_common::reset::{ANSWER, ResetKey, ResetSent, ResetSlot};

use super::address::{from_wire, on_wire};
use crate::{
    kernel::clock,
    model::{address::Address, host::Ends},
};

/// How long the whole table is good for, once it was read.
const FRESH: Duration = Duration::from_millis(250);

/// The last one sent to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub time_ns: u64,
    /// The sender's network namespace.
    pub netns: u32,
    /// It answers a segment: no close sent it, nor a timer.
    pub answer: bool,
}

/// RSTs by receiver.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Resets {
    table: Array<MapData, ResetSlot>,
    /// The whole of it, and when it was last read.
    seen: Option<Seen>,
}

impl Resets {
    pub const fn new(table: Array<MapData, ResetSlot>) -> Self {
        Self { table, seen: None }
    }

    /// The last one that was sent to this end of the connection.
    pub fn sent(&self, ends: &Ends) -> Option<Sent> {
        let Ends { netns, local, remote } = *ends;
        let netns = if remote.ip().is_loopback() { netns } else { 0 };
        let is =
            |slot: &ResetSlot| slot.key.is((on_wire(local), local.port()), (on_wire(remote), remote.port()), netns);
        self.pair(local.port()).find(is).map(|slot| told(&slot.sent))
    }

    /// Those that were sent to this port, whatever its address, within these times: with what their receivers are to the
    /// sender, and where it is.
    pub fn to_port(&self, port: u16, times_ns: (u64, u64)) -> impl Iterator<Item = (SocketAddr, SocketAddr, Sent)> {
        let found = self.pair(port).filter(move |slot| slot.key.local_port == port);
        found.filter_map(move |slot| ends(&slot, times_ns))
    }

    /// All that were sent within these times; the very latest may be missing: see [`Self::knows_until`].
    pub fn within(&mut self, times_ns: (u64, u64)) -> impl Iterator<Item = (SocketAddr, SocketAddr, Sent)> {
        self.read().slots.iter().filter_map(move |slot| ends(slot, times_ns))
    }

    /// Whether all are known that were sent before this time: the whole table is read a few times a second at most.
    pub fn knows_until(&mut self, time_ns: u64) -> bool {
        self.read().until_ns >= time_ns
    }

    fn read(&mut self) -> &Seen {
        if self.seen.as_ref().is_some_and(|seen| seen.read.elapsed() > FRESH) {
            self.seen = None;
        }
        self.seen.get_or_insert_with(|| Seen {
            read: Instant::now(),
            until_ns: clock::monotonic_ns(),
            slots: self.table.iter().flatten().filter(is_whole).collect(),
        })
    }

    /// Where those to this port are.
    fn pair(&self, port: u16) -> impl Iterator<Item = ResetSlot> {
        let first = 2 * ResetKey::pair(port);
        [first, first + 1].into_iter().filter_map(|place| self.table.get(&place, 0).ok()).filter(is_whole)
    }
}

struct Seen {
    read: Instant,
    /// Kernel time before it was read.
    until_ns: u64,
    slots: Vec<ResetSlot>,
}

/// Not empty, nor a mixture of two.
fn is_whole(slot: &ResetSlot) -> bool {
    slot.sent.time_ns != 0 && slot.check == ResetSlot::sum(&slot.key, &slot.sent)
}

fn ends(slot: &ResetSlot, (from, until): (u64, u64)) -> Option<(SocketAddr, SocketAddr, Sent)> {
    let ResetSlot { key, sent, .. } = slot;
    let receiver = from_wire(key.local_address, key.local_port);
    let sender = from_wire(key.remote_address, key.remote_port);
    let (Address::Tcp(receiver), Address::Tcp(sender)) = (receiver, sender) else { return None };
    (from..=until).contains(&sent.time_ns).then(|| (receiver, sender, told(sent)))
}

const fn told(sent: &ResetSent) -> Sent {
    Sent { time_ns: sent.time_ns, netns: sent.netns, answer: sent.flags & ANSWER != 0 }
}
