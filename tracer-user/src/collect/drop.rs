//! Packets of a connection that this host's kernel dropped, and why.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    thread::{self, JoinHandle},
};

use aya::maps::{Array, HashMap, MapData};
use tracer_common::{
    drop::{AT_PLACE, DROP_PLACES, DropKey, Dropped},
    settings::DROP_REASON_WORDS,
};

use super::{address::segments, passing::Passing};
use crate::{
    kernel::{clock, symbols::code_of},
    model::host::Ends,
};

/// Drops that tell of the network, and not of a connection that ends: by the names of `enum skb_drop_reason`.
const REASONS: [&str; 23] = [
    "NETFILTER_DROP",
    "SOCKET_FILTER",
    "BPF_CGROUP_EGRESS",
    "XDP",
    "TC_INGRESS",
    "TC_EGRESS",
    "SECURITY_HOOK",
    "QDISC_DROP",
    "IP_OUTNOROUTES",
    "IP_INNOROUTES",
    "IP_INADDRERRORS",
    "IP_RPFILTER",
    "IP_INVALID_SOURCE",
    "IP_INVALID_DEST",
    "IP_LOCALNET",
    "IP_LOCAL_SOURCE",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "PKT_TOO_BIG",
    "XFRM_POLICY",
    "OTHERHOST",
    "DEV_READY",
    "IPV6DISABLED",
];

/// Functions in which the kernel drops for a reason that it does not name. All kernels: ip_error() (unreachable and prohibit
/// routes for packets that come in), dst_discard_out() (blackhole), ip6_pkt_drop() (all of these in IPv6). Those that name no
/// reasons at all: nf_hook_slow(), arp_error_report(), ndisc_error_report().
pub const PLACES: [&str; DROP_PLACES] =
    ["nf_hook_slow", "ip_error", "dst_discard_out", "ip6_pkt_drop", "arp_error_report", "ndisc_error_report"];

/// The number that says nothing; where there are no reasons, any that is none will do.
pub fn not_specified(names: &BTreeMap<u32, String>) -> u32 {
    let found = names.iter().find(|(_, name)| *name == "NOT_SPECIFIED");
    found.map_or(u32::MAX, |(number, _)| *number)
}

/// The reasons to look at, as the kernel program wants them.
pub fn wanted(names: &BTreeMap<u32, String>) -> [u64; DROP_REASON_WORDS] {
    let mut words = [0; DROP_REASON_WORDS];
    for (number, _) in names.iter().filter(|(_, name)| REASONS.contains(&name.as_str())) {
        if let Some(word) = words.get_mut((number >> 6) as usize) {
            *word |= 1_u64 << (number & 63);
        }
    }
    words
}

/// So many can be found for certain: the map has room for four times as many.
const KEPT: u64 = 4096;
/// How finely it is known when those were.
const MARKS: usize = 4;

/// Drops of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The kernel's name of the reason, or its number; `FUNCTION()` where it gave none.
    pub reason: String,
    pub count: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Segments from the worker; else answers to it.
    pub outgoing: bool,
}

fn name(reasons: &BTreeMap<u32, String>, reason: u32) -> String {
    let place = PLACES.get((reason & !AT_PLACE) as usize).filter(|_| reason & AT_PLACE != 0);
    let place = place.map(|function| format!("{function}()"));
    place.or_else(|| reasons.get(&reason).cloned()).unwrap_or_else(|| reason.to_string())
}

/// Drops by connection.
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Drops {
    map: HashMap<MapData, DropKey, Dropped>,
    last_retransmit: Array<MapData, u64>,
    code: Array<MapData, [u64; 2]>,
    places: Places,
    reasons: BTreeMap<u32, String>,
    suspected_ns: Option<u64>,
    recorded: Recorded,
    is_said_blind: bool,
}

/// Where the code of [`PLACES`] is: /proc/kallsyms takes the kernel a tenth of a second to write.
enum Places {
    Unknown,
    Sought(JoinHandle<[[u64; 2]; DROP_PLACES]>),
    /// The program that looks at drops knows them, that of rules among them, or not: they are hidden (kernel.kptr_restrict).
    Told {
        rules: bool,
    },
}

