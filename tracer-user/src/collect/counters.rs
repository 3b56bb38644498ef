//! Counts that the kernel programs keep: losses, and connections per upstream.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::fd::RawFd,
};

use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuHashMap};
use tracer_common::{
    call::Call,
    loss::{Program, Reason, counter},
    upstream::{LATENCY_CLASSES, UpstreamCounts, UpstreamKey},
};

use super::address::from_wire;
use crate::model::address::Address;

/// Something lost since the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub program: Program,
    pub reason: Lost,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Counted by the program itself.
    Counted(Reason),
    /// The kernel skipped the program, because it, or another one that may not be interrupted, was running on that CPU.
    /// What it would have seen need not have concerned a traced process.
    Recursion,
}

/// Reads the loss counters.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Losses {
    map: PerCpuArray<MapData, u64>,
    seen: [[u64; Reason::ALL.len()]; Program::ALL.len()],
    /// Descriptors of the loaded programs.
    programs: Vec<(Program, RawFd)>,
    skipped: [u64; Program::ALL.len()],
    /// Calls whose return is still to be seen.
    calls: HashMap<MapData, u32, Call>,
}

impl Losses {
    pub const fn new(
        map: PerCpuArray<MapData, u64>,
        programs: Vec<(Program, RawFd)>,
        calls: HashMap<MapData, u32, Call>,
    ) -> Self {
        let seen = [[0; Reason::ALL.len()]; Program::ALL.len()];
        Self { map, seen, programs, skipped: [0; Program::ALL.len()], calls }
    }

    /// Calls whose return has been missed, and whose thread has made none since; a worker's do not wait.
    pub fn unreturned(&self) -> Option<Loss> {
        let count = self.calls.keys().flatten().count() as u64;
        (count > 0).then_some(Loss { program: Program::Connect, reason: Lost::Counted(Reason::KretprobeMissed), count })
    }

    /// What was lost since the last call.
    pub fn poll(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for program in Program::ALL {
            for reason in Reason::ALL {
                let Ok(values) = self.map.get(&counter(program, reason), 0) else { continue };
                let total: u64 = values.iter().sum();
                let seen = &mut self.seen[program as usize][reason as usize];
                if total > *seen {
                    losses.push(Loss { program, reason: Lost::Counted(reason), count: total - *seen });
                    *seen = total;
                }
            }
        }
        for (program, descriptor) in &self.programs {
            let Some(total) = recursion_misses(*descriptor) else { continue };
            let seen = &mut self.skipped[*program as usize];
            if total > *seen {
                losses.push(Loss { program: *program, reason: Lost::Recursion, count: total - *seen });
                *seen = total;
            }
        }
        losses
    }
}

/// How often the kernel skipped a program, from its descriptor's fdinfo (bpf_prog_show_fdinfo(), kernel/bpf/syscall.c, since
/// 5.12); None: it does not say.
fn recursion_misses(program: RawFd) -> Option<u64> {
    misses_in(&fs::read_to_string(format!("/proc/self/fdinfo/{program}")).ok()?)
}

fn misses_in(information: &str) -> Option<u64> {
    information.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

/// Connections to one upstream, and how long their connects took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTotals {
    pub connects: u64,
    pub established: u64,
    /// Class n: [2^n, 2^(n+1)) µs.
    pub connect_latency: [u64; LATENCY_CLASSES],
}

impl UpstreamTotals {
    const EMPTY: Self = Self { connects: 0, established: 0, connect_latency: [0; LATENCY_CLASSES] };

    fn add(&mut self, counts: &UpstreamCounts) {
        self.connects += counts.connects;
        self.established += counts.established;
        for (sum, count) in self.connect_latency.iter_mut().zip(counts.connect_latency) {
            *sum += count;
        }
    }

    /// What came since `before`.
    pub fn since(&self, before: Option<&Self>) -> Self {
        let before = before.unwrap_or(&Self::EMPTY);
        let mut since = self.clone();
        since.connects = since.connects.saturating_sub(before.connects);
        since.established = since.established.saturating_sub(before.established);
        for (now, old) in since.connect_latency.iter_mut().zip(before.connect_latency) {
            *now = now.saturating_sub(old);
        }
        since
    }

    /// Upper bound, in µs, of the latency class that holds this share of the connects; None without connects.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let total: u64 = self.connect_latency.iter().sum();
        let mut left = (share * total as f64).ceil() as u64;
        for (class, count) in self.connect_latency.iter().enumerate() {
            if *count > 0 && left <= *count {
                return Some(1 << (class + 1));
            }
            left = left.saturating_sub(*count);
        }
        None
    }
}

/// Totals per upstream since the start, all CPUs and network namespaces added.
pub fn upstreams(map: &PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>) -> BTreeMap<Address, UpstreamTotals> {
    let mut totals = BTreeMap::new();
    for (key, values) in map.iter().flatten() {
        let total = totals.entry(from_wire(key.address, key.port)).or_insert_with(|| UpstreamTotals::EMPTY.clone());
        for counts in values.iter() {
            total.add(counts);
        }
    }
    totals
}

/// Those with an IP address, and the network namespace that they are seen from.
pub fn addresses(
    map: &PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>,
) -> impl Iterator<Item = (u32, SocketAddr)> + '_ {
    map.keys().flatten().filter_map(|key| match from_wire(key.address, key.port) {
        Address::Tcp(address) => Some((key.netns, address)),
        _ => None,
    })
}

/// Makes room: takes those of these upstreams out of the table. Their counts begin anew.
pub fn forget(map: &mut PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>, idle: &BTreeSet<Address>) {
    let keys: Vec<UpstreamKey> = map.keys().flatten().collect();
    for key in keys.iter().filter(|key| idle.contains(&from_wire(key.address, key.port))) {
        // Whatever is there no more needs not be taken out.
        let _ = map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::{UpstreamTotals, misses_in};

    #[test]
    fn skipped_runs_are_read_from_fdinfo() {
        let information =
            "pos:\t0\nflags:\t02000002\nprog_type:\t17\nrun_cnt:\t9\nrecursion_misses:\t42\nverified_insns:\t7\n";
        assert_eq!(misses_in(information), Some(42));
        assert_eq!(misses_in("prog_type:\t17\nrun_cnt:\t9\n"), None);
    }

    #[test]
    fn quantiles_are_upper_bounds_of_classes() {
        let mut totals = UpstreamTotals::EMPTY.clone();
        assert_eq!(totals.quantile_us(0.5), None);
        totals.connect_latency[6] = 90; // 64..128 µs
        totals.connect_latency[10] = 10; // 1024..2048 µs
        assert_eq!(totals.quantile_us(0.5), Some(128));
        assert_eq!(totals.quantile_us(0.9), Some(128));
        assert_eq!(totals.quantile_us(0.99), Some(2048));
    }
}
