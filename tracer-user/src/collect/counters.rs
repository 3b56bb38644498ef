//! Counts that the kernel programs keep: losses, and connections per upstream.

use std::collections::BTreeMap;

use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use tracer_common::{
    loss::{Program, Reason, counter},
    upstream::{LATENCY_CLASSES, UpstreamCounts, UpstreamKey},
};

use crate::model::address::Address;

/// Something lost since the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub program: Program,
    pub reason: Reason,
    pub count: u64,
}

/// Reads the loss counters.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Losses {
    map: PerCpuArray<MapData, u64>,
    seen: [[u64; Reason::ALL.len()]; Program::ALL.len()],
}

impl Losses {
    pub const fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map, seen: [[0; Reason::ALL.len()]; Program::ALL.len()] }
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
                    losses.push(Loss { program, reason, count: total - *seen });
                    *seen = total;
                }
            }
        }
        losses
    }
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
        let total =
            totals.entry(Address::from_wire(key.address, key.port)).or_insert_with(|| UpstreamTotals::EMPTY.clone());
        for counts in values.iter() {
            total.add(counts);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::UpstreamTotals;

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