impl Drops {
    pub fn new(
        map: HashMap<MapData, DropKey, Dropped>,
        last_retransmit: Array<MapData, u64>,
        code: Array<MapData, [u64; 2]>,
        reasons: BTreeMap<u32, String>,
    ) -> Self {
        Self {
            map,
            last_retransmit,
            code,
            places: Places::Unknown,
            reasons,
            suspected_ns: None,
            recorded: Recorded::default(),
            is_said_blind: false,
        }
    }

    /// Whether all drops can be told: the kernel gives reasons, or the places have been found. None: they are being looked for.
    pub fn sees_all(&mut self) -> Option<bool> {
        self.take_places();
        match self.places {
            Places::Unknown | Places::Sought(_) => None,
            Places::Told { rules } => Some(rules || !self.reasons.is_empty()),
        }
    }

    /// Begins to look for the places where packets are dropped, aside.
    pub fn seek_places(&mut self) {
        let thread = thread::Builder::new().name("look-at-symbols".into()).spawn(|| code_of(PLACES));
        // Without a thread the reasons that the kernel names are still told.
        self.places = thread.map_or(Places::Told { rules: false }, Places::Sought);
    }

    /// Why rules that drop cannot be seen, once that is known.
    pub fn take_blindness(&mut self) -> Option<&'static str> {
        let blind = self.sees_all() == Some(false) && !std::mem::replace(&mut self.is_said_blind, true);
        blind.then_some(
            "this kernel names no reasons, and where its functions are is hidden from this process (kernel.kptr_restrict, CAP_SYSLOG)",
        )
    }

    fn take_places(&mut self) {
        if let Places::Sought(thread) = &self.places
            && thread.is_finished()
            && let Places::Sought(thread) = std::mem::replace(&mut self.places, Places::Told { rules: false })
        {
            let found = thread.join().unwrap_or_default();
            for (index, code) in (0..).zip(found) {
                // An array: there is a place for each.
                let _ = self.code.set(index, code, 0);
            }
            self.places = Places::Told { rules: found[0] != [0; 2] };
        }
    }

    /// When a traced connection last had to send something again, or something was suspected; None: never.
    pub fn last_wanted_ns(&self) -> Option<u64> {
        let retransmit_ns = self.last_retransmit.get(&0, 0).ok().filter(|time_ns| *time_ns != 0);
        retransmit_ns.max(self.suspected_ns)
    }

    /// A connection ended at this time as if packets of it had been dropped.
    pub const fn suspect(&mut self, time_ns: u64) {
        self.suspected_ns = Some(time_ns);
    }

    /// Takes in how many have been recorded by now.
    pub fn count(&mut self, passing: &Passing) {
        let before_ns = clock::monotonic_ns();
        let recorded = passing.recorded();
        self.recorded.read(recorded, (before_ns, clock::monotonic_ns()));
    }

    /// Since when all that were looked at can still be found: the oldest make room.
    pub fn are_kept_since(&self) -> u64 {
        self.recorded.kept_since()
    }

    /// What was dropped of the connection between these times, in either direction; where nothing was of any, it is not looked for.
    pub fn of(&mut self, ends: &Ends, times_ns: (u64, u64), passing: &Passing) -> Option<Drop> {
        if self.recorded.read_ns < times_ns.1 {
            self.count(passing);
        }
        if self.recorded.is_none_within(times_ns) {
            return None;
        }
        let Ends { netns, local, remote } = *ends;
        let one_way = |from: SocketAddr, to: SocketAddr, outgoing| {
            let key = segments(from, to, netns);
            let Dropped { first_ns, last_ns, reason, count } = self.map.get(&key, 0).ok()?;
            let reason = name(&self.reasons, reason);
            Some(Drop { reason, count, first_ns, last_ns, outgoing })
        };
        one_way(local, remote, true).or_else(|| one_way(remote, local, false))
    }
}

