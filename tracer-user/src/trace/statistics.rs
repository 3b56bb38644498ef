//! The numbers of one interval, for the `stats` record.

use std::collections::BTreeMap;

use aya::maps::{MapData, PerCpuHashMap};
use tracer_common::upstream::{UpstreamCounts, UpstreamKey};

use crate::{
    collect::counters::{UpstreamTotals, forget, upstreams},
    model::{address::Address, cause::Cause},
    record,
};

/// Of the upstreams that the kernel programs have room for (`UPSTREAMS`, 2048), a half.
const CROWDED: usize = 1024;

/// Counts of the running interval, and what the kernel had counted when it began.
#[derive(Default)]
pub(super) struct Statistics {
    before: BTreeMap<Address, UpstreamTotals>,
    failures: u64,
    responses: u64,
    by_cause: BTreeMap<Cause, u64>,
    by_upstream: BTreeMap<String, BTreeMap<Cause, u64>>,
    /// Totals of the session.
    pub(super) lost: u64,
    pub(super) events: u64,
}

impl Statistics {
    pub(super) fn failure(&mut self, failure: &record::Failure) {
        self.failures += 1;
        *self.by_cause.entry(failure.cause).or_default() += 1;
        if let Some(upstream) = &failure.upstream {
            *self.by_upstream.entry(upstream.address.clone()).or_default().entry(failure.cause).or_default() += 1;
        }
    }

    /// Failures and responses without records of their own.
    pub(super) fn counted(&mut self, counted: &record::Counted) {
        let causes = counted.failures + counted.responses_alone;
        self.failures += counted.failures;
        self.responses += counted.responses;
        *self.by_cause.entry(counted.cause).or_default() += causes;
        if let Some(upstream) = counted.upstream.as_ref().filter(|_| counted.failures > 0) {
            *self.by_upstream.entry(upstream.clone()).or_default().entry(counted.cause).or_default() += causes;
        }
    }

    pub(super) const fn response(&mut self) {
        self.responses += 1;
    }

    /// Closes the interval.
    pub(super) fn take(
        &mut self,
        map: &mut PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>,
        time: record::Timestamp,
        interval_s: f64,
    ) -> record::Stats {
        let mut now = upstreams(map);
        let mut by_upstream = std::mem::take(&mut self.by_upstream);
        let mut rows: Vec<record::UpstreamStats> = now
            .iter()
            .map(|(address, totals)| {
                let address_text = address.to_string();
                let since = totals.since(self.before.get(address));
                record::UpstreamStats {
                    connections: since.connects,
                    established: since.established,
                    failures: by_upstream.remove(&address_text).unwrap_or_default(),
                    connect_us: quantiles(&since),
                    address: address_text,
                }
            })
            .filter(|row| row.connections > 0 || row.established > 0 || !row.failures.is_empty())
            .collect();
        // Upstreams without a TCP connect: unix sockets, and connections older than the tracing.
        rows.extend(by_upstream.into_iter().map(|(address, failures)| record::UpstreamStats {
            address,
            connections: 0,
            established: 0,
            failures,
            connect_us: None,
        }));
        if now.len() >= CROWDED {
            // Where addresses come and go, those that nobody connects to any more make room.
            let idle = now.iter().filter(|(address, totals)| self.before.get(*address) == Some(*totals));
            let idle = idle.map(|(address, _)| address.clone()).collect();
            forget(map, &idle);
            now.retain(|address, _| !idle.contains(address));
        }
        self.before = now;
        record::Stats {
            time,
            interval_s,
            upstreams: rows,
            failures: std::mem::take(&mut self.failures),
            responses: std::mem::take(&mut self.responses),
            by_cause: std::mem::take(&mut self.by_cause),
            lost: self.lost,
            events: self.events,
        }
    }
}

fn quantiles(totals: &UpstreamTotals) -> Option<record::Quantiles> {
    Some(record::Quantiles {
        p50: totals.quantile_us(0.5)?,
        p90: totals.quantile_us(0.9)?,
        p99: totals.quantile_us(0.99)?,
        count: totals.established,
    })
}
