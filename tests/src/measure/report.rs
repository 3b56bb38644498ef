//! Everything that was measured, and how it stands against the budgets.

use serde::Serialize;

use super::churn::Memory;
use super::cost::{Cost, Verified};
use super::host::Host;
use super::modes::Mode;
use super::pairs::Pairs;
use super::site::{NEW, REFUSED, SCENARIOS};
use super::stats;
use super::storm::Storm;

/// The name of the tool that is measured.
pub(crate) const WHY502: &str = "why502";
/// The same without its view into nginx.
pub(crate) const KERNEL_ONLY: &str = "why502 --no-nginx";

/// nginx failing as fast as it can, against its own log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Agreement {
    pub(crate) logged: usize,
    /// Responses with a record of their own.
    pub(crate) told: u64,
    /// Responses counted in `lost` records.
    pub(crate) counted: u64,
    /// As the last record says.
    pub(crate) responses: u64,
    pub(crate) failures: u64,
    pub(crate) lost: u64,
    pub(crate) rate: f64,
}

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) quick: bool,
    pub(crate) seconds: f64,
    pub(crate) pairs: Vec<Pairs>,
    pub(crate) empty_program_ns: f64,
    pub(crate) costs: Vec<Cost>,
    pub(crate) storms: Vec<Storm>,
    pub(crate) agreement: Option<Agreement>,
    pub(crate) memory: Option<Memory>,
    pub(crate) binary_bytes: u64,
    pub(crate) verified_instructions: Verified,
    pub(crate) modes: Vec<Mode>,
}

/// One budget.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) budget: String,
    pub(crate) measured: String,
    pub(crate) met: Met,
}

/// How a budget is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Met {
    Yes,
    /// The median misses it, but the interval reaches it.
    WithinNoise,
    No,
}

impl Met {
    fn of(met: bool) -> Self {
        if met { Self::Yes } else { Self::No }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::WithinNoise => "within noise",
            Self::No => "**no**",
        }
    }
}

impl Report {
    pub(crate) fn pairs_of<'a>(&'a self, tool: &'a str) -> impl Iterator<Item = &'a Pairs> {
        self.pairs.iter().filter(move |pairs| pairs.tool == tool)
    }

    pub(crate) fn cost_of(&self, tool: &str, scenario: &str) -> Option<&Cost> {
        self.costs.iter().find(|cost| cost.tool == tool && cost.scenario == scenario)
    }

    /// From the start of the program to its hooks being attached, every time that it was started, in ms.
    pub(crate) fn start_ms(&self) -> Option<f64> {
        let starts: Vec<f64> = self.pairs_of(WHY502).flat_map(|pairs| pairs.ready_ms.iter().copied()).collect();
        (!starts.is_empty()).then(|| stats::median(&starts))
    }

    /// How far runs without any tool are apart under the usual load: half the width of the interval, the median over the
    /// loads.
    pub(crate) fn noise(&self) -> Option<f64> {
        let noises = self.pairs_of(WHY502).filter_map(|pairs| pairs.noise);
        let widths: Vec<f64> = noises.map(|noise| (noise.high - noise.low) / 2.0).collect();
        (!widths.is_empty()).then(|| stats::median(&widths))
    }

    /// The other tool with the least kernel time under this load.
    pub(crate) fn cheapest_other(&self, scenario: &str) -> Option<&Cost> {
        let others = self.costs.iter().filter(|cost| cost.scenario == scenario && !cost.tool.starts_with(WHY502));
        others.min_by(|one, other| one.ns_per_request.total_cmp(&other.ns_per_request))
    }

    /// The highest rate that was delivered whole.
    pub(crate) fn sustained(&self) -> Option<&Storm> {
        let whole = self.storms.iter().filter(|storm| storm.lost == 0 && storm.exact);
        whole.max_by(|one, other| one.rate.total_cmp(&other.rate))
    }

    /// Every budget with what was measured.
    pub(crate) fn budgets(&self) -> Vec<Budget> {
        let mut budgets = Vec::new();
        for pairs in self.pairs_of(WHY502) {
            let least = if pairs.scenario == REFUSED.name { 0.95 } else { 0.99 };
            let Some(ratio) = pairs.throughput else { continue };
            budgets.push(Budget {
                what: format!("throughput with ÷ without: {}", pairs.scenario),
                budget: format!("≥ {least}"),
                measured: format!("{:.3} ({:.3} … {:.3})", ratio.median, ratio.low, ratio.high),
                met: match (ratio.median >= least, ratio.high >= least) {
                    (true, _) => Met::Yes,
                    (false, true) => Met::WithinNoise,
                    (false, false) => Met::No,
                },
            });
        }
        for (scenario, most) in [(NEW.name, 1500.0), (SCENARIOS[1].name, 150.0)] {
            let Some(cost) = self.cost_of(WHY502, scenario) else { continue };
            budgets.push(Budget {
                what: format!("kernel time per request: {scenario}"),
                budget: format!("≤ {most:.0} ns"),
                measured: format!("{:.0} ns", cost.ns_per_request),
                met: Met::of(cost.ns_per_request <= most),
            });
        }
        for own in self.costs.iter().filter(|cost| cost.tool == WHY502) {
            let Some(other) = self.cheapest_other(own.scenario) else { continue };
            budgets.push(Budget {
                what: format!("kernel time per request below {}: {}", other.tool, own.scenario),
                budget: format!("< {:.0} ns", other.ns_per_request),
                measured: format!("{:.0} ns", own.ns_per_request),
                met: Met::of(own.ns_per_request < other.ns_per_request),
            });
        }
        if let Some(burst) = self.storms.iter().find(|storm| storm.asked.is_none()) {
            budgets.push(Budget {
                what: format!("burst of {} refused connects: delivered + lost = made", burst.made),
                budget: "exact".into(),
                measured: format!("{} + {} = {}", burst.delivered, burst.lost, burst.delivered + burst.lost),
                met: Met::of(burst.exact),
            });
        }
        if let Some(Agreement { logged, told, counted, responses, failures: _, lost, rate }) = self.agreement {
            let same = usize::try_from(responses) == Ok(logged) && told + counted == responses;
            budgets.push(Budget {
                what: format!("nginx failing at its own rate ({rate:.0}/s): told + counted = 502 in its log, lost"),
                budget: "equal, 0".into(),
                measured: format!("{told} + {counted} {} {logged}, {lost}", if same { "=" } else { "≠" }),
                met: Met::of(same && lost == 0),
            });
        }
        if let Some(storm) = self.sustained() {
            budgets.push(Budget {
                what: format!("verdict latency p99 at {:.0}/s, the highest rate without loss", storm.rate),
                budget: "≤ 50 ms".into(),
                measured: format!("{:.1} ms", storm.latency_p99_ms),
                met: Met::of(storm.latency_p99_ms <= 50.0),
            });
        }
        if let Some(memory) = &self.memory {
            let highest = memory.highest_kib as f64 / 1024.0;
            budgets.push(Budget {
                what: format!("resident memory with {} open upstream connections", memory.open),
                budget: "≤ 20 MiB".into(),
                measured: format!("{highest:.1} MiB"),
                met: Met::of(highest <= 20.0),
            });
        }
        if let Some(start_ms) = self.start_ms() {
            budgets.push(Budget {
                what: "start to hooks attached".into(),
                budget: "≤ 300 ms".into(),
                measured: format!("{start_ms:.0} ms"),
                met: Met::of(start_ms <= 300.0),
            });
        }
        budgets
    }
}