/// How many were recorded when.
#[derive(Debug, Default)]
struct Recorded {
    count: u64,
    /// When that was last read, as far as it is good for, and when first.
    read_ns: u64,
    since_ns: u64,
    /// Times, and how many there were, oldest first.
    marks: VecDeque<(u64, u64)>,
}

impl Recorded {
    /// None: it cannot be told, so that any number may have been. The times are those before and after it was read, at some time between them.
    fn read(&mut self, count: Option<u64>, (before_ns, now_ns): (u64, u64)) {
        if count != Some(self.count) {
            (self.count, self.since_ns) = (count.unwrap_or(self.count), now_ns);
        }
        if count.is_none() {
            self.marks.clear();
        }
        self.read_ns = before_ns;
        if self.marks.back().is_none_or(|(_, marked)| self.count.saturating_sub(*marked) > KEPT / MARKS as u64) {
            self.marks.push_back((now_ns, self.count));
            if self.marks.len() > MARKS + 1 {
                self.marks.pop_front();
            }
        }
    }

    fn kept_since(&self) -> u64 {
        let oldest = self.marks.iter().find(|(_, marked)| self.count.saturating_sub(*marked) <= KEPT);
        oldest.map_or(self.read_ns, |(time_ns, _)| *time_ns)
    }

    const fn is_none_within(&self, (from_ns, until_ns): (u64, u64)) -> bool {
        self.since_ns <= from_ns && until_ns <= self.read_ns
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::drop::AT_PLACE;

    use super::{KEPT, Recorded, name, wanted};

    #[test]
    fn what_is_kept_and_what_there_never_was() {
        let mut recorded = Recorded::default();
        let read = |recorded: &mut Recorded, count, at_ns| recorded.read(count, (at_ns, at_ns));
        read(&mut recorded, Some(0), 100);
        read(&mut recorded, Some(0), 200);
        assert!(recorded.is_none_within((150, 190)) && !recorded.is_none_within((150, 210)));
        assert_eq!(recorded.kept_since(), 100);
        read(&mut recorded, Some(1), 300);
        assert!(!recorded.is_none_within((150, 290)), "it may have been at any time after the last reading");
        assert!(recorded.is_none_within((300, 300)));
        let mut before = 0;
        for step in 1..100 {
            read(&mut recorded, Some(1 + step * KEPT / 8), 300 + step);
            let since = recorded.kept_since();
            assert!(since >= before, "time goes on");
            before = since;
            let then = if since < 300 { 0 } else { 1 + (since - 300) * KEPT / 8 };
            assert!(1 + step * KEPT / 8 - then <= KEPT, "{step}: {since}");
            assert!(
                step < 8 || step * KEPT / 8 - then >= KEPT / 2,
                "{step}: it is no use where all is forgotten at once: {since}"
            );
        }
        read(&mut recorded, Some(u64::from(u32::MAX)), 1000);
        assert_eq!(recorded.kept_since(), 1000, "a flood");
        read(&mut recorded, None, 2000);
        assert_eq!(recorded.kept_since(), 2000);
        recorded.read(Some(5), (3000, 3100));
        assert!(!recorded.is_none_within((3000, 3000)) && !recorded.is_none_within((3100, 3100)), "one may be missing");
    }

    #[test]
    fn a_drop_without_a_reason_has_a_place() {
        let names = [(12, "NETFILTER_DROP".to_owned())].into_iter().collect();
        assert_eq!(name(&names, 12), "NETFILTER_DROP");
        assert_eq!(name(&names, AT_PLACE | 1), "ip_error()");
        assert_eq!(name(&names, 77), "77", "a kernel newer than this");
    }

    #[test]
    fn reasons_are_wanted_by_name() {
        let names = [(3, "NO_SOCKET"), (12, "NETFILTER_DROP"), (88, "IP_INNOROUTES"), (1 << 16, "XDP")];
        let names = names.into_iter().map(|(number, name)| (number, name.to_owned())).collect();
        assert_eq!(wanted(&names), [1 << 12, 1 << (88 - 64), 0, 0]);
    }
}
